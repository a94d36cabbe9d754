//! `KEEP=1`: the demo in a process of its own that holds the cluster when the acts are over.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::{HeldCluster, held};

const POLL: Duration = Duration::from_millis(100);

/// Starts `command` (a demo that holds its cluster) in a session of its own, shows what it says, and returns the cluster
/// when it is held. If this future is dropped before, the other process is told to end, and takes the cluster down.
pub async fn in_background(mut command: Command, log: &Path) -> Result<HeldCluster> {
    let out = std::fs::File::create(log).with_context(|| log.display().to_string())?;
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).process_group(0);
    let mut child = EndOnDrop(Some(command.spawn().context("starting the demo's process")?));
    let mut shown = 0;
    loop {
        show_from(log, &mut shown)?;
        let Some(process) = child.0.as_mut() else { bail!("invariant: the process is ours until it holds") };
        if let Some(status) = process.try_wait()? {
            show_from(log, &mut shown)?;
            child.0 = None;
            bail!("the demo ended before it held the cluster ({status}); log {}", log.display());
        }
        let pid = process.id();
        if let Some(cluster) = held()?.into_iter().find(|held| held.supervisor.pid.unsigned_abs() == pid) {
            show_from(log, &mut shown)?;
            child.0 = None;
            return Ok(cluster);
        }
        tokio::time::sleep(POLL).await;
    }
}

struct EndOnDrop(Option<std::process::Child>);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        if let Ok(pid) = i32::try_from(child.id()) {
            // It may have ended by itself; then there is nobody to tell.
            if kill(Pid::from_raw(pid), Signal::SIGTERM).is_ok() && child.wait().is_err() {
                super::say("the demo's process could not be waited for; `make demo-down` clears what it left");
            }
        }
    }
}

fn show_from(log: &Path, shown: &mut u64) -> Result<()> {
    let mut file = std::fs::File::open(log)?;
    file.seek(SeekFrom::Start(*shown))?;
    let mut bytes = Vec::new();
    *shown += file.read_to_end(&mut bytes)? as u64;
    std::io::stderr().write_all(&bytes)?;
    Ok(())
}
