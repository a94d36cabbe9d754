//! Leaving no trace: what a run owns outside its directory, how to take it away after the run was killed, and a picture
//! of the machine to compare.
//!
//! Nothing is ever killed by name or remembered pid: a process is ours when it lives in a network namespace or a cgroup of
//! the run, and the run is dead when its supervisor is.

mod snapshot;

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

pub use self::snapshot::{Snapshot, snapshot};
use crate::cluster::RUN;
use crate::fabric::Fabric;
use crate::netns::NetNs;
use crate::node::cgroups;
use crate::run_dir;

const KILL_WAIT: Duration = Duration::from_secs(10);
const RECORD: &str = "supervisor.json";

/// Who is responsible for a run. A pid alone may be another's by now: the start time tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervisor {
    /// The process.
    pub pid: i32,
    /// When it started, in clock ticks since boot (proc_pid_stat(5), field 22).
    started: u64,
    /// The boot it started in.
    boot: String,
    /// Set once a held cluster is up.
    pub kubeconfig: Option<PathBuf>,
}

impl Supervisor {
    /// This process.
    pub fn this() -> Self {
        let pid = std::process::id().cast_signed();
        Self { pid, started: start_time(pid).unwrap_or(0), boot: boot_id(), kubeconfig: None }
    }

    /// Writes the record of the run in `dir`, whole or not at all.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let draft = dir.join("supervisor.draft");
        fs::write(&draft, serde_json::to_vec(self)?).with_context(|| format!("writing {}", draft.display()))?;
        fs::rename(&draft, dir.join(RECORD))?;
        Ok(())
    }

    /// The record of the run in `dir`; `None` when it has none (yet).
    pub(crate) fn read(dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(RECORD);
        match fs::read(&path) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text).with_context(|| format!("reading {}", path.display()))?)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("reading {}", path.display())),
        }
    }

    /// Whether that very process still runs.
    pub fn is_alive(&self) -> bool {
        self.boot == boot_id() && start_time(self.pid) == Some(self.started)
    }
}

/// Where the run in `dir` pins its network namespaces.
pub(crate) fn pins(dir: &Path) -> PathBuf {
    dir.join("state").join("netns")
}

/// One of them.
pub(crate) fn pin(dir: &Path, name: &str) -> NetNs {
    NetNs::at(&pins(dir).join(name))
}

/// Directories of runs of this name under `root`, dead or alive.
pub(crate) fn runs_of(root: &Path, name: &str) -> Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(root) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.with_context(|| format!("reading {}", root.display()))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.file_name().is_some_and(|file| pid_in(&file.to_string_lossy(), name).is_some()) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Takes away what runs left whose supervisor is gone: processes, namespaces, cgroups, state. Logs stay.
pub fn clean_dead() -> Result<()> {
    for dir in runs_of(&run_dir::root(), RUN)? {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !is_live(&dir, &name)? && dir.join("state").exists() {
            sweep(&name, &dir)?;
        }
    }
    // A run directory may have been deleted by hand; its cgroups were not.
    for name in cgroups::runs()? {
        let dir = run_dir::root().join(&name);
        if !is_live(&dir, &name)? {
            sweep(&name, &dir)?;
        }
    }
    Ok(())
}

/// Takes away whatever the run still has; nothing is fine.
pub(crate) fn sweep(name: &str, dir: &Path) -> Result<()> {
    let deadline = Instant::now() + KILL_WAIT;
    loop {
        let left: BTreeSet<_> = cgroups::processes(name)?.union(&processes_in(&pins(dir))?).copied().collect();
        if left.is_empty() {
            break;
        }
        ensure!(Instant::now() < deadline, "processes of {name} do not end: {left:?}");
        for pid in left {
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(e) => return Err(e).with_context(|| format!("killing {pid}")),
            }
        }
        sleep(Duration::from_millis(50));
    }
    cgroups::remove(name, None)?;
    Fabric::remove_all(&pins(dir))?;
    match fs::remove_dir_all(dir.join("state")) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e).with_context(|| format!("removing state of {name}")),
        _ => Ok(()),
    }
}

/// Processes in any of the pinned namespaces, told by the namespace's device and inode (namespaces(7)). A pin that is not
/// mounted is a plain file on another device and matches nobody.
pub(crate) fn processes_in(pins: &Path) -> Result<BTreeSet<i32>> {
    let mut namespaces = BTreeSet::new();
    match fs::read_dir(pins) {
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        entries => {
            for entry in entries.with_context(|| format!("reading {}", pins.display()))? {
                let pin = fs::metadata(entry?.path())?;
                namespaces.insert((pin.dev(), pin.ino()));
            }
        }
    }
    let mut found = BTreeSet::new();
    for pid in pids()? {
        // A process that ends while we look is none of ours any more.
        let Ok(netns) = fs::metadata(format!("/proc/{pid}/ns/net")) else { continue };
        if namespaces.contains(&(netns.dev(), netns.ino())) {
            found.insert(pid);
        }
    }
    Ok(found)
}

/// All processes of the machine.
fn pids() -> Result<Vec<i32>> {
    let names = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(names.collect())
}

fn is_live(dir: &Path, name: &str) -> Result<bool> {
    Ok(match Supervisor::read(dir)? {
        Some(supervisor) => supervisor.is_alive(),
        // Between making the directory and writing the record.
        None => pid_in(name, RUN).is_some_and(|pid| start_time(pid).is_some()),
    })
}

/// The pid in `NAME-PID` or `NAME-PID-N`.
fn pid_in(directory: &str, name: &str) -> Option<i32> {
    directory.strip_prefix(name)?.strip_prefix('-')?.split('-').next()?.parse().ok()
}

fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the program's name, is in brackets and may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests;
