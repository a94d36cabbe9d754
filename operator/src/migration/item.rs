//! One item beside its live Service. Pure.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource as _;
use portreeve_crds::migration::{ItemState, PatchOp, PatchOperation, TrafficMigrationItemStatus};
use portreeve_crds::{TrafficMigration, TrafficMigrationItem, TrafficMigrationItemSpec, names};
use portreeve_policy::migration::{PlannedItem, without_health_check_port};
use serde_json::Value;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Longest object name and longest label value.
const LONGEST_NAME: usize = 253;
const LONGEST_LABEL: usize = 63;

/// The item that records `planned`. Its name follows from migration and Service: a Service's name holds no dot, so two
/// Services never share one, and a second try to record meets the first.
pub(crate) fn record(migration: &TrafficMigration, planned: &PlannedItem) -> TrafficMigrationItem {
    let name = migration.metadata.name.clone().unwrap_or_default();
    let owner = OwnerReference {
        api_version: TrafficMigration::api_version(&()).into_owned(),
        kind: TrafficMigration::kind(&()).into_owned(),
        name: name.clone(),
        uid: migration.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: None,
    };
    TrafficMigrationItem {
        metadata: ObjectMeta {
            name: Some(shortened(&format!("{name}.{}", planned.name), LONGEST_NAME)),
            namespace: Some(planned.namespace.clone()),
            labels: Some(BTreeMap::from([(names::LABEL_MIGRATION.to_owned(), shortened(&name, LONGEST_LABEL))])),
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: planned.to_spec(&name),
        status: None,
    }
}

/// `text`, or its beginning and a hash of the whole where it is longer than `most`.
fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    let head: String = text.chars().take(most - 17).collect();
    format!("{}-{:016x}", head.trim_end_matches(['.', '-']), hasher.finish())
}

/// How far an item is. One without a status has just been recorded.
pub(crate) fn state(status: &TrafficMigrationItemStatus) -> ItemState {
    status.state.unwrap_or(ItemState::Planned)
}

/// The item was written to be applied, and whether it was is not recorded yet.
pub(crate) fn intended(status: &TrafficMigrationItemStatus) -> bool {
    let at_rest = matches!(
        state(status),
        ItemState::Planned | ItemState::Proposed | ItemState::AwaitingApproval | ItemState::Blocked
    );
    at_rest && status.applied_at.is_some()
}

/// Whether what was recorded still is what would be planned. The health check node port may differ: which numbers are
/// free changes while a plan is applied, and must not void the approval of the rest. Everything else is compared, so that
/// an item that somebody edited is never applied.
pub(crate) fn same_plan(recorded: &TrafficMigrationItemSpec, planned: &PlannedItem) -> bool {
    let port_free = |patch: &[PatchOperation]| without_health_check_port(patch);
    recorded.service.uid == planned.uid
        && recorded.decision == planned.decision
        && recorded.before == planned.before
        && recorded.owner == planned.owner
        && port_free(&recorded.patch) == port_free(&planned.patch)
}

/// Whether the live Service is as `patch` leaves it. The health check node port is not looked at: the API server may have
/// given another one.
pub(crate) fn holds_outcome(patch: &[PatchOperation], uid: &str, live: &Service) -> bool {
    if live.metadata.uid.as_deref() != Some(uid) {
        return false;
    }
    let Ok(live) = serde_json::to_value(live) else { return false };
    without_health_check_port(patch).iter().all(|operation| {
        let found = live.pointer(&operation.path);
        match operation.op {
            PatchOp::Test => true,
            PatchOp::Remove => found.is_none(),
            PatchOp::Add | PatchOp::Replace => contains(found, operation.value.as_ref()),
        }
    })
}

/// Whether `found` is `wanted`; of two objects, whether it has every wanted member.
fn contains(found: Option<&Value>, wanted: Option<&Value>) -> bool {
    match (found, wanted) {
        (Some(Value::Object(found)), Some(Value::Object(wanted))) => {
            wanted.iter().all(|(key, value)| found.get(key) == Some(value))
        }
        (found, wanted) => found == wanted,
    }
}
