//! The thread on which everything is measured: no runtime has to share it, and it can be told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// How often waiting looks whether it should stop.
const LOOK: Duration = Duration::from_millis(20);

/// Whether the work should end; clones ask the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// An error once the work should end.
    pub(super) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        Ok(())
    }

    /// Sleeps, unless the work should end.
    pub(super) fn sleep(&self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        loop {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    /// Drives a future to its end, unless the work should end.
    pub(super) fn block_on<T>(&self, runtime: &Handle, future: impl Future<Output = Result<T>>) -> Result<T> {
        runtime.block_on(async {
            let stopped = async {
                while self.check().is_ok() {
                    tokio::time::sleep(LOOK).await;
                }
            };
            tokio::select! {
                outcome = future => outcome,
                () = stopped => bail!("interrupted"),
            }
        })
    }
}

/// Runs `work` on a thread of its own. Dropping the future tells it to stop and waits until it has put everything away.
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce(Stop) -> Result<T> + Send + 'static) -> Result<T> {
    let stop = Stop::default();
    let (answer, answered) = oneshot::channel();
    let own = stop.clone();
    let thread = std::thread::Builder::new().name("bench".to_owned()).spawn(move || {
        // Nobody waits any more only when the future was dropped.
        drop(answer.send(work(own)));
    })?;
    let _ended = Ended { stop, thread: Some(thread) };
    answered.await.context("the measuring thread panicked")?
}

struct Ended {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.stop.0.store(true, Ordering::Relaxed);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the measuring thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::{Stop, run};

    #[tokio::test]
    async fn what_the_work_returns_arrives() {
        assert_eq!(run(|_| Ok(7)).await.unwrap(), 7);
        assert_eq!(run(|_| anyhow::Result::<()>::Err(anyhow::anyhow!("no"))).await.unwrap_err().to_string(), "no");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn dropping_the_work_waits_until_it_has_put_everything_away() {
        let (away, put) = mpsc::channel();
        let work = run(move |stop: Stop| {
            let outcome = stop.sleep(Duration::from_secs(3600));
            away.send(())?;
            outcome
        });
        let cut = tokio::time::timeout(Duration::from_millis(50), work).await;
        assert!(cut.is_err());
        put.try_recv().expect("it ended before the drop returned");
    }
}
