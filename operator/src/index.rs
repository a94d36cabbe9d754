//! All that the operator knows of the cluster: one value, one owner, no lock, no await.
//!
//! Watches feed it by [`Index::apply`], which answers what the change means for the controllers. It knows no client and
//! no clock, so that every behaviour can be shown by a plain test.

mod cluster;
mod report;
mod slice;
mod table;
mod trim;

use crate::key::Key;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::{Namespace, Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use portreeve_crds::names::legacy;
use portreeve_crds::{
    ClusterTrafficPolicy, DatapathConfig, NodeDatapath, ServiceTraffic, TrafficMigration, TrafficMigrationItem,
    TrafficPolicy,
};
use portreeve_policy::facts::{ClusterFacts, EndpointFacts, NamespaceFacts};
use portreeve_policy::policies::{PolicyProblem, PolicySet};
use slice::StoredSlice;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) use report::{StoredReport, StoredStatus};
pub use table::Delta;
pub(crate) use table::Table;

/// One thing that a watch told.
#[derive(Clone, Debug)]
pub enum Event {
    /// A Service.
    Service(Delta<Service>),
    /// An EndpointSlice.
    Slice(Delta<EndpointSlice>),
    /// A Namespace.
    Namespace(Delta<Namespace>),
    /// A Node.
    Node(Delta<Node>),
    /// A ClusterTrafficPolicy.
    ClusterPolicy(Delta<ClusterTrafficPolicy>),
    /// A TrafficPolicy.
    Policy(Delta<TrafficPolicy>),
    /// A ServiceTraffic, ours.
    Traffic(Delta<ServiceTraffic>),
    /// A TrafficMigration.
    Migration(Delta<TrafficMigration>),
    /// A TrafficMigrationItem, ours.
    Item(Delta<TrafficMigrationItem>),
    /// The DatapathConfig.
    DatapathConfig(Delta<DatapathConfig>),
    /// A NodeDatapath, an agent's.
    NodeDatapath(Delta<NodeDatapath>),
    /// The Secret with the webhook's authority.
    CaSecret(Delta<Secret>),
    /// The Secret with the webhook's serving certificate.
    TlsSecret(Delta<Secret>),
    /// Our ValidatingWebhookConfiguration.
    Validating(Delta<ValidatingWebhookConfiguration>),
    /// Our MutatingWebhookConfiguration.
    Mutating(Delta<MutatingWebhookConfiguration>),
}

/// What an event means for the controllers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Services to assess anew.
    pub services: BTreeSet<Key>,
    /// Services whose report changed, was made or is gone.
    pub reports: BTreeSet<Key>,
    /// Every Service is to be assessed anew: policies or the cluster's shape changed.
    pub all_services: bool,
    /// Policy objects changed, or what was written about them.
    pub policies: bool,
    /// Migrations, their items, or Services that one may be about, changed.
    pub migrations: bool,
    /// Secrets, webhook configurations, or what they are made from, changed.
    pub admission: bool,
    /// The DatapathConfig or what agents report changed.
    pub datapath: bool,
}

impl Changes {
    /// Adds another event's changes.
    pub fn merge(&mut self, other: Self) {
        let Self { services, reports, all_services, policies, migrations, admission, datapath } = other;
        self.services.extend(services);
        self.reports.extend(reports);
        self.all_services |= all_services;
        self.policies |= policies;
        self.migrations |= migrations;
        self.admission |= admission;
        self.datapath |= datapath;
    }
}

/// The state of the cluster as watches told it.
#[derive(Debug, Default)]
pub struct Index {
    pub(crate) services: Table<Key, Service>,
    slices: Table<Key, StoredSlice>,
    slices_of: BTreeMap<Key, BTreeSet<String>>,
    namespaces: Table<String, NamespaceFacts>,
    nodes: Table<String, cluster::NodeFacts>,
    facts: ClusterFacts,
    pub(crate) cluster_policies: Table<String, ClusterTrafficPolicy>,
    pub(crate) policies: Table<Key, TrafficPolicy>,
    compiled: Option<(Arc<PolicySet>, Arc<Vec<PolicyProblem>>)>,
    pub(crate) reports: Table<Key, StoredReport>,
    pub(crate) migrations: Table<String, TrafficMigration>,
    pub(crate) items: Table<Key, TrafficMigrationItem>,
    legacy: BTreeSet<Key>,
    /// Services that some item is about.
    migrating: BTreeSet<Key>,
    pub(crate) datapath_config: Table<String, DatapathConfig>,
    pub(crate) node_datapaths: Table<String, NodeDatapath>,
    pub(crate) ca_secret: Table<String, Secret>,
    pub(crate) tls_secret: Table<String, Secret>,
    pub(crate) validating: Table<String, ValidatingWebhookConfiguration>,
    pub(crate) mutating: Table<String, MutatingWebhookConfiguration>,
}

