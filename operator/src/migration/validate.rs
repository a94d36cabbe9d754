//! Step 2, no client: which Services are in scope, and the plan for each as of now.

use super::dereference::{Dereferenced, ItemView};
use k8s_openapi::api::core::v1::Service;
use portreeve_crds::TrafficMigration;
use portreeve_policy::migration::{PlanContext, PlannedItem, plan_service};
use portreeve_policy::selectors::{Selector, SelectorError};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// A migration with today's plan.
pub(crate) struct Validated<'a> {
    pub(crate) migration: &'a TrafficMigration,
    pub(crate) items: Vec<ItemView<'a>>,
    pub(crate) planned: Vec<PlannedItem>,
    pub(crate) others_busy: bool,
    /// Why the spec cannot be followed; then nothing is planned or changed.
    pub(crate) problem: Option<SelectorError>,
}

pub(crate) fn validate<'a>(found: Dereferenced<'a>, node_ports: &RangeInclusive<u16>) -> Validated<'a> {
    let Dereferenced { migration, items, legacy, ports_in_use, others_busy } = found;
    let (planned, problem) = match migration.spec.selector.as_ref().map(Selector::compile).transpose() {
        Ok(selector) => (plan(migration, selector.as_ref(), &legacy, &ports_in_use, node_ports), None),
        Err(problem) => (Vec::new(), Some(problem)),
    };
    Validated { migration, items, planned, others_busy, problem }
}

fn plan(
    migration: &TrafficMigration,
    selector: Option<&Selector>,
    legacy: &[&Service],
    ports_in_use: &BTreeMap<u16, (String, String)>,
    node_ports: &RangeInclusive<u16>,
) -> Vec<PlannedItem> {
    let context = PlanContext { node_port_range: node_ports.clone(), health_check_ports_in_use: ports_in_use };
    let empty = BTreeMap::new();
    let in_scope = |service: &Service| {
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let named = migration.spec.namespaces.as_ref().is_none_or(|all| all.iter().any(|name| name == namespace));
        let labels = service.metadata.labels.as_ref().unwrap_or(&empty);
        named && selector.is_none_or(|selector| selector.matches(labels))
    };
    legacy.iter().filter(|service| in_scope(service)).filter_map(|service| plan_service(service, &context)).collect()
}
