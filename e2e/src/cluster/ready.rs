//! Waiting for what the cluster itself brings about.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};

use crate::fabric::plan;
use crate::node::Node;

const WITHIN: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

/// Waits until all `nodes` are Ready. Writes each Node's Pod ranges as soon as it exists: the ranges are fixed by the
/// wires, so the controller manager cannot be left to choose them.
pub(super) async fn nodes(client: &Client, nodes: &[Node]) -> Result<()> {
    let api: Api<v1::Node> = Api::all(client.clone());
    let deadline = Instant::now() + WITHIN;
    loop {
        let mut waiting = Vec::new();
        for (node, index) in nodes.iter().zip(1..) {
            node.require_running()?;
            let Some(seen) = api.get_opt(node.name()).await? else {
                waiting.push(node.name());
                continue;
            };
            if seen.spec.as_ref().is_none_or(|spec| spec.pod_cidr.is_none()) {
                let [v4, v6] = plan::pods(index);
                let ranges = serde_json::json!({"spec": {"podCIDR": v4, "podCIDRs": [v4, v6]}});
                api.patch(node.name(), &PatchParams::default(), &Patch::Merge(ranges)).await?;
            }
            if !is_ready(&seen) {
                waiting.push(node.name());
            }
        }
        if waiting.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "not Ready after {WITHIN:?}: {}", waiting.join(", "));
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until the Deployment's newest generation is fully available.
pub(super) async fn deployment(client: &Client, namespace: &str, name: &str) -> Result<()> {
    let api: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let deadline = Instant::now() + WITHIN;
    loop {
        let seen = api.get(name).await?;
        if is_complete(&seen) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("Deployment {namespace}/{name} is not complete after {WITHIN:?}: {:?}", seen.status);
        }
        tokio::time::sleep(POLL).await;
    }
}

fn is_ready(node: &v1::Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// As `kubectl rollout status` decides it.
fn is_complete(deployment: &Deployment) -> bool {
    let (Some(spec), Some(status)) = (&deployment.spec, &deployment.status) else {
        return false;
    };
    let wanted = spec.replicas.unwrap_or(1);
    status.observed_generation == deployment.metadata.generation
        && status.updated_replicas.unwrap_or(0) == wanted
        && status.replicas.unwrap_or(0) == wanted
        && status.available_replicas.unwrap_or(0) == wanted
}
