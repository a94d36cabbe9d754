//! What the machine must offer, all of it named before anything starts.

use std::{fs, path::Path};

use nix::unistd::geteuid;

#[cfg(test)]
mod tests;

/// How much of a machine a command needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// A control plane on loopback; no root.
    Api,
    /// Nodes in namespaces.
    Cluster,
}

/// One thing that is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What, and what for.
    pub what: String,
    /// The Debian package that brings it, or `None` when it is not a package.
    pub package: Option<&'static str>,
}

/// The machine lacks something.
#[derive(Debug, thiserror::Error)]
#[error("this machine lacks:\n{}", lines(.0))]
pub struct PreflightError(pub Vec<Missing>);

/// A program, what it is for, and its Debian package.
type Program = (&'static str, &'static str, &'static str);

const API: &[Program] = &[("setpriv", "ends processes with the testbed", "util-linux")];

const CLUSTER: &[Program] = &[
    ("nsenter", "starts processes in namespaces", "util-linux"),
    ("unshare", "makes the nodes' namespaces", "util-linux"),
    ("mount", "makes the nodes' filesystems", "mount"),
    ("ip", "makes links and routes", "iproute2"),
    ("containerd", "runs the Pods", "containerd"),
    ("ctr", "imports images", "containerd"),
    ("runc", "runs the containers", "runc"),
    ("iptables", "kube-proxy's rules", "iptables"),
    ("ip6tables", "kube-proxy's rules", "iptables"),
    ("nft", "kube-proxy's and the load balancers' rules", "nftables"),
    ("conntrack", "kube-proxy drops stale flows with it", "conntrack"),
];

/// The CNI plugins of a node, and where Debian and others put them.
const CNI_PLUGINS: [&str; 4] = ["bridge", "host-local", "loopback", "portmap"];
const CNI_DIRS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// Filesystems the nodes mount.
const FILESYSTEMS: [(&str, &str); 2] = [("overlay", "containerd's snapshots"), ("bpf", "pinned maps and programs")];

/// Everything that is missing for a tier, or nothing.
pub fn check(tier: Tier) -> Result<(), PreflightError> {
    let mut missing = programs(API, &in_path);
    if tier == Tier::Cluster {
        missing.extend(programs(CLUSTER, &in_path));
        if !CNI_DIRS.iter().any(|dir| CNI_PLUGINS.iter().all(|plugin| Path::new(dir).join(plugin).is_file())) {
            let what = format!("CNI plugins {} (Pod networking)", CNI_PLUGINS.join(", "));
            missing.push(Missing { what, package: Some("containernetworking-plugins") });
        }
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        missing.extend(filesystems(&known));
        if !geteuid().is_root() {
            missing.push(Missing { what: "root (namespaces, mounts, BPF)".to_owned(), package: None });
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(PreflightError(missing)) }
}

fn programs(wanted: &[Program], found: &dyn Fn(&str) -> bool) -> Vec<Missing> {
    wanted
        .iter()
        .filter(|(program, ..)| !found(program))
        .map(|(program, purpose, package)| Missing { what: format!("{program} ({purpose})"), package: Some(package) })
        .collect()
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// `known` is `/proc/filesystems`, which lists a module only once it is loaded: hence the hint.
fn filesystems(known: &str) -> Vec<Missing> {
    let listed = |name: &str| known.lines().any(|line| line.split_whitespace().last() == Some(name));
    FILESYSTEMS
        .into_iter()
        .filter(|(name, _)| !listed(name))
        .map(|(name, purpose)| Missing {
            what: format!("kernel filesystem {name} ({purpose}); try `modprobe {name}`"),
            package: None,
        })
        .collect()
}

fn lines(missing: &[Missing]) -> String {
    let mut text: String = missing.iter().map(|Missing { what, .. }| format!("  {what}\n")).collect();
    let mut packages: Vec<_> = missing.iter().filter_map(|missing| missing.package).collect();
    packages.sort_unstable();
    packages.dedup();
    if !packages.is_empty() {
        text.push_str(&format!("on Debian: apt-get install {}", packages.join(" ")));
    }
    text.trim_end().to_owned()
}
