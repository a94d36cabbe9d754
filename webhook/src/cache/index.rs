//! The writer's side of the cache: watch events in, snapshots out. One owner, synchronous, no lock.

use super::compact::{CompactFacts, Interner};
use super::kinds::{Cached, Key, Source};
use super::services::CompactService;
use super::slices::Slices;
use super::{Namespace, Snapshot};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::watcher::Event;
use portreeve_crds::{ClusterTrafficPolicy, TrafficPolicy};
use portreeve_policy::{ClusterFacts, NamespaceFacts, PolicySet};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Everything that is remembered, and the next snapshot in the making.
#[derive(Debug, Default)]
pub struct Index {
    pub(super) namespaces: BTreeMap<Arc<str>, Arc<Namespace>>,
    pub(super) slices: BTreeMap<Arc<str>, Slices>,
    /// Zone of each node, where it has one.
    pub(super) nodes: BTreeMap<String, Option<String>>,
    pub(super) cluster_policies: BTreeMap<String, ClusterTrafficPolicy>,
    pub(super) policies: BTreeMap<Key, TrafficPolicy>,
    compiled: Arc<PolicySet>,
    policy_problems: usize,
    policies_changed: bool,
    changed: bool,
    names: Interner,
    newly_listed: bool,
    listed: BTreeSet<Source>,
    /// Per kind under a new list: the objects that it named so far.
    lists: BTreeMap<Source, BTreeSet<Key>>,
}

impl Index {
    /// An index that knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in one event. During a new list the old objects stay until it is complete, so that a lost watch never
    /// looks like an empty cluster.
    pub fn apply<K: Cached>(&mut self, event: Event<K>) {
        match event {
            Event::Init => {
                self.lists.insert(K::SOURCE, BTreeSet::new());
            }
            Event::InitApply(object) => {
                if let Some(named) = self.lists.get_mut(&K::SOURCE) {
                    named.insert(object.key());
                }
                object.put(self);
            }
            Event::InitDone => {
                let named = self.lists.remove(&K::SOURCE).unwrap_or_default();
                for key in K::known(self) {
                    if !named.contains(&key) {
                        K::remove(self, &key);
                    }
                }
                self.newly_listed |= self.listed.insert(K::SOURCE);
            }
            Event::Apply(object) => object.put(self),
            Event::Delete(object) => K::remove(self, &object.key()),
        }
    }

    /// Whether a new snapshot would tell readers anything. Until every kind was listed, only the completion of a list
    /// does: nobody decides from half a cluster, and each snapshot of it would have to be copied for the next event.
    #[must_use]
    pub fn changed(&self) -> bool {
        let complete = self.listed.len() == Source::ALL.len();
        self.newly_listed || (complete && (self.changed || self.policies_changed))
    }

