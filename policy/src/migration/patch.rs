//! Patches on a Service (RFC 6902), and what they may touch.

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, RemoveOperation, ReplaceOperation, TestOperation};
use portreeve_crds::migration::{PatchOp, PatchOperation, ServiceState};
use portreeve_crds::names::legacy;
use serde_json::{Value, json};

pub(super) const UID: &str = "/metadata/uid";
pub(super) const TYPE: &str = "/spec/type";
pub(super) const POLICY: &str = "/spec/externalTrafficPolicy";
const ANNOTATIONS: &str = "/metadata/annotations";
const HEALTH_CHECK_NODE_PORT: &str = "/spec/healthCheckNodePort";
const RESOURCE_VERSION: &str = "/metadata/resourceVersion";

/// What a patch does besides removing annotations.
#[derive(Clone, Copy)]
pub(super) struct Change {
    /// Whether the field goes from `Cluster` to `Local`.
    pub(super) to_local: bool,
    /// The health check node port to ask for; only with `to_local`.
    pub(super) health_check_port: Option<u16>,
}

pub(super) fn forward(uid: &str, before: &ServiceState, change: Change) -> Vec<PatchOperation> {
    let mut patch = identity(uid);
    patch.extend(before.annotations.iter().map(|(key, value)| test(annotation(key), json!(value))));
    patch.extend(before.type_.iter().map(|kind| test(TYPE, json!(kind))));
    patch.extend(before.external_traffic_policy.iter().map(|policy| test(POLICY, json!(policy))));
    // One key at a time: an annotation that somebody adds in between stays. What is left empty the API server drops.
    patch.extend(before.annotations.keys().map(|key| operation(PatchOp::Remove, annotation(key), None)));
    if change.to_local {
        let op = if before.external_traffic_policy.is_some() { PatchOp::Replace } else { PatchOp::Add };
        patch.push(operation(op, POLICY, Some(json!("Local"))));
        patch.extend(change.health_check_port.map(|port| add(HEALTH_CHECK_NODE_PORT, json!(port))));
    }
    patch
}

/// No row of the table leaves `Local`, so no inverse re-enters it, and none asks for a health check node port: the API
/// server releases the number by itself when the field goes back to `Cluster`.
pub(super) fn inverse(uid: &str, before: &ServiceState, change: Change, others_remain: bool) -> Vec<PatchOperation> {
    let mut patch = identity(uid);
    if change.to_local {
        patch.extend(before.type_.iter().map(|kind| test(TYPE, json!(kind))));
        patch.push(test(POLICY, json!("Local")));
    }
    patch.extend(restore_annotations(before, others_remain));
    if change.to_local {
        patch.push(restore_policy(before));
    }
    patch
}

/// Puts the annotations back; into a map of their own where the Service has none any more, since RFC 6902 adds no member
/// to what is not there.
pub(super) fn restore_annotations(before: &ServiceState, map_exists: bool) -> Vec<PatchOperation> {
    if before.annotations.is_empty() {
        return Vec::new();
    }
    if map_exists {
        return before.annotations.iter().map(|(key, value)| add(annotation(key), json!(value))).collect();
    }
    vec![add(ANNOTATIONS, json!(before.annotations))]
}

pub(super) fn restore_policy(before: &ServiceState) -> PatchOperation {
    match &before.external_traffic_policy {
        Some(policy) => operation(PatchOp::Replace, POLICY, Some(json!(policy))),
        None => operation(PatchOp::Remove, POLICY, None),
    }
}

pub(super) fn identity(uid: &str) -> Vec<PatchOperation> {
    // A manifest on disk has no UID to compare with.
    if uid.is_empty() { Vec::new() } else { vec![test(UID, json!(uid))] }
}

pub(super) fn test(path: impl Into<String>, value: Value) -> PatchOperation {
    operation(PatchOp::Test, path, Some(value))
}

/// Whether the patch changes `spec.externalTrafficPolicy`.
pub(super) fn changes_policy(patch: &[PatchOperation]) -> bool {
    patch.iter().any(|operation| operation.op != PatchOp::Test && operation.path == POLICY)
}

/// What is sent to the API server: `patch`, with a test on `resourceVersion` before it, so that nothing is changed that
/// was not looked at. An operation without a value counts as one with `null`.
#[must_use]
pub fn with_resource_version(patch: &[PatchOperation], resource_version: &str) -> Patch {
    let first = test(RESOURCE_VERSION, json!(resource_version));
    Patch(std::iter::once(&first).chain(patch).map(to_json_patch).collect())
}

/// The patch without the wish for a certain health check node port: what is sent after the API server refused the number
/// (HTTP 500), where the approval accepts a new one.
#[must_use]
pub fn without_health_check_port(patch: &[PatchOperation]) -> Vec<PatchOperation> {
    patch.iter().filter(|operation| operation.path != HEALTH_CHECK_NODE_PORT).cloned().collect()
}

/// The health check node port that the patch asks for.
#[must_use]
pub fn asked_health_check_port(patch: &[PatchOperation]) -> Option<u16> {
    let asked =
        patch.iter().find(|operation| operation.op == PatchOp::Add && operation.path == HEALTH_CHECK_NODE_PORT)?;
    asked.value.as_ref()?.as_u64()?.try_into().ok()
}

/// Whether the patch changes nothing but the four annotations, `externalTrafficPolicy` and `healthCheckNodePort`.
///
/// Ask this of a patch that was stored: who may write a TrafficMigrationItem must not get to write what the operator may.
#[must_use]
pub fn stays_in_bounds(patch: &[PatchOperation]) -> bool {
    patch.iter().all(|operation| {
        let path = operation.path.as_str();
        let legacy_map = || match (&operation.op, &operation.value) {
            (PatchOp::Add, Some(Value::Object(map))) => map.keys().all(|key| legacy::ALL.contains(&key.as_str())),
            _ => false,
        };
        operation.op == PatchOp::Test
            || path == POLICY
            || path == HEALTH_CHECK_NODE_PORT
            || legacy::ALL.iter().any(|key| path == annotation(key))
            || (path == ANNOTATIONS && legacy_map())
    })
}

fn annotation(key: &str) -> String {
    format!("{ANNOTATIONS}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn add(path: impl Into<String>, value: Value) -> PatchOperation {
    operation(PatchOp::Add, path, Some(value))
}

fn operation(op: PatchOp, path: impl Into<String>, value: Option<Value>) -> PatchOperation {
    PatchOperation { op, path: path.into(), value }
}

fn to_json_patch(operation: &PatchOperation) -> json_patch::PatchOperation {
    // A path that is no pointer becomes the name of a member that no Service has: the API server then refuses the whole
    // patch, and nothing else can be hit by it.
    let path =
        PointerBuf::parse(operation.path.clone()).unwrap_or_else(|_| PointerBuf::from_tokens([&*operation.path]));
    let value = operation.value.clone().unwrap_or_default();
    match operation.op {
        PatchOp::Test => json_patch::PatchOperation::Test(TestOperation { path, value }),
        PatchOp::Add => json_patch::PatchOperation::Add(AddOperation { path, value }),
        PatchOp::Replace => json_patch::PatchOperation::Replace(ReplaceOperation { path, value }),
        PatchOp::Remove => json_patch::PatchOperation::Remove(RemoveOperation { path }),
    }
}
