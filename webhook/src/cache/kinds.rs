//! The kinds of objects that the webhook watches, and what is kept of each.

use super::index::Index;
use super::slices::Slices;
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::core::PartialObjectMeta;
use portreeve_crds::{ClusterTrafficPolicy, TrafficPolicy};
use portreeve_policy::NamespaceFacts;

/// Well-known label of a node's zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// Namespace (empty for cluster-wide kinds) and name.
pub(super) type Key = (String, String);

/// One watched kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// ClusterTrafficPolicies.
    ClusterPolicies,
    /// EndpointSlices.
    EndpointSlices,
    /// Namespaces, metadata only.
    Namespaces,
    /// Nodes, metadata only.
    Nodes,
    /// TrafficPolicies.
    Policies,
    /// Services.
    Services,
}

impl Source {
    /// Every watched kind.
    pub const ALL: [Self; 6] =
        [Self::ClusterPolicies, Self::EndpointSlices, Self::Namespaces, Self::Nodes, Self::Policies, Self::Services];

    /// The kind's plural, as in the API; safe as a metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterPolicies => "clustertrafficpolicies",
            Self::EndpointSlices => "endpointslices",
            Self::Namespaces => "namespaces",
            Self::Nodes => "nodes",
            Self::Policies => "trafficpolicies",
            Self::Services => "services",
        }
    }
}

/// A kind that the index can hold.
pub trait Cached: ResourceExt + Sized {
    /// Which kind it is.
    const SOURCE: Source;

    /// Keeps what is needed of this object, in place of what was kept of it before.
    fn put(self, index: &mut Index);

    /// Forgets an object.
    fn remove(index: &mut Index, key: &(String, String));

    /// Every object of this kind that is held.
    fn known(index: &Index) -> Vec<(String, String)>;

    /// Namespace and name.
    fn key(&self) -> (String, String) {
        (self.namespace().unwrap_or_default(), self.name_any())
    }
}

impl Cached for ClusterTrafficPolicy {
    const SOURCE: Source = Source::ClusterPolicies;

    fn put(mut self, index: &mut Index) {
        // The operator writes a status often; it decides nothing.
        self.status = None;
        let same = index.cluster_policies.get(&self.name_any()).is_some_and(|known| {
            known.spec == self.spec && known.metadata.creation_timestamp == self.metadata.creation_timestamp
        });
        if !same {
            index.policies_changed();
            self.metadata.managed_fields = None;
            index.cluster_policies.insert(self.name_any(), self);
        }
    }

    fn remove(index: &mut Index, (_, name): &Key) {
        if index.cluster_policies.remove(name).is_some() {
            index.policies_changed();
        }
    }

    fn known(index: &Index) -> Vec<Key> {
        index.cluster_policies.keys().map(|name| (String::new(), name.clone())).collect()
    }
}

impl Cached for TrafficPolicy {
    const SOURCE: Source = Source::Policies;

    fn put(mut self, index: &mut Index) {
        self.status = None;
        let same = index.policies.get(&self.key()).is_some_and(|known| {
            known.spec == self.spec && known.metadata.creation_timestamp == self.metadata.creation_timestamp
        });
        if !same {
            index.policies_changed();
            self.metadata.managed_fields = None;
            index.policies.insert(self.key(), self);
        }
    }

    fn remove(index: &mut Index, key: &Key) {
        if index.policies.remove(key).is_some() {
            index.policies_changed();
        }
    }

    fn known(index: &Index) -> Vec<Key> {
        index.policies.keys().cloned().collect()
    }
}

impl Cached for Service {
    const SOURCE: Source = Source::Services;

    fn put(self, index: &mut Index) {
        index.put_service(self);
    }

    fn remove(index: &mut Index, (namespace, name): &Key) {
        index.remove_service(namespace, name);
    }

    fn known(index: &Index) -> Vec<Key> {
        index.services().collect()
    }
}

impl Cached for EndpointSlice {
    const SOURCE: Source = Source::EndpointSlices;

    fn put(self, index: &mut Index) {
        index.put_slice(self.metadata.namespace.as_deref().unwrap_or_default(), &self);
    }

    fn remove(index: &mut Index, (namespace, name): &Key) {
        index.remove_slice(namespace, name);
    }

    fn known(index: &Index) -> Vec<Key> {
        let in_namespace = |namespace: &str, slices: &Slices| -> Vec<Key> {
            slices.names().map(|name| (namespace.to_owned(), name.to_owned())).collect()
        };
        index.slices.iter().flat_map(|(namespace, slices)| in_namespace(namespace, slices)).collect()
    }
}

impl Cached for PartialObjectMeta<Namespace> {
    const SOURCE: Source = Source::Namespaces;

    fn put(self, index: &mut Index) {
        let labels = self.metadata.labels.clone().unwrap_or_default();
        index.put_namespace(NamespaceFacts::new(self.name_any(), labels));
    }

    fn remove(index: &mut Index, (_, name): &Key) {
        index.remove_namespace(name);
    }

    fn known(index: &Index) -> Vec<Key> {
        let known = index.namespaces.iter().filter(|(_, entry)| entry.facts.is_some());
        known.map(|(name, _)| (String::new(), name.to_string())).collect()
    }
}

impl Cached for PartialObjectMeta<Node> {
    const SOURCE: Source = Source::Nodes;

    /// Cordoned nodes count as well: metadata does not tell, and the number serves only to tell small clusters from
    /// large ones.
    fn put(self, index: &mut Index) {
        let zone = self.metadata.labels.as_ref().and_then(|labels| labels.get(ZONE)).cloned();
        index.put_node(self.name_any(), zone);
    }

    fn remove(index: &mut Index, (_, name): &Key) {
        index.remove_node(name);
    }

    fn known(index: &Index) -> Vec<Key> {
        index.nodes.keys().map(|name| (String::new(), name.clone())).collect()
    }
}