impl Index {
    /// Takes an event in and says what it changed.
    pub fn apply(&mut self, event: Event) -> Changes {
        match event {
            Event::Service(delta) => self.apply_service(delta),
            Event::Slice(delta) => self.apply_slice(delta),
            Event::Namespace(delta) => self.apply_namespace(delta),
            Event::Node(delta) => self.apply_node(delta),
            Event::ClusterPolicy(delta) => self.apply_cluster_policy(delta),
            Event::Policy(delta) => self.apply_policy(delta),
            Event::Traffic(delta) => {
                let delta = delta.map(StoredReport::new);
                let changed = self.reports.apply(delta, |r| r.key.clone(), StoredReport::gives_way_to);
                Changes { reports: changed.into_iter().map(|c| c.key).collect(), ..Changes::default() }
            }
            Event::Migration(delta) => {
                let changed = self.migrations.apply(delta, |m| name(&m.metadata), is_newer);
                Changes { migrations: !changed.is_empty(), ..Changes::default() }
            }
            Event::Item(delta) => {
                let changed = self.items.apply(delta.map(trim::item), |i| Key::of(&i.metadata), is_newer);
                for changed in &changed {
                    let service = |item: &TrafficMigrationItem| {
                        Key::new(changed.key.namespace.clone(), item.spec.service.name.clone())
                    };
                    match (&changed.old, self.items.get(&changed.key)) {
                        (_, Some(item)) => drop(self.migrating.insert(service(item))),
                        (Some(old), None) => drop(self.migrating.remove(&service(old))),
                        (None, None) => {}
                    }
                }
                Changes { migrations: !changed.is_empty(), ..Changes::default() }
            }
            Event::DatapathConfig(delta) => {
                let changed = self.datapath_config.apply(delta, |c| name(&c.metadata), is_newer);
                Changes { datapath: !changed.is_empty(), ..Changes::default() }
            }
            Event::NodeDatapath(delta) => {
                let changed =
                    self.node_datapaths.apply(delta.map(trim::node_datapath), |n| name(&n.metadata), is_newer);
                Changes { datapath: !changed.is_empty(), ..Changes::default() }
            }
            Event::CaSecret(delta) => {
                let changed = self.ca_secret.apply(delta, |s| name(&s.metadata), is_newer);
                Changes { admission: !changed.is_empty(), ..Changes::default() }
            }
            Event::TlsSecret(delta) => {
                let changed = self.tls_secret.apply(delta, |s| name(&s.metadata), is_newer);
                Changes { admission: !changed.is_empty(), ..Changes::default() }
            }
            Event::Validating(delta) => {
                let changed = self.validating.apply(delta, |c| name(&c.metadata), is_newer);
                Changes { admission: !changed.is_empty(), ..Changes::default() }
            }
            Event::Mutating(delta) => {
                let changed = self.mutating.apply(delta, |c| name(&c.metadata), is_newer);
                Changes { admission: !changed.is_empty(), ..Changes::default() }
            }
        }
    }

