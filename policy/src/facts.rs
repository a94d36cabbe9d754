//! What the engine is told about the world: no more than the rules need, and nothing that it could ask back.

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use portreeve_crds::names;
use std::collections::BTreeMap;

/// The label by which selectors can name a namespace. The API server sets it.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A namespace, as selectors see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespaceFacts {
    /// Its name, as the request or the store says it; never what an object inside claims.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

impl NamespaceFacts {
    /// A namespace with these labels, and with the one that the API server gives to every namespace, whatever was
    /// written there.
    #[must_use]
    pub fn new(name: String, mut labels: BTreeMap<String, String>) -> Self {
        if !name.is_empty() {
            labels.insert(NAME_LABEL.to_owned(), name.clone());
        }
        Self { name, labels }
    }

    /// Whether the label `portreeve.io/ignore: "true"` takes the whole namespace out of Portreeve's hands.
    #[must_use]
    pub fn ignored(&self) -> bool {
        self.labels.get(names::LABEL_IGNORE).is_some_and(|value| value == "true")
    }
}

impl From<&Namespace> for NamespaceFacts {
    fn from(namespace: &Namespace) -> Self {
        let metadata = &namespace.metadata;
        Self::new(metadata.name.clone().unwrap_or_default(), metadata.labels.clone().unwrap_or_default())
    }
}

/// The cluster's size. It picks the spread mechanism and bounds the advice on replica counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Schedulable nodes.
    pub nodes: u32,
    /// Zones that those nodes are in.
    pub zones: u32,
}

/// Endpoints of one Service by node, from its EndpointSlices, read as kube-proxy reads them.
///
/// The key `""` holds endpoints without `nodeName`: they serve `Cluster` traffic, and are local to no node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointFacts {
    /// Ready endpoints.
    pub ready_by_node: BTreeMap<String, u32>,
    /// Endpoints that terminate and still serve: kube-proxy falls back to them on a node without a ready one
    /// (KEP-1669).
    pub serving_terminating_by_node: BTreeMap<String, u32>,
}

/// How well an endpoint serves; a better reading of the same endpoint in another slice wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reading {
    Terminating,
    Ready,
}

impl EndpointFacts {
    /// Counts the endpoints of one Service.
    ///
    /// An endpoint that appears in several slices counts once: the controller may hold it in two while it moves it, and
    /// a dual-stack Service has one slice per address family. It is told apart by its Pod, or by its address when
    /// nothing says which Pod that is. Slices of type FQDN are left out, as kube-proxy does.
    pub fn from_slices<'a>(slices: impl IntoIterator<Item = &'a EndpointSlice>) -> Self {
        let mut seen: BTreeMap<String, (Reading, &str)> = BTreeMap::new();
        for slice in slices.into_iter().filter(|slice| slice.address_type != "FQDN") {
            for endpoint in slice.endpoints.iter().flatten() {
                let (Some(identity), Some(reading)) = (identity(endpoint), reading(endpoint)) else { continue };
                let entry = (reading, endpoint.node_name.as_deref().unwrap_or_default());
                seen.entry(identity).and_modify(|known| *known = entry.max(*known)).or_insert(entry);
            }
        }
        let mut facts = Self::default();
        for (reading, node) in seen.into_values() {
            let counts = match reading {
                Reading::Ready => &mut facts.ready_by_node,
                Reading::Terminating => &mut facts.serving_terminating_by_node,
            };
            *counts.entry(node.to_owned()).or_default() += 1;
        }
        facts
    }

    /// Ready endpoints on all nodes, those without a node included.
    #[must_use]
    pub fn ready(&self) -> u32 {
        self.ready_by_node.values().sum()
    }

    /// Nodes with at least one ready endpoint.
    #[must_use]
    pub fn active_nodes(&self) -> u32 {
        let nodes = self.ready_by_node.iter().filter(|(node, count)| !node.is_empty() && **count > 0).count();
        u32::try_from(nodes).unwrap_or(u32::MAX)
    }

    /// Ready endpoints by node, without those that no node is known of: the only ones `Local` can use.
    #[must_use]
    pub fn local_ready_by_node(&self) -> BTreeMap<String, u32> {
        let local = self.ready_by_node.iter().filter(|(node, count)| !node.is_empty() && **count > 0);
        local.map(|(node, count)| (node.clone(), *count)).collect()
    }
}

fn identity(endpoint: &Endpoint) -> Option<String> {
    let pod = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
    match pod.and_then(|pod| Some((pod.namespace.as_deref()?, pod.name.as_deref()?))) {
        Some((namespace, name)) => Some(format!("pod {namespace}/{name}")),
        // The API gives each endpoint at least one address, and says that all but the first are to be ignored.
        None => endpoint.addresses.first().map(|address| format!("address {address}")),
    }
}

/// kube-proxy's reading: an absent `ready` or `serving` counts as true, an absent `terminating` as false.
fn reading(endpoint: &Endpoint) -> Option<Reading> {
    let conditions = endpoint.conditions.as_ref();
    let is = |value: Option<bool>, absent: bool| value.unwrap_or(absent);
    if is(conditions.and_then(|c| c.ready), true) {
        return Some(Reading::Ready);
    }
    let serving = is(conditions.and_then(|c| c.serving), true);
    let terminating = is(conditions.and_then(|c| c.terminating), false);
    (serving && terminating).then_some(Reading::Terminating)
}

#[cfg(test)]
mod tests;
