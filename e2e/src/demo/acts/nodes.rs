//! Every node has a NodeDatapath, and it is Ready.

use anyhow::{Result, ensure};
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use portreeve_crds::NodeDatapath;
use portreeve_crds::condition::{READY, is_true};

use super::super::{Measured, Stage};

pub(super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    stage.kubectl.run(&["wait", "--for=condition=Ready", "nodedatapath", "--all", "--timeout=30s"]).await?.ok()?;
    let shown = stage.kubectl.run(&["get", "nodedatapaths", "-o", "wide"]).await?.ok()?;
    measured.note("table", shown.stdout);
    let api: Api<NodeDatapath> = Api::all(stage.client.clone());
    let found = api.list(&ListParams::default()).await?.items;
    let ready: Vec<String> = found
        .iter()
        .filter(|node| node.status.as_ref().is_some_and(|status| is_true(&status.conditions, READY)))
        .map(|node| node.name_any())
        .collect();
    measured.note("ready", ready.join(" "));
    let wanted: Vec<&str> = stage.cluster.nodes().iter().map(crate::node::Node::name).collect();
    ensure!(ready == wanted, "Ready are {ready:?}, nodes are {wanted:?}");
    for node in &found {
        let status = node.status.clone().unwrap_or_default();
        ensure!(!status.uplinks.is_empty(), "{} reports no uplink", node.name_any());
        ensure!(
            status.kernel.is_some_and(|kernel| !kernel.features.is_empty()),
            "{} reports no kernel feature",
            node.name_any()
        );
        ensure!(status.backend.is_some(), "{} reports no backend", node.name_any());
    }
    Ok(())
}
