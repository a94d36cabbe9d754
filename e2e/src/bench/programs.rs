//! The release builds under test, which `make bench` puts beside this program, and what they weigh.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// Paths of the programs.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    pub(super) operator: PathBuf,
    pub(super) webhook: PathBuf,
    pub(super) agent: PathBuf,
    /// The example `echo` of the webhook's package.
    pub(super) echo: PathBuf,
}

impl Programs {
    pub(super) fn beside_us() -> Result<Self> {
        ensure!(!cfg!(debug_assertions), "a bench of debug builds says nothing; run `make bench`");
        let this = std::env::current_exe()?;
        let dir = this.parent().context("invariant: a program lies in a directory")?;
        let found = |name: &str| -> Result<PathBuf> {
            let path = dir.join(name);
            ensure!(path.is_file(), "no {}: run `make bench`, which builds it", path.display());
            Ok(path)
        };
        Ok(Self {
            operator: found("portreeve-operator")?,
            webhook: found("portreeve-webhook")?,
            agent: found("portreeve-agent")?,
            echo: found("examples/echo")?,
        })
    }
}

/// A port of loopback that was free a moment ago.
pub(super) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// A line of `/proc/PID/status` in MiB: `VmRSS` is now, `VmHWM` the most so far.
pub(super) fn mebibytes(pid: u32, line: &str) -> Result<f64> {
    let path = PathBuf::from(format!("/proc/{pid}/status"));
    let text = read(&path)?;
    let value = text.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
    let kib: f64 = value.and_then(|value| value.trim().strip_suffix(" kB")).context("no such line")?.parse()?;
    Ok(super::row::rounded(kib / 1024.0))
}

/// User and system time of a process, in seconds (proc_pid_stat(5): fields 14 and 15, in ticks of a hundredth).
pub(super) fn cpu_seconds(pid: u32) -> Result<f64> {
    let text = read(&PathBuf::from(format!("/proc/{pid}/stat")))?;
    let (_, after) = text.rsplit_once(") ").context("no name in stat")?;
    let fields: Vec<&str> = after.split(' ').collect();
    let ticks = |index: usize| -> Result<f64> { Ok(fields.get(index).context("a short stat")?.parse::<f64>()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}
