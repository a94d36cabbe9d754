//! Cgroups of the nodes: one root per node, so that the kubelets do not clean each other's Pods up, in every hierarchy
//! the machine has (version 1, 2 or hybrid). The machine's own hierarchies are neither mounted nor moved.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::error::{NodeError, file_error};

/// What every cgroup of a testbed begins with, directly under a hierarchy's root.
const PREFIX: &str = "portreeve-";

const MOUNT: &str = "/sys/fs/cgroup";
const RELEASE_WAIT: Duration = Duration::from_secs(5);

/// The cgroup root of a node, as the kubelet's `cgroupRoot` wants it. `run` names the testbed's run (`cluster-4711`), so
/// that two of them do not meet.
pub fn root_of(run: &str, node: &str) -> String {
    format!("/{PREFIX}{run}.{node}")
}

/// Whether the machine has cgroup version 2 alone.
pub fn is_unified() -> bool {
    statfs(MOUNT).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// Makes the root of `node` in every hierarchy.
pub fn create(run: &str, node: &str) -> Result<(), NodeError> {
    // In hybrid mode the `unified` hierarchy has no controllers: runc makes groups there by itself.
    for hierarchy in hierarchies()?.into_iter().filter(|hierarchy| !hierarchy.ends_with("unified")) {
        let group = hierarchy.join(&root_of(run, node)[1..]);
        make(&group)?;
        // A cpuset group of version 1 starts empty, and nothing can run in it.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if !is_unified() && group.join(file).exists() {
                let all = hierarchy.join(file);
                let all = fs::read_to_string(&all).map_err(file_error("read", &all))?;
                let own = group.join(file);
                fs::write(&own, all.trim()).map_err(file_error("fill", &own))?;
            }
        }
    }
    Ok(())
}

/// Every cgroup of `run` that exists, outermost first; of one node when `node` is named.
pub fn list(run: &str, node: Option<&str>) -> Result<Vec<PathBuf>, NodeError> {
    let wanted = &root_of(run, node.unwrap_or_default())[1..];
    let mut found = Vec::new();
    for hierarchy in hierarchies()? {
        for entry in children(&hierarchy)? {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == wanted || (node.is_none() && name.starts_with(wanted)) {
                walk(&entry.path(), &mut found)?;
            }
        }
    }
    Ok(found)
}

/// The names of all runs that have a cgroup.
pub fn runs() -> Result<BTreeSet<String>, NodeError> {
    let mut found = BTreeSet::new();
    for hierarchy in hierarchies()? {
        for entry in children(&hierarchy)? {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some((run, _)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('.')) {
                found.insert(run.to_owned());
            }
        }
    }
    Ok(found)
}

/// Processes in any cgroup of `run`, by the machine's pid.
pub fn processes(run: &str) -> Result<BTreeSet<i32>, NodeError> {
    let mut pids = BTreeSet::new();
    for group in list(run, None)? {
        match fs::read_to_string(group.join("cgroup.procs")) {
            Ok(text) => pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|pid| *pid > 0)),
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(file_error("read processes of", &group)(e)),
        }
    }
    Ok(pids)
}

/// Removes the cgroups of `run`, or of one of its nodes. The kernel needs a moment to let go of groups whose last
/// process has just ended; what is still busy after that is an error.
pub fn remove(run: &str, node: Option<&str>) -> Result<(), NodeError> {
    let deadline = Instant::now() + RELEASE_WAIT;
    loop {
        let groups = list(run, node)?;
        let busy: Vec<_> =
            groups.into_iter().rev().filter_map(|group| fs::remove_dir(&group).err().map(|e| (group, e))).collect();
        let Some((group, error)) = busy.into_iter().find(|(_, e)| e.kind() != ErrorKind::NotFound) else {
            return Ok(());
        };
        if Instant::now() > deadline {
            return Err(file_error("remove cgroup", &group)(error));
        }
        sleep(Duration::from_millis(20));
    }
}

fn make(group: &Path) -> Result<(), NodeError> {
    match fs::create_dir(group) {
        Err(e) if e.kind() != ErrorKind::AlreadyExists => Err(file_error("create cgroup", group)(e)),
        _ => Ok(()),
    }
}

/// The roots of all mounted hierarchies.
fn hierarchies() -> Result<Vec<PathBuf>, NodeError> {
    if is_unified() {
        return Ok(vec![MOUNT.into()]);
    }
    let mut found = Vec::new();
    for entry in children(MOUNT.as_ref())? {
        let path = entry.path();
        // `cpu` is often a symlink to `cpu,cpuacct`: one name per hierarchy is enough.
        let real_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if real_dir && path.join("cgroup.procs").exists() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn walk(group: &Path, found: &mut Vec<PathBuf>) -> Result<(), NodeError> {
    found.push(group.to_owned());
    for entry in children(group)? {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), found)?;
        }
    }
    Ok(())
}

/// The entries of a directory; none when it has gone, as cgroups do while one looks.
fn children(dir: &Path) -> Result<Vec<fs::DirEntry>, NodeError> {
    match fs::read_dir(dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries.and_then(Iterator::collect).map_err(file_error("read", dir)),
    }
}
