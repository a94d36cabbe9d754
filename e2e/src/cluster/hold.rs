//! A cluster that outlives the command that asked for it: a supervisor in the background holds it until `down`.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use super::{Cluster, RUN};
use crate::process::tail;
use crate::run_dir;
use crate::teardown::{self, Supervisor};

/// Building everything from nothing takes ten minutes on two cores.
const UP_WITHIN: Duration = Duration::from_secs(1800);
const DOWN_WITHIN: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);

/// A cluster held by another process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldCluster {
    /// The run's directory.
    pub dir: PathBuf,
    /// Who holds it.
    pub supervisor: Supervisor,
    /// An administrator's kubeconfig for the machine.
    pub kubeconfig: PathBuf,
}

impl Cluster {
    /// Announces the cluster as held and keeps it until SIGINT or SIGTERM, then takes it down.
    pub async fn hold(self) -> Result<()> {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let mut supervisor = Supervisor::this();
        supervisor.kubeconfig = Some(self.kubeconfig().to_owned());
        supervisor.write(self.run.path())?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        self.down().await
    }
}

/// Starts `command`, which must end up in [`Cluster::hold`], in a session of its own, and returns when it holds a cluster.
/// Its output goes to `log`; `meanwhile` is called ten times a second. If this future is dropped before, the command is
/// told to end, and takes down what it brought up.
pub async fn detach(
    mut command: Command,
    log: &Path,
    mut meanwhile: impl FnMut() -> Result<()>,
) -> Result<HeldCluster> {
    let out = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).process_group(0);
    let mut supervisor = EndOnDrop(Some(command.spawn().context("starting the supervisor")?));
    let deadline = Instant::now() + UP_WITHIN;
    loop {
        let child = supervisor.0.as_mut().context("invariant: the supervisor is ours until it holds")?;
        let (ended, pid) = (child.try_wait()?, child.id());
        meanwhile()?;
        if let Some(status) = ended {
            supervisor.0 = None;
            bail!("the cluster did not come up ({status}); log {}:\n{}", log.display(), tail(log));
        }
        if let Some(held) = held()?.into_iter().find(|held| held.supervisor.pid.unsigned_abs() == pid) {
            supervisor.0 = None;
            meanwhile()?;
            return Ok(held);
        }
        ensure!(Instant::now() < deadline, "the cluster is not up after {UP_WITHIN:?}; log {}", log.display());
        tokio::time::sleep(POLL).await;
    }
}

struct EndOnDrop(Option<Child>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        let told = i32::try_from(child.id()).is_ok_and(|pid| kill(Pid::from_raw(pid), Signal::SIGTERM).is_ok());
        if !told || child.wait().is_err() {
            eprintln!("the supervisor (pid {}) could not be told to end; `down` clears what it left", child.id());
        }
    }
}

/// All clusters that are held at the moment.
pub fn held() -> Result<Vec<HeldCluster>> {
    let mut found = Vec::new();
    for dir in teardown::runs_of(&run_dir::root(), RUN)? {
        let Some(supervisor) = Supervisor::read(&dir)?.filter(Supervisor::is_alive) else { continue };
        if let Some(kubeconfig) = supervisor.kubeconfig.clone() {
            found.push(HeldCluster { dir, supervisor, kubeconfig });
        }
    }
    Ok(found)
}

/// Ends every held cluster, and clears what killed ones left. Returns how many were held.
pub async fn down() -> Result<usize> {
    let held = held()?;
    for cluster in &held {
        kill(Pid::from_raw(cluster.supervisor.pid), Signal::SIGTERM).context("ending the supervisor")?;
    }
    let deadline = Instant::now() + DOWN_WITHIN;
    for cluster in &held {
        while cluster.supervisor.is_alive() {
            ensure!(Instant::now() < deadline, "supervisor {} does not end", cluster.supervisor.pid);
            tokio::time::sleep(POLL).await;
        }
    }
    teardown::clean_dead()?;
    Ok(held.len())
}
