//! A picture of everything a testbed could leave behind, for comparing before and after.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result};

use super::{pids, pins, processes_in};
use crate::node::cgroups;
use crate::run_dir;

/// Machine-wide settings that a kubelet, kube-proxy or CNI plugin would like to change.
const SYSCTLS: &[&str] = &[
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "net/ipv4/ip_forward",
    "net/ipv4/vs/conntrack",
    "net/ipv4/conf/all/route_localnet",
    "net/ipv6/conf/all/forwarding",
    "net/bridge/bridge-nf-call-iptables",
    "net/netfilter/nf_conntrack_max",
    "net/netfilter/nf_conntrack_tcp_timeout_established",
];

/// Directories that node daemons make where they are not told otherwise.
const PLACES: &[&str] = &[
    "/etc/cni",
    "/etc/kubernetes",
    "/opt/cni",
    "/opt/containerd",
    "/run/containerd",
    "/run/netns",
    "/run/xtables.lock",
    "/usr/libexec/kubernetes",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
];

/// The machine, as far as a testbed could change it. Two pictures are equal when nothing was left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Command lines of processes in the run's namespaces or cgroups, or that name its directory.
    pub processes: BTreeSet<String>,
    /// Mounts of the machine, but for those of other runs.
    pub mounts: BTreeSet<String>,
    /// The run's cgroups.
    pub cgroups: BTreeSet<String>,
    /// Network interfaces of the machine.
    pub interfaces: BTreeSet<String>,
    /// Names of files in the testbed's places that exist.
    pub places: BTreeSet<String>,
    /// Sysctl → value.
    pub sysctls: BTreeMap<String, String>,
}

/// Takes the picture with an eye on `run` (`cluster-4711`), or before there is one. What other runs are doing at the same
/// time is not in it.
pub fn snapshot(run: Option<&str>) -> Result<Snapshot> {
    let mut picture = Snapshot {
        processes: BTreeSet::new(),
        mounts: mounts(run)?,
        cgroups: BTreeSet::new(),
        interfaces: names("/sys/class/net")?,
        places: PLACES.iter().filter(|place| fs::exists(place).unwrap_or(false)).map(|p| (*p).to_owned()).collect(),
        sysctls: SYSCTLS.iter().filter_map(|key| Some(((*key).to_owned(), sysctl(key)?))).collect(),
    };
    if let Some(run) = run {
        let dir = run_dir::root().join(run);
        let groups = cgroups::list(run, None)?;
        picture.cgroups = groups.into_iter().map(|group| group.display().to_string()).collect();
        let mut ours = cgroups::processes(run)?;
        ours.extend(processes_in(&pins(&dir))?);
        let named = dir.display().to_string();
        for pid in pids()? {
            // A process that ends while we look is not left behind.
            let Ok(raw) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
            let line = String::from_utf8_lossy(&raw).replace('\0', " ");
            if ours.contains(&pid) || line.contains(&named) {
                picture.processes.insert(format!("{pid} {}", line.trim()));
            }
        }
    }
    Ok(picture)
}

fn mounts(run: Option<&str>) -> Result<BTreeSet<String>> {
    let root = run_dir::root().display().to_string();
    let table = fs::read_to_string("/proc/self/mountinfo").context("reading the mount table")?;
    let others = |point: &str| {
        let below = point.strip_prefix(&root).and_then(|rest| rest.trim_start_matches('/').split('/').next());
        below.is_some_and(|below| run != Some(below))
    };
    // Fields 4 and 5 (root and mount point) of proc_pid_mountinfo(5); ids differ from look to look.
    let line = |line: &str| {
        let fields: Vec<_> = line.split(' ').collect();
        Some((fields.get(3)?.to_string(), fields.get(4)?.to_string()))
    };
    let seen = table.lines().filter_map(line).filter(|(_, point)| !others(point));
    Ok(seen.map(|(root, point)| format!("{root} on {point}")).collect())
}

fn names(dir: &str) -> Result<BTreeSet<String>> {
    let entries = fs::read_dir(dir).with_context(|| format!("reading {dir}"))?;
    Ok(entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect())
}

fn sysctl(key: &str) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/sys/{key}")).ok()?.trim().to_owned())
}
