//! What a cluster is to be like.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::assets::Assets;
use crate::fabric::PodEgress;
use crate::image::catalogue;
use crate::lb::LbOptions;
use crate::node::config::ProxyMode;
use crate::node::init::COVERED;
use crate::progress::Progress;

/// Where Debian and the upstream archives put the CNI plugins.
const CNI_PLACES: &[&str] = &["/usr/lib/cni", "/opt/cni/bin"];

/// The command whose `node-init` is a node's PID 1.
const INIT_PROGRAM: &str = "portreeve-testbed";

/// What to bring up. Change what [`ClusterOptions::new`] proposes.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Programs.
    pub assets: Assets,
    /// Images every node has from the start, as OCI archives; those of the testbed's catalogue must be among them.
    pub images: Vec<PathBuf>,
    /// Number of nodes: `n1`, `n2`, …
    pub nodes: u8,
    /// Number of outside clients.
    pub clients: u8,
    /// kube-proxy's mode.
    pub proxy_mode: ProxyMode,
    /// How Pods' own connections leave the cluster.
    pub egress: PodEgress,
    /// Load balancers.
    pub lb: LbOptions,
    /// More flags of the API server.
    pub extra_apiserver_args: Vec<String>,
    /// More flags of the controller manager, e.g. `--node-monitor-grace-period=10s`.
    pub extra_controller_manager_args: Vec<String>,
    /// The testbed's command, PID 1 of the nodes.
    pub init_program: PathBuf,
    /// Where progress is shown.
    pub progress: Progress,
}

impl ClusterOptions {
    /// Three nodes, two clients, kube-proxy in its default mode, forwarders. Packs the testbed's images unless they are
    /// in the cache.
    pub fn new(assets: Assets, progress: Progress) -> Result<Self> {
        Ok(Self {
            images: catalogue::testbed_archives(&assets, progress)?,
            assets,
            nodes: 3,
            clients: 2,
            proxy_mode: ProxyMode::default(),
            egress: PodEgress::default(),
            lb: LbOptions::default(),
            extra_apiserver_args: Vec::new(),
            extra_controller_manager_args: Vec::new(),
            init_program: init_program()?,
            progress,
        })
    }
}

/// This program if it is the testbed's command, else the command beside it (tests live in `deps/`, one below).
fn init_program() -> Result<PathBuf> {
    let this = std::env::current_exe().context("finding our own program file")?;
    let beside = this.ancestors().skip(1).take(2).map(|dir| dir.join(INIT_PROGRAM));
    let found = beside.into_iter().find(|program| program.is_file());
    found.with_context(|| format!("no {INIT_PROGRAM} beside {}: build it first", this.display()))
}

/// The CNI plugins' directory.
pub(super) fn cni_plugins() -> Result<PathBuf> {
    let found = CNI_PLACES.iter().map(Path::new).find(|dir| dir.join("bridge").is_file());
    Ok(found.with_context(|| format!("no CNI plugins in any of {CNI_PLACES:?}"))?.to_owned())
}

/// Fails for a path that a node would not see, because it mounts something over it.
pub(super) fn visible_in_nodes(path: &Path) -> Result<()> {
    let real = path.canonicalize().with_context(|| format!("{} does not exist", path.display()))?;
    let hidden = COVERED.iter().find(|place| real.starts_with(place));
    ensure!(
        hidden.is_none(),
        "{} lies under {}, which every node covers; choose another place (PORTREEVE_TESTBED_DIR, PORTREEVE_ASSETS)",
        path.display(),
        hidden.unwrap_or(&"")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_nodes_cover_is_refused_with_the_way_out() {
        let error = visible_in_nodes(Path::new("/proc/self/status")).unwrap_err().to_string();
        assert!(error.contains("PORTREEVE_TESTBED_DIR"), "{error}");
        visible_in_nodes(Path::new("/usr")).unwrap();
    }
}