    /// The present state. Compiles the policies if they changed, and logs those that cannot be compiled.
    pub fn snapshot(&mut self) -> Snapshot {
        if std::mem::take(&mut self.policies_changed) {
            self.compile();
        }
        (self.changed, self.newly_listed) = (false, false);
        let zones: BTreeSet<_> = self.nodes.values().flatten().collect();
        let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);
        Snapshot {
            namespaces: self.namespaces.clone(),
            policies: Arc::clone(&self.compiled),
            policy_count: self.cluster_policies.len() + self.policies.len(),
            policy_problems: self.policy_problems,
            cluster: ClusterFacts { nodes: count(self.nodes.len()), zones: count(zones.len()) },
            missing: Source::ALL.into_iter().filter(|source| !self.listed.contains(source)).collect(),
        }
    }

    fn compile(&mut self) {
        let cluster: Vec<_> = self.cluster_policies.values().cloned().collect();
        let namespaced: Vec<_> = self.policies.values().cloned().collect();
        let compiled = PolicySet::compile(&cluster, &namespaced);
        for problem in &compiled.problems {
            tracing::warn!(policy = %problem.policy, error = %problem.error, "Policy could not be compiled");
        }
        self.policy_problems = compiled.problems.len();
        self.compiled = Arc::new(compiled.set);
    }

    pub(super) fn policies_changed(&mut self) {
        self.policies_changed = true;
    }

    pub(super) fn put_namespace(&mut self, facts: NamespaceFacts) {
        let entry = self.namespaces.entry(facts.name.as_str().into()).or_default();
        if entry.facts.as_ref() != Some(&facts) {
            Arc::make_mut(entry).facts = Some(facts);
            self.changed = true;
        }
    }

    pub(super) fn remove_namespace(&mut self, name: &str) {
        if let Some(entry) = self.namespaces.get_mut(name) {
            Arc::make_mut(entry).facts = None;
            self.forget_if_empty(name);
        }
    }

    pub(super) fn put_service(&mut self, service: Service) {
        let (namespace, name) = service.key();
        let Some(compact) = CompactService::new(service, &mut self.names) else {
            return self.remove_service(&namespace, &name);
        };
        let entry = self.namespaces.entry(namespace.as_str().into()).or_default();
        if !entry.services.holds(&compact) {
            Arc::make_mut(&mut Arc::make_mut(entry).services).put(compact);
            self.changed = true;
        }
    }

    pub(super) fn remove_service(&mut self, namespace: &str, name: &str) {
        let Some(entry) = self.namespaces.get_mut(namespace) else { return };
        if entry.services.has(name) {
            Arc::make_mut(&mut Arc::make_mut(entry).services).remove(name);
            self.forget_if_empty(namespace);
        }
    }

    /// Namespace and name of every Service held.
    pub(super) fn services(&self) -> impl Iterator<Item = Key> {
        self.namespaces
            .iter()
            .flat_map(|(namespace, entry)| entry.services.names().map(|name| (namespace.to_string(), name.to_owned())))
    }

    pub(super) fn put_slice(&mut self, namespace: &str, slice: &EndpointSlice) {
        let slices = self.slices.entry(namespace.into()).or_default();
        let touched = slices.put(slice, &mut self.names);
        self.recount(namespace, &touched);
    }

    pub(super) fn remove_slice(&mut self, namespace: &str, name: &str) {
        let Some(slices) = self.slices.get_mut(namespace) else { return };
        let touched = slices.remove(name);
        self.recount(namespace, touched.as_slice());
        if self.slices.get(namespace).is_some_and(Slices::is_empty) {
            self.slices.remove(namespace);
            self.forget_if_empty(namespace);
        }
    }

    pub(super) fn put_node(&mut self, name: String, zone: Option<String>) {
        self.changed |= self.nodes.insert(name, zone.clone()) != Some(zone);
    }

    pub(super) fn remove_node(&mut self, name: &str) {
        self.changed |= self.nodes.remove(name).is_some();
    }

    fn recount(&mut self, namespace: &str, services: &[Arc<str>]) {
        for service in services {
            let facts = self.slices.get(namespace).and_then(|slices| slices.facts(service));
            let stems = self.slices.get(namespace).map(|slices| slices.stems(service)).unwrap_or_default();
            let facts = facts.map(|facts| CompactFacts::new(&facts, stems, &mut self.names));
            let entry = self.namespaces.entry(namespace.into()).or_default();
            if entry.endpoints.get(service).map(Arc::as_ref) == facts.as_ref() {
                continue;
            }
            self.changed = true;
            let endpoints = Arc::make_mut(&mut Arc::make_mut(entry).endpoints);
            match facts {
                Some(facts) => endpoints.insert(Arc::clone(service), Arc::new(facts)),
                None => endpoints.remove(service),
            };
        }
    }

    fn forget_if_empty(&mut self, namespace: &str) {
        self.changed = true;
        let empty =
            |entry: &Arc<Namespace>| entry.facts.is_none() && entry.services.is_empty() && entry.endpoints.is_empty();
        if self.namespaces.get(namespace).is_some_and(empty) {
            self.namespaces.remove(namespace);
        }
    }
}
