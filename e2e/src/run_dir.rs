//! Where a run keeps its state and its logs: `target/testbed/NAME-PID`.
//!
//! State of runs whose process is gone is removed by the next run; their logs stay until they are the oldest.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
};

/// How many ended runs of one name keep their logs.
const KEPT: usize = 3;

/// `$PORTREEVE_TESTBED_DIR`, or `target/testbed` of this workspace.
pub fn root() -> PathBuf {
    std::env::var_os("PORTREEVE_TESTBED_DIR").map_or_else(
        || {
            let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
            std::path::absolute(&target).unwrap_or(target).join("testbed")
        },
        PathBuf::from,
    )
}

/// The source tree this crate was built from.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("invariant: this crate lies in the workspace's directory")
}

/// A run's directory. The `state` part goes when this is dropped, the `log` part stays.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
}

impl RunDir {
    /// Makes `NAME-PID[-N]` and clears what earlier runs of this name left.
    pub fn create(name: &str) -> io::Result<Self> {
        let root = root();
        fs::create_dir_all(&root)?;
        prune(&root, name)?;
        let pid = process::id();
        for turn in 0_u32.. {
            let path = root.join(if turn == 0 { format!("{name}-{pid}") } else { format!("{name}-{pid}-{turn}") });
            match fs::create_dir(&path) {
                Ok(()) => {
                    fs::create_dir(path.join("state"))?;
                    fs::create_dir(path.join("log"))?;
                    return Ok(Self { path });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("no free run directory name"))
    }

    /// The run's directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What may be lost when the run ends: databases, keys, kubeconfigs.
    pub fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// What is kept to be read after a failure.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(self.state()) {
            tracing::warn!(dir = %self.path.display(), %error, "state of the run not removed");
        }
    }
}

/// The pid in `NAME-PID` or `NAME-PID-N`, when the directory is of this name.
fn pid_of(directory: &str, name: &str) -> Option<u32> {
    let rest = directory.strip_prefix(name)?.strip_prefix('-')?;
    rest.split('-').next()?.parse().ok()
}

fn prune(root: &Path, name: &str) -> io::Result<()> {
    let mut ended = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|directory| pid_of(directory, name)) else { continue };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            ended.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    ended.sort();
    ended.reverse();
    for (index, (_, path)) in ended.iter().enumerate() {
        let victim = if index < KEPT { path.join("state") } else { path.clone() };
        match fs::remove_dir_all(&victim) {
            // Two runs that start together prune the same remains.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// A directory for a unit test, removed with the value. Another of the same name is another directory.
#[cfg(test)]
pub(crate) fn scratch(name: &str) -> Scratch {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("portreeve-{name}-{}-{number}", process::id()));
    fs::create_dir_all(&path).unwrap();
    Scratch(path)
}

/// See [`scratch`].
#[cfg(test)]
pub(crate) struct Scratch(PathBuf);

#[cfg(test)]
impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

#[cfg(test)]
impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_scratch_directories_of_one_name_are_two() {
        let one = scratch("twice");
        drop(scratch("twice"));
        assert!(one.path().is_dir());
    }

    #[test]
    fn a_directory_of_another_name_is_not_ours() {
        assert_eq!(pid_of("api-12", "api"), Some(12));
        assert_eq!(pid_of("api-12-3", "api"), Some(12));
        assert_eq!(pid_of("api-extra-12", "api"), None);
        assert_eq!(pid_of("cluster-12", "api"), None);
    }

    #[test]
    fn pruning_keeps_recent_logs_and_no_state() {
        let dir = scratch("prune");
        // Above the kernel's largest pid: such a process cannot exist.
        let dead = |n: u32| dir.path().join(format!("x-{}", 5_000_000 + n));
        for n in 0..5 {
            fs::create_dir_all(dead(n).join("state")).unwrap();
            fs::create_dir_all(dead(n).join("log")).unwrap();
        }
        let live = dir.path().join(format!("x-{}", process::id()));
        fs::create_dir_all(live.join("state")).unwrap();
        prune(dir.path(), "x").unwrap();
        assert!(live.join("state").exists());
        assert_eq!((0..5).filter(|n| dead(*n).join("log").exists()).count(), KEPT);
        assert_eq!((0..5).filter(|n| dead(*n).join("state").exists()).count(), 0);
    }
}
