//! What the webhook remembers of the cluster, so that an answer needs no call to the API server.
//!
//! ```text
//! watches ──▶ Index (one owner, synchronous) ──▶ Snapshot (immutable) ──▶ reviews
//! ```
//! The index keeps no more of an object than a decision needs. Its snapshots share everything that did not change: a
//! change copies the lists of its own namespace and no other's.

mod compact;
mod index;
mod kinds;
mod services;
mod slices;
mod watch;

use arc_swap::{ArcSwap, Guard};
use compact::CompactFacts;
use k8s_openapi::api::core::v1::Service;
use portreeve_policy::spread::OwnerFacts;
use portreeve_policy::{ClusterFacts, EndpointFacts, NamespaceFacts, PolicySet};
use services::Services;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use index::Index;
pub use kinds::{Cached, Source};
pub use watch::{WatchMetrics, run};

/// The cluster at one moment, as far as decisions need it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    namespaces: BTreeMap<Arc<str>, Arc<Namespace>>,
    policies: Arc<PolicySet>,
    policy_count: usize,
    policy_problems: usize,
    cluster: ClusterFacts,
    missing: Vec<Source>,
}

/// One namespace and what is in it.
#[derive(Clone, Debug, Default)]
struct Namespace {
    /// None until the Namespace itself was seen: a Service in it may come first.
    facts: Option<NamespaceFacts>,
    services: Arc<Services>,
    endpoints: Arc<BTreeMap<Arc<str>, Arc<CompactFacts>>>,
}

/// Numbers of things that a snapshot holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Namespaces that were seen themselves.
    pub namespaces: usize,
    /// Services with a selector.
    pub services: usize,
    /// Ready endpoints of all Services.
    pub ready_endpoints: u64,
    /// Nodes.
    pub nodes: u32,
    /// Policies of both kinds.
    pub policies: usize,
    /// Policies that could not be compiled.
    pub policy_problems: usize,
}

impl Snapshot {
    /// The namespace as policies see it. One that the cache does not know yet has the label of its name and no other: a
    /// Service can arrive milliseconds after its Namespace was made, and waiting is not an option at the API server's
    /// door.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Cow<'_, NamespaceFacts> {
        match self.namespaces.get(name).and_then(|namespace| namespace.facts.as_ref()) {
            Some(facts) => Cow::Borrowed(facts),
            None => Cow::Owned(NamespaceFacts::new(name.to_owned(), BTreeMap::new())),
        }
    }

    /// Whether the Namespace itself was seen.
    #[must_use]
    pub fn knows(&self, namespace: &str) -> bool {
        self.namespaces.get(namespace).is_some_and(|namespace| namespace.facts.is_some())
    }

    /// Services of the namespace that select a Pod with these labels.
    #[must_use]
    pub fn services_for(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Vec<Service> {
        self.namespaces.get(namespace).map_or_else(Vec::new, |found| found.services.selecting(namespace, labels))
    }

    /// Endpoints of a Service; none when no EndpointSlice of it was seen, which is not the same as no endpoints.
    #[must_use]
    pub fn endpoints(&self, namespace: &str, service: &str) -> Option<EndpointFacts> {
        self.namespaces.get(namespace)?.endpoints.get(service).map(|facts| facts.expand())
    }

    /// What is known of the Pods behind these Services of the namespace.
    #[must_use]
    pub fn owners<'a>(&self, namespace: &str, services: impl Iterator<Item = &'a str>) -> OwnerFacts {
        let endpoints = self.namespaces.get(namespace).map(|found| &found.endpoints);
        let stems = services.filter_map(|service| Some((service.to_owned(), endpoints?.get(service)?.stems())));
        OwnerFacts { stems: stems.collect() }
    }

    /// The compiled policies.
    #[must_use]
    pub fn policies(&self) -> &PolicySet {
        &self.policies
    }

    /// The cluster's size.
    #[must_use]
    pub const fn cluster(&self) -> ClusterFacts {
        self.cluster
    }

    /// Kinds of objects that were not listed yet. As long as there are any, nothing may be decided.
    #[must_use]
    pub fn missing(&self) -> &[Source] {
        &self.missing
    }

    /// Counts what is held.
    #[must_use]
    pub fn sizes(&self) -> Sizes {
        let ready = |namespace: &Arc<Namespace>| -> u64 {
            namespace.endpoints.values().map(|facts| u64::from(facts.ready())).sum()
        };
        Sizes {
            namespaces: self.namespaces.values().filter(|namespace| namespace.facts.is_some()).count(),
            services: self.namespaces.values().map(|namespace| namespace.services.len()).sum(),
            ready_endpoints: self.namespaces.values().map(ready).sum(),
            nodes: self.cluster.nodes,
            policies: self.policy_count,
            policy_problems: self.policy_problems,
        }
    }
}

/// The latest snapshot. Readers never wait for the writer, nor the writer for readers.
#[derive(Debug)]
pub struct Cache {
    latest: ArcSwap<Snapshot>,
}

impl Cache {
    /// A cache that starts from `snapshot`.
    #[must_use]
    pub fn new(snapshot: Snapshot) -> Self {
        Self { latest: ArcSwap::from_pointee(snapshot) }
    }

    /// The latest snapshot. Hold it no longer than one request.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<Snapshot>> {
        self.latest.load()
    }

    /// Puts a newer snapshot in place.
    pub fn publish(&self, snapshot: Snapshot) {
        self.latest.store(Arc::new(snapshot));
    }

    /// `Ok` when every kind was listed.
    ///
    /// # Errors
    /// The kinds that are missing, in words for a probe.
    pub fn filled(&self) -> Result<(), String> {
        match self.load().missing() {
            [] => Ok(()),
            missing => {
                let names: Vec<_> = missing.iter().map(|source| source.as_str()).collect();
                Err(format!("not listed yet: {}", names.join(", ")))
            }
        }
    }
}

#[cfg(test)]
mod tests;
