//! Step 1, no client: a migration, its items, and the Services that both are about.

use crate::index::Index;
use crate::key::Key;
use k8s_openapi::api::core::v1::Service;
use portreeve_crds::migration::ItemState;
use portreeve_crds::{Action, RuleId, TrafficMigration, TrafficMigrationItem};
use portreeve_policy::facts::EndpointFacts;
use portreeve_policy::policies::{PolicyRef, PolicySet};
use std::collections::BTreeMap;

/// What is known of one migration.
pub(crate) struct Dereferenced<'a> {
    pub(crate) migration: &'a TrafficMigration,
    pub(crate) items: Vec<ItemView<'a>>,
    /// Every Service that carries a legacy annotation, whatever migration it may belong to.
    pub(crate) legacy: Vec<&'a Service>,
    pub(crate) ports_in_use: BTreeMap<u16, (String, String)>,
    /// Another migration has a Service under watch: traffic of one Service at a time changes in the whole cluster.
    pub(crate) others_busy: bool,
}

/// A recorded item and the Service it is about.
pub(crate) struct ItemView<'a> {
    pub(crate) item: &'a TrafficMigrationItem,
    pub(crate) live: Option<&'a Service>,
    pub(crate) endpoints: EndpointFacts,
    /// The policy that has ETP001 at Fix for the Service; looked for only where the item may have to be undone.
    pub(crate) remover: Option<String>,
}

/// None when the migration is gone: its items go with it, by ownership.
pub(crate) fn dereference<'a>(index: &'a Index, name: &str) -> Option<Dereferenced<'a>> {
    let migration = index.migrations.get(&name.to_owned())?;
    let mut items = Vec::new();
    let mut others_busy = false;
    let mut policies = None;
    for (key, item) in index.items.iter() {
        if item.spec.migration == name {
            let service = Key::new(key.namespace.clone(), item.spec.service.name.clone());
            let live = index.services.get(&service);
            let state = item.status.as_ref().and_then(|status| status.state);
            let may_be_undone = state == Some(ItemState::Verifying) || migration.spec.rollback.unwrap_or(false);
            let remover = live.filter(|_| may_be_undone).and_then(|live| {
                let policies = policies.get_or_insert_with(|| compiled(index));
                remover(policies, index, live)
            });
            items.push(ItemView { item, live, endpoints: index.endpoints(&service), remover });
        } else {
            let state = item.status.as_ref().and_then(|status| status.state);
            others_busy |= state == Some(ItemState::Verifying);
        }
    }
    let legacy = index.legacy_services().iter().filter_map(|key| index.services.get(key)).collect();
    Some(Dereferenced { migration, items, legacy, ports_in_use: index.taken_node_ports(), others_busy })
}

fn compiled(index: &Index) -> PolicySet {
    let cluster: Vec<_> = index.cluster_policies.values().cloned().collect();
    let namespaced: Vec<_> = index.policies.values().cloned().collect();
    PolicySet::compile(&cluster, &namespaced).set
}

fn remover(policies: &PolicySet, index: &Index, service: &Service) -> Option<String> {
    let namespace = index.namespace(service.metadata.namespace.as_deref().unwrap_or_default());
    let rule = policies.effective(&namespace, service).rules.remove(&RuleId::ETP001)?;
    let policy = rule.policy.as_ref().map_or_else(|| PolicyRef::BUILT_IN.to_owned(), ToString::to_string);
    (rule.action == Action::Fix).then_some(policy)
}
