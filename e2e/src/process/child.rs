//! A started process: watching it, signalling it, ending it.

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use super::{ProcessError, tail};

/// How long [`Drop`] waits after SIGTERM before SIGKILL.
const DROP_GRACE: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(10);

/// A started process. Dropping it ends it (SIGTERM, then SIGKILL after two seconds).
#[derive(Debug)]
pub struct Child {
    name: String,
    pid: u32,
    log: PathBuf,
    child: std::process::Child,
    status: Option<ExitStatus>,
}

impl Child {
    /// `child` leads a process group of its own.
    pub(super) fn new(name: String, log: PathBuf, child: std::process::Child) -> Self {
        Self { pid: child.id(), name, log, child, status: None }
    }

    /// The process's pid, which is also its process group.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The name given in the [`Spec`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Whether it still runs (a zombie does not).
    pub fn is_running(&mut self) -> Result<bool, ProcessError> {
        Ok(self.try_wait()?.is_none())
    }

    /// [`ProcessError::Ended`], with the end of the log, when it does not run any more.
    pub fn require_running(&mut self) -> Result<(), ProcessError> {
        match self.try_wait()? {
            None => Ok(()),
            Some(status) => Err(ProcessError::Ended {
                name: self.name.clone(),
                status,
                log: self.log.clone(),
                tail: tail(&self.log),
            }),
        }
    }

    /// Blocks until it ends by itself.
    pub fn wait(&mut self) -> Result<ExitStatus, ProcessError> {
        let status = self.child.wait().map_err(|source| self.wait_error(source))?;
        self.status = Some(status);
        Ok(status)
    }

    /// Sends a signal to its process group; nothing happens when it has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<(), ProcessError> {
        // Reaped pids may be reused by others: never signal one.
        if self.try_wait()?.is_some() {
            return Ok(());
        }
        let group = Pid::from_raw(i32::try_from(self.pid).expect("invariant: pids fit in i32"));
        killpg(group, signal).map_err(|source| ProcessError::Signal {
            name: self.name.clone(),
            pid: self.pid,
            signal,
            source,
        })
    }

    /// SIGTERM, then after `grace` SIGKILL to the whole group; blocks until it is reaped.
    pub fn terminate(&mut self, grace: Duration) -> Result<ExitStatus, ProcessError> {
        self.signal(Signal::SIGTERM)?;
        // A stopped process would not see SIGTERM.
        self.signal(Signal::SIGCONT)?;
        let deadline = Instant::now() + grace;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return self.kill();
            }
            thread::sleep(POLL);
        }
    }

    /// SIGKILL to the whole group; blocks until it is reaped.
    pub fn kill(&mut self) -> Result<ExitStatus, ProcessError> {
        self.signal(Signal::SIGKILL)?;
        self.wait()
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        if self.status.is_none() {
            self.status = self.child.try_wait().map_err(|source| self.wait_error(source))?;
        }
        Ok(self.status)
    }

    fn wait_error(&self, source: io::Error) -> ProcessError {
        ProcessError::Wait { name: self.name.clone(), source }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Err(error) = self.terminate(DROP_GRACE) {
            tracing::warn!(name = self.name, pid = self.pid, %error, "process not ended");
        }
    }
}
