//! The seeds' experiment, through kube-proxy alone.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::super::backend::{Backend, namespace, node_port, seen_address};
use super::super::{Measured, Stage};
use super::service;

const NAMESPACE: &str = "demo-source-ip";

pub(super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    namespace(stage, NAMESPACE).await?;
    // Both Services select app=web; no Pod may run on n3.
    let backend =
        Backend { namespace: NAMESPACE, name: "web", app: "web", replicas: 2, nodes: &["n1", "n2"], pod_spec: "" };
    backend.deploy(stage).await?;
    let spread = super::super::backend::placement(stage, NAMESPACE, "web").await?;
    ensure!(!spread.contains_key("n3"), "a Pod runs on n3: {spread:?}");
    let with_pod = spread.keys().next().cloned().unwrap_or_default();
    stage.kubectl.apply(&service(NAMESPACE, "web", "NodePort", "externalTrafficPolicy: Cluster")).await?.ok()?;
    let port = node_port(stage, NAMESPACE, "web").await?;
    let client = &stage.cluster.clients()[0];
    let url =
        |node: &str| -> Result<String> { Ok(format!("http://{}:{port}/clientip", stage.cluster.node(node)?.ip())) };

    let through_cluster = seen_address(stage, &url("n3")?).await?;
    measured.note("client", client.ip().to_string());
    measured.note("cluster_seen_by_pod", through_cluster.to_string());
    let node_addresses: Vec<IpAddr> = stage.cluster.nodes().iter().map(crate::node::Node::ip).collect();
    ensure!(node_addresses.contains(&through_cluster), "Cluster should show a node's address");

    let patch = r#"{"spec":{"externalTrafficPolicy":"Local"}}"#;
    stage.kubectl.run(&["-n", NAMESPACE, "patch", "service", "web", "-p", patch]).await?.ok()?;
    let (through_local, _) = super::super::wait::until("kube-proxy to follow", Duration::from_secs(15), || async {
        let seen = seen_address(stage, &url(&with_pod)?).await?;
        ensure!(seen == client.ip(), "still {seen}");
        Ok(seen)
    })
    .await?;
    measured.note("local_seen_by_pod", through_local.to_string());
    let silent = client.http_get(&url("n3")?, Duration::from_secs(2)).await?;
    measured.note(
        "node_without_pods",
        silent.error.as_ref().map_or_else(|| format!("{:?}", silent.status), |error| format!("{error:?}")),
    );
    ensure!(!silent.is_ok() && silent.status.is_none(), "a node without Pods should not answer, but did");
    Ok(())
}
