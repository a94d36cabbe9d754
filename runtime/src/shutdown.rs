//! From a signal to an orderly end: stop being ready, stop taking work, finish what runs, leave.
//!
//! The order is a tree of tokens: `ready` falls at once, `stop` falls after the delay. A second signal ends the process
//! without waiting, so that an operator at a terminal is never held up.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Exit status of a process that a second signal ended: 128 + SIGTERM, as shells report it.
pub const FORCED_EXIT: i32 = 143;

/// How long each phase of the end may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Time between "no longer ready" and "stop", in which a server goes on serving so that endpoints can forget it.
    pub delay: Duration,
    /// Time that tracked tasks have to finish after "stop".
    pub drain: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self { delay: Duration::ZERO, drain: Duration::from_secs(20) }
    }
}

/// Whether everything ended in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All tracked tasks finished.
    Drained,
    /// This many tasks were still running at the deadline.
    Cut {
        /// Tasks left behind.
        left: usize,
    },
}

/// The process's way out; clones share it.
#[derive(Clone, Debug)]
pub struct Shutdown {
    leaving: CancellationToken,
    stop: CancellationToken,
    tasks: TaskTracker,
    plan: Plan,
}

impl Shutdown {
    /// A shutdown that nothing has asked for yet.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let leaving = CancellationToken::new();
        Self { leaving, stop: CancellationToken::new(), tasks: TaskTracker::new(), plan }
    }

    /// A shutdown that SIGTERM and SIGINT ask for. A second signal ends the process at once with [`FORCED_EXIT`].
    ///
    /// # Errors
    /// When the kernel refuses a signal handler.
    pub fn on_signals(plan: Plan) -> std::io::Result<Self> {
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let shutdown = Self::new(plan);
        let asked = shutdown.clone();
        tokio::spawn(async move {
            either(&mut term, &mut int).await;
            tracing::info!("Shutdown requested");
            asked.request();
            either(&mut term, &mut int).await;
            tracing::warn!("Second signal received, leaving at once");
            std::process::exit(FORCED_EXIT);
        });
        Ok(shutdown)
    }

    /// Begins the end. Later calls change nothing.
    pub fn request(&self) {
        if self.leaving.is_cancelled() {
            return;
        }
        self.leaving.cancel();
        let (stop, delay) = (self.stop.clone(), self.plan.delay);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            stop.cancel();
        });
    }

    /// Falls as soon as the end is asked for: readiness must turn false here, serving must go on.
    #[must_use]
    pub fn leaving(&self) -> CancellationToken {
        self.leaving.clone()
    }

    /// Falls when work must stop; children of it may be cancelled alone.
    #[must_use]
    pub fn stop(&self) -> CancellationToken {
        self.stop.child_token()
    }

    /// Runs `task` as one that [`Shutdown::finished`] waits for.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(task)
    }

    /// Waits for the request, then for the tracked tasks, no longer than the plan's drain time.
    pub async fn finished(&self) -> Ended {
        self.stop.cancelled().await;
        self.tasks.close();
        match tokio::time::timeout(self.plan.drain, self.tasks.wait()).await {
            Ok(()) => Ended::Drained,
            Err(_) => Ended::Cut { left: self.tasks.len() },
        }
    }
}

async fn either(term: &mut Signal, int: &mut Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn serving_outlives_readiness_by_the_delay() {
        let shutdown = Shutdown::new(Plan { delay: Duration::from_secs(5), drain: Duration::from_secs(1) });
        let stop = shutdown.stop();
        shutdown.request();
        assert!(shutdown.leaving().is_cancelled());
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert!(!stop.is_cancelled());
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert!(stop.is_cancelled());
        assert_eq!(shutdown.finished().await, Ended::Drained);
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_will_not_end_is_cut_and_counted() {
        let shutdown = Shutdown::new(Plan { delay: Duration::ZERO, drain: Duration::from_secs(3) });
        drop(shutdown.spawn(std::future::pending::<()>()));
        let stop = shutdown.stop();
        drop(shutdown.spawn(async move { stop.cancelled().await }));
        shutdown.request();
        assert_eq!(shutdown.finished().await, Ended::Cut { left: 1 });
    }
}