    /// Whether every kind has been listed once. Before that nothing may be decided: what is missing looks deleted.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.unsynced().is_empty()
    }

    /// The kinds that have not been listed yet, for `/readyz`.
    #[must_use]
    pub fn unsynced(&self) -> Vec<&'static str> {
        [
            ("services", self.services.synced()),
            ("endpointslices", self.slices.synced()),
            ("namespaces", self.namespaces.synced()),
            ("nodes", self.nodes.synced()),
            ("clustertrafficpolicies", self.cluster_policies.synced()),
            ("trafficpolicies", self.policies.synced()),
            ("servicetraffics", self.reports.synced()),
            ("trafficmigrations", self.migrations.synced()),
            ("trafficmigrationitems", self.items.synced()),
            ("datapathconfigs", self.datapath_config.synced()),
            ("nodedatapaths", self.node_datapaths.synced()),
            ("secrets", self.ca_secret.synced() && self.tls_secret.synced()),
            ("validatingwebhookconfigurations", self.validating.synced()),
            ("mutatingwebhookconfigurations", self.mutating.synced()),
        ]
        .into_iter()
        .filter_map(|(kind, synced)| (!synced).then_some(kind))
        .collect()
    }

    /// Every Service, in order.
    pub fn service_keys(&self) -> impl Iterator<Item = &Key> {
        self.services.keys()
    }

    /// Services that carry a legacy annotation.
    pub(crate) const fn legacy_services(&self) -> &BTreeSet<Key> {
        &self.legacy
    }

    /// A namespace's labels; one that is not known (yet) has that of its name alone.
    pub(crate) fn namespace(&self, name: &str) -> NamespaceFacts {
        self.namespaces
            .get(&name.to_owned())
            .cloned()
            .unwrap_or_else(|| NamespaceFacts::new(name.to_owned(), BTreeMap::new()))
    }

    /// Endpoints of a Service over all of its slices.
    pub(crate) fn endpoints(&self, service: &Key) -> EndpointFacts {
        let names = self.slices_of.get(service).into_iter().flatten();
        let stored = names.filter_map(|name| self.slices.get(&Key::new(service.namespace.clone(), name.clone())));
        let slices: Vec<_> = stored.map(StoredSlice::to_slice).collect();
        EndpointFacts::from_slices(&slices)
    }

    /// Nodes and zones.
    pub(crate) const fn cluster(&self) -> ClusterFacts {
        self.facts
    }

    /// The policies, compiled, and those that could not be. Compiled anew on the first call after a change, so that a
    /// list of a thousand policies is compiled once.
    pub(crate) fn compiled(&mut self) -> (Arc<PolicySet>, Arc<Vec<PolicyProblem>>) {
        let Self { compiled, cluster_policies, policies, .. } = self;
        let (set, problems) = compiled.get_or_insert_with(|| {
            let cluster: Vec<_> = cluster_policies.values().cloned().collect();
            let namespaced: Vec<_> = policies.values().cloned().collect();
            let compiled = PolicySet::compile(&cluster, &namespaced);
            (Arc::new(compiled.set), Arc::new(compiled.problems))
        });
        (Arc::clone(set), Arc::clone(problems))
    }

    /// Node ports that are taken, health check ones included, and the Services that hold them.
    pub(crate) fn taken_node_ports(&self) -> BTreeMap<u16, (String, String)> {
        let mut taken = BTreeMap::new();
        for (key, service) in self.services.iter() {
            let Some(spec) = &service.spec else { continue };
            let of_ports = spec.ports.iter().flatten().filter_map(|port| port.node_port);
            let ports = of_ports.chain(spec.health_check_node_port);
            for port in ports.filter_map(|port| u16::try_from(port).ok()).filter(|port| *port != 0) {
                taken.insert(port, (key.namespace.clone(), key.name.clone()));
            }
        }
        taken
    }

    fn apply_service(&mut self, delta: Delta<Service>) -> Changes {
        let mut changes = Changes::default();
        for changed in self.services.apply(delta.map(trim::service), |s| Key::of(&s.metadata), is_newer) {
            let is_legacy = self.services.get(&changed.key).is_some_and(has_legacy_annotation);
            changes.migrations |= is_legacy || changed.old.as_ref().is_some_and(has_legacy_annotation);
            // A Service that was migrated carries no annotation any more, but its item still watches it.
            changes.migrations |= self.migrating.contains(&changed.key);
            if is_legacy {
                self.legacy.insert(changed.key.clone());
            } else {
                self.legacy.remove(&changed.key);
            }
            changes.services.insert(changed.key);
        }
        changes
    }

    fn apply_slice(&mut self, delta: Delta<EndpointSlice>) -> Changes {
        let mut changes = Changes::default();
        for changed in self.slices.apply(delta.map(StoredSlice::new), |s| s.key.clone(), StoredSlice::gives_way_to) {
            let new = self.slices.get(&changed.key);
            if let (Some(old), Some(new)) = (&changed.old, new)
                && old.says_the_same(new)
            {
                continue;
            }
            let now = new.and_then(StoredSlice::service);
            changes.migrations |= now.as_ref().is_some_and(|service| self.migrating.contains(service));
            if let Some(before) = changed.old.as_ref().and_then(StoredSlice::service) {
                changes.migrations |= self.migrating.contains(&before);
                if now.as_ref() != Some(&before) {
                    let left = self.slices_of.get_mut(&before).is_some_and(|slices| {
                        slices.remove(&changed.key.name);
                        slices.is_empty()
                    });
                    if left {
                        self.slices_of.remove(&before);
                    }
                }
                changes.services.insert(before);
            }
            if let Some(now) = now {
                self.slices_of.entry(now.clone()).or_default().insert(changed.key.name.clone());
                changes.services.insert(now);
            }
        }
        changes
    }

    fn apply_namespace(&mut self, delta: Delta<Namespace>) -> Changes {
        let mut changes = Changes::default();
        for changed in self.namespaces.apply(delta.map(trim::namespace), |n| n.name.clone(), |_, _| true) {
            let labels = self.namespaces.get(&changed.key).map(|facts| &facts.labels);
            if changed.old.as_ref().map(|facts| &facts.labels) == labels {
                continue;
            }
            let first = Key { namespace: changed.key.clone(), name: String::new() };
            let of_namespace = self.services.range_from(&first).take_while(|key| key.namespace == changed.key);
            changes.services.extend(of_namespace.cloned());
        }
        changes
    }

    fn apply_node(&mut self, delta: Delta<Node>) -> Changes {
        self.nodes.apply(delta.map(cluster::node_facts), |n| n.name.clone(), |_, _| true);
        if !self.nodes.synced() {
            return Changes::default();
        }
        let facts = cluster::cluster_facts(self.nodes.values());
        let all_services = facts != self.facts;
        self.facts = facts;
        Changes { all_services, datapath: all_services, ..Changes::default() }
    }

    fn apply_cluster_policy(&mut self, delta: Delta<ClusterTrafficPolicy>) -> Changes {
        let mut changes = Changes::default();
        for changed in self.cluster_policies.apply(delta, |p| name(&p.metadata), is_newer) {
            let spec = self.cluster_policies.get(&changed.key).map(|policy| (&policy.metadata.uid, &policy.spec));
            if changed.old.as_ref().map(|policy| (&policy.metadata.uid, &policy.spec)) != spec {
                self.compiled = None;
                changes.all_services = true;
                changes.admission = true;
            }
            changes.policies = true;
        }
        changes
    }

    fn apply_policy(&mut self, delta: Delta<TrafficPolicy>) -> Changes {
        let mut changes = Changes::default();
        for changed in self.policies.apply(delta, |p| Key::of(&p.metadata), is_newer) {
            let spec = self.policies.get(&changed.key).map(|policy| (&policy.metadata.uid, &policy.spec));
            if changed.old.as_ref().map(|policy| (&policy.metadata.uid, &policy.spec)) != spec {
                self.compiled = None;
                let first = Key { namespace: changed.key.namespace.clone(), name: String::new() };
                let of_namespace =
                    self.services.range_from(&first).take_while(|key| key.namespace == changed.key.namespace);
                changes.services.extend(of_namespace.cloned());
                changes.admission = true;
            }
            changes.policies = true;
        }
        changes
    }
}

/// Whether a Service carries one of the four legacy annotations.
pub(crate) fn has_legacy_annotation(service: &Service) -> bool {
    let annotations = service.metadata.annotations.as_ref();
    annotations.is_some_and(|annotations| legacy::ALL.iter().any(|key| annotations.contains_key(*key)))
}

fn name(metadata: &ObjectMeta) -> String {
    metadata.name.clone().unwrap_or_default()
}

/// Whether `new` may take the place of `old`. Resource versions of one kind are ordered numbers (KEP-5504); the same
/// name with another UID is another object.
fn is_newer<T: kube::Resource>(old: &T, new: &T) -> bool {
    let version = |object: &T| object.meta().resource_version.as_ref().and_then(|version| version.parse::<u64>().ok());
    if old.meta().uid != new.meta().uid {
        return true;
    }
    match (version(old), version(new)) {
        // Equal ones are the same object, told twice: by the answer to our write and by the watch.
        (Some(old), Some(new)) => new > old,
        _ => true,
    }
}

#[cfg(test)]
pub(crate) mod tests;
