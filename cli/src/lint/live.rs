//! The live cluster as something to lint.

use super::objects::{Judgement, Workspace};
use crate::args::ClusterArgs;
use crate::cluster::{connect, list};
use crate::exit::Failure;
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client, ResourceExt as _};
use portreeve_policy::ClusterFacts;
use std::collections::BTreeSet;

const ZONE: &str = "topology.kubernetes.io/zone";

/// Judges every Service of the cluster, or of one namespace; also says what was looked at.
pub(super) async fn judge(args: &ClusterArgs, namespace: Option<&str>) -> Result<(Judgement, String), Failure> {
    let client = connect(args).await?;
    let (services, slices): (Api<Service>, Api<EndpointSlice>) = match namespace {
        Some(name) => (Api::namespaced(client.clone(), name), Api::namespaced(client.clone(), name)),
        None => (Api::all(client.clone()), Api::all(client.clone())),
    };
    let mut workspace = Workspace::default();
    for slice in list(&slices, "EndpointSlices").await? {
        workspace.add_slice(slice);
    }
    for service in list(&services, "Services").await? {
        workspace.add_live_service(service);
    }
    fill(&mut workspace, client).await?;
    let looked_at = format!(
        "{} of {}",
        super::services(workspace.services()),
        namespace.map_or_else(|| "the cluster".to_owned(), |n| format!("namespace {n}"))
    );
    Ok((workspace.judge(), looked_at))
}

/// Adds the cluster's policies, namespaces and node count to a workspace of files.
pub(super) async fn add_policies(workspace: &mut Workspace, args: &ClusterArgs) -> Result<(), Failure> {
    fill(workspace, connect(args).await?).await
}

async fn fill(workspace: &mut Workspace, client: Client) -> Result<(), Failure> {
    for namespace in list::<Namespace>(&Api::all(client.clone()), "Namespaces").await? {
        workspace.add_namespace(&namespace);
    }
    let nodes = list::<Node>(&Api::all(client.clone()), "Nodes").await?;
    let schedulable: Vec<_> =
        nodes.iter().filter(|node| node.spec.as_ref().is_none_or(|spec| spec.unschedulable != Some(true))).collect();
    let zones: BTreeSet<_> = schedulable.iter().filter_map(|node| node.labels().get(ZONE)).collect();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    workspace.set_nodes(ClusterFacts { nodes: number(schedulable.len()), zones: number(zones.len()) });
    let cluster = list(&Api::all(client.clone()), "ClusterTrafficPolicies").await?;
    let namespaced = list(&Api::all(client), "TrafficPolicies").await?;
    workspace.add_policies(cluster, namespaced);
    Ok(())
}
