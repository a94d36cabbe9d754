//! Waiting for a condition: ask, and ask again until it holds.

use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Generous: a loaded machine is slow, and a condition that never comes is told with its last state.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(40);

/// Asks until the answer is `Ok`; panics with the last `Err` when it never is.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        let last = match ask().await {
            Ok(answer) => return answer,
            Err(last) => last,
        };
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}; at last: {last}");
        sleep(POLL).await;
    }
}

/// `Ok` when `is`, else what was seen: for conditions that `eventually` waits for.
pub(crate) fn holds(is: bool, seen: impl std::fmt::Debug) -> Result<(), String> {
    if is { Ok(()) } else { Err(format!("{seen:#?}")) }
}
