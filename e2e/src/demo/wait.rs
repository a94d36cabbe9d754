//! Waiting for something to become true, with a deadline and a name for what did not come.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const POLL: Duration = Duration::from_millis(100);

/// Asks until `ask` has an answer; returns it with the time it took. `ask` says why not yet in its error; the last such
/// text is part of the failure.
pub(crate) async fn until<T, F>(what: &str, within: Duration, mut ask: impl FnMut() -> F) -> Result<(T, Duration)>
where
    F: Future<Output = Result<T>>,
{
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return Ok((answer, began.elapsed())),
            Err(not_yet) if began.elapsed() > within => bail!("{what}: not within {} s: {not_yet:#}", within.as_secs()),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
