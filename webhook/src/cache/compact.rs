//! Endpoints in about a tenth of their size.
//!
//! Endpoints of one Service can be spread over several slices and are counted over all of them, so the slices must be
//! kept. What is kept tells [`EndpointFacts::from_slices`] the same as the original; a property test compares its answers
//! on both forms.

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};
use portreeve_policy::EndpointFacts;
use portreeve_policy::spread::stem;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::Arc;

/// Strings that recur, each held once: 50,000 endpoints lie on a few hundred nodes, and a Service's name is also the value
/// of its label and of its selector.
#[derive(Debug, Default)]
pub(super) struct Interner {
    texts: BTreeSet<Arc<str>>,
    /// How many to hold before looking for those that nobody else holds any more.
    limit: usize,
}

impl Interner {
    pub(super) fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return Arc::clone(known);
        }
        if self.texts.len() >= self.limit {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
            // Twice what is in use, so that the search is paid for by as many new names.
            self.limit = (2 * self.texts.len()).max(64);
        }
        let new: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&new));
        new
    }
}

/// What is kept of a slice.
#[derive(Debug)]
pub(super) struct CompactSlice {
    address_type: Arc<str>,
    endpoints: Box<[CompactEndpoint]>,
    /// What the names of its Pods have in common, each text once: nearly always one.
    stems: Box<[Arc<str>]>,
}

#[derive(Debug)]
struct CompactEndpoint {
    /// Tells endpoints of one Service apart: a digest of the Pod, or of the first address when no Pod is named. Two that
    /// fell together would count as one: among 1,000 endpoints the odds are one in 10¹³.
    identity: Option<u64>,
    node: Option<Arc<str>>,
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

impl CompactSlice {
    pub(super) fn new(slice: &EndpointSlice, names: &mut Interner) -> Self {
        let endpoints =
            slice.endpoints.iter().flatten().map(|endpoint| CompactEndpoint::new(endpoint, names)).collect();
        let stems: BTreeSet<_> =
            slice.endpoints.iter().flatten().filter_map(pod).map(|(_, name)| names.get(stem(name))).collect();
        Self { address_type: names.get(&slice.address_type), endpoints, stems: stems.into_iter().collect() }
    }

    pub(super) fn stems(&self) -> &[Arc<str>] {
        &self.stems
    }

    /// A slice that is counted as the original; its addresses are the identities.
    pub(super) fn expand(&self) -> EndpointSlice {
        EndpointSlice {
            address_type: self.address_type.to_string(),
            endpoints: Some(self.endpoints.iter().map(CompactEndpoint::expand).collect()),
            ..EndpointSlice::default()
        }
    }
}

impl CompactEndpoint {
    fn new(endpoint: &Endpoint, names: &mut Interner) -> Self {
        let conditions = endpoint.conditions.as_ref();
        let identity = match pod(endpoint) {
            Some(pod) => Some(digest(pod)),
            None => endpoint.addresses.first().map(digest),
        };
        Self {
            identity,
            node: endpoint.node_name.as_deref().map(|node| names.get(node)),
            ready: conditions.and_then(|conditions| conditions.ready),
            serving: conditions.and_then(|conditions| conditions.serving),
            terminating: conditions.and_then(|conditions| conditions.terminating),
        }
    }

    fn expand(&self) -> Endpoint {
        let Self { identity, node, ready, serving, terminating } = self;
        Endpoint {
            addresses: identity.iter().map(|identity| format!("{identity:016x}")).collect(),
            node_name: node.as_deref().map(str::to_owned),
            conditions: Some(EndpointConditions { ready: *ready, serving: *serving, terminating: *terminating }),
            ..Endpoint::default()
        }
    }
}

/// Namespace and name of the Pod that serves.
fn pod(endpoint: &Endpoint) -> Option<(&str, &str)> {
    let pod = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"))?;
    Some((pod.namespace.as_deref()?, pod.name.as_deref()?))
}

fn digest(identity: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    identity.hash(&mut hasher);
    hasher.finish()
}

/// [`EndpointFacts`] of one Service, and the stems of its Pods' names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CompactFacts {
    stems: Box<[Arc<str>]>,
    ready: Box<[(Arc<str>, u32)]>,
    serving_terminating: Box<[(Arc<str>, u32)]>,
}

impl CompactFacts {
    pub(super) fn new(facts: &EndpointFacts, stems: BTreeSet<Arc<str>>, names: &mut Interner) -> Self {
        let EndpointFacts { ready_by_node, serving_terminating_by_node } = facts;
        let ready = ready_by_node.iter().map(|(node, count)| (names.get(node), *count)).collect();
        let serving = serving_terminating_by_node.iter().map(|(node, count)| (names.get(node), *count)).collect();
        Self { stems: stems.into_iter().collect(), ready, serving_terminating: serving }
    }

    pub(super) fn stems(&self) -> BTreeSet<String> {
        self.stems.iter().map(|stem| stem.to_string()).collect()
    }

    pub(super) fn expand(&self) -> EndpointFacts {
        let counts = |nodes: &[(Arc<str>, u32)]| nodes.iter().map(|(node, count)| (node.to_string(), *count)).collect();
        EndpointFacts {
            ready_by_node: counts(&self.ready),
            serving_terminating_by_node: counts(&self.serving_terminating),
        }
    }

    /// Ready endpoints on all nodes.
    pub(super) fn ready(&self) -> u32 {
        self.ready.iter().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests;
