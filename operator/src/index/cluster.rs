//! Nodes, reduced to what decisions read.

use k8s_openapi::api::core::v1::Node;
use portreeve_policy::facts::ClusterFacts;
use std::collections::BTreeSet;

/// Label of a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// What is kept of a Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodeFacts {
    pub(super) name: String,
    schedulable: bool,
    zone: Option<String>,
}

pub(super) fn node_facts(node: Node) -> NodeFacts {
    let spec = node.spec.unwrap_or_default();
    let kept_free = spec.taints.unwrap_or_default().iter().any(|taint| taint.effect != "PreferNoSchedule");
    NodeFacts {
        name: node.metadata.name.unwrap_or_default(),
        schedulable: !spec.unschedulable.unwrap_or(false) && !kept_free,
        zone: node.metadata.labels.and_then(|mut labels| labels.remove(ZONE)),
    }
}

/// Schedulable nodes and their zones. A node whose taint keeps ordinary Pods off does not count.
pub(super) fn cluster_facts<'a>(nodes: impl Iterator<Item = &'a NodeFacts>) -> ClusterFacts {
    let schedulable: Vec<_> = nodes.filter(|node| node.schedulable).collect();
    let zones: BTreeSet<_> = schedulable.iter().filter_map(|node| node.zone.as_deref()).collect();
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    ClusterFacts { nodes: count(schedulable.len()), zones: count(zones.len()) }
}
