//! TrafficMigration and its items: the way from legacy annotations to the field, planned, approved, applied, undone.

use crate::schema::{any_value, conditions};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Condition: the plan in `status.planHash` is complete.
pub const PLANNED: &str = "Planned";
/// Condition: the user approved exactly the plan shown.
pub const APPROVED: &str = "Approved";
/// Condition: every item has come to its end.
pub const COMPLETED: &str = "Completed";

/// A migration of Services that still carry the annotations of Kubernetes 1.4 to 1.7.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "portreeve.io",
    version = "v1alpha1",
    kind = "TrafficMigration",
    plural = "trafficmigrations",
    shortname = "tmig",
    category = "portreeve",
    status = "TrafficMigrationStatus",
    derive = "PartialEq",
    doc = "TrafficMigration finds Services with legacy external-traffic annotations, plans what to do with each, shows the \
           plan, waits for approval of exactly that plan, applies it one Service at a time, and can go back.",
    printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode", description = "Plan, Propose or Apply"),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "Where the migration stands"
    ),
    printcolumn(
        name = "Safe",
        type_ = "integer",
        json_path = ".status.counts.safe",
        description = "Items that change no traffic"
    ),
    printcolumn(
        name = "Approval",
        type_ = "integer",
        json_path = ".status.counts.needsApproval",
        description = "Items that change traffic"
    ),
    printcolumn(
        name = "Invalid",
        type_ = "integer",
        json_path = ".status.counts.invalid",
        description = "Items with a value that nobody can interpret"
    ),
    printcolumn(name = "Done", type_ = "integer", json_path = ".status.counts.done", description = "Items applied"),
    printcolumn(
        name = "Failed",
        type_ = "integer",
        json_path = ".status.counts.failed",
        description = "Items that failed"
    ),
    printcolumn(
        name = "Plan",
        type_ = "string",
        json_path = ".status.planHash",
        priority = "1",
        description = "Hash to approve"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation"
    )
)]
#[x_kube(validation = Rule::new("!has(self.rollback) || !self.rollback || self.mode == 'Apply'")
    .message("`rollback` may be set only with mode Apply: nothing has been applied otherwise"))]
#[x_kube(validation = Rule::new("!has(self.approval) || self.mode == 'Apply'")
    .message("`approval` may be set only with mode Apply"))]
#[serde(rename_all = "camelCase")]
pub struct TrafficMigrationSpec {
    /// Plan: read only. Propose: patches are written to the items, Services stay untouched. Apply: safe items are done,
    /// traffic-changing ones once `approval` names the plan.
    pub mode: MigrationMode,
    /// Namespaces to look at; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(min = 1, max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub namespaces: Option<Vec<String>>,
    /// Labels of the Services; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
    /// The user's word for exactly one plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// What must hold before traffic is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gates: Option<Gates>,
    /// How a change is watched after it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// Whether Services that Helm, Argo CD, Flux or `kubectl apply` own are changed too. Their source would bring the
    /// annotation back, so by default such items are only proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include_owned: Option<bool>,
    /// Undo: every applied item becomes as it was before, latest first. Once more after a failure: any change of the spec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<bool>,
}

/// How far a migration may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(
    description = "Plan: read only. Propose: patches are recorded for you to apply at the source. Apply: Services \
                          are changed, traffic-changing ones only after approval."
)]
pub enum MigrationMode {
    /// Read only.
    Plan,
    /// Patches are recorded for the user to apply at the source.
    Propose,
    /// Services are changed.
    Apply,
}

/// Approval of one plan.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// `status.planHash` as it was shown. Any change of the plan makes it void.
    #[schemars(length(min = 71, max = 71), regex(pattern = r"^sha256:[0-9a-f]{64}$"))]
    pub plan_hash: String,
    /// Whether a new healthCheckNodePort is accepted where the old number cannot be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept_new_health_check_node_port: Option<bool>,
}

/// What must hold before traffic is changed.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gates {
    /// Least number of nodes with a ready Pod. 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 5000))]
    pub min_nodes: Option<i32>,
    /// Largest predicted imbalance, in permille; absent means no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1000, max = 100_000))]
    pub max_ratio_permille: Option<i32>,
}

/// How a change is watched after it was made.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verify {
    /// Seconds for which the Service must keep ready Pods and its new policy. 30 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub window_seconds: Option<i32>,
    /// Whether a failed watch undoes the change. true when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_rollback: Option<bool>,
}

/// What the operator found and did.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficMigrationStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Where the migration stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<MigrationPhase>,
    /// Hash over every traffic-changing item of the plan; approving it approves exactly those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 80))]
    pub plan_hash: Option<String>,
    /// Items by decision and by state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<MigrationCounts>,
    /// Planned, Approved, Completed, Ready, Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// Where a migration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "Where the migration stands.")]
pub enum MigrationPhase {
    /// The plan is shown; nothing was changed.
    Planned,
    /// Patches are recorded on the items; nothing was changed. Mode Propose ends here, and Apply where every Service
    /// belongs to a source that would bring its annotation back.
    Proposed,
    /// Traffic-changing items wait for `spec.approval`.
    AwaitingApproval,
    /// Items are being applied or watched.
    Applying,
    /// All that is left to apply is held back: by a gate, or by a health check node port that cannot be had. What holds
    /// an item back is in its message; a gate is looked at again whenever the Service's endpoints change.
    Blocked,
    /// Every item came to its end: applied, proposed for its source, or never to be touched.
    Completed,
    /// Items are being undone.
    RollingBack,
    /// Every applied item was undone.
    RolledBack,
    /// At least one item failed; nothing more is done without a change of the spec.
    Failed,
}

/// Numbers of items. The first four add up to all items; the others say how far they are.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationCounts {
    /// Items that change no traffic.
    pub safe: i32,
    /// Items that change traffic.
    pub needs_approval: i32,
    /// Items with a value that nobody can interpret; never touched.
    pub invalid: i32,
    /// Items applied (and watched through their window).
    pub done: i32,
    /// Items whose owner would bring the annotation back; patch recorded only.
    pub proposed: i32,
    /// Items held back by a gate.
    pub blocked: i32,
    /// Items undone.
    pub rolled_back: i32,
    /// Items that failed.
    pub failed: i32,
}

/// One Service of a migration; in the Service's namespace, owned by the TrafficMigration.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "portreeve.io",
    version = "v1alpha1",
    kind = "TrafficMigrationItem",
    plural = "trafficmigrationitems",
    namespaced,
    shortname = "tmi",
    category = "portreeve",
    status = "TrafficMigrationItemStatus",
    derive = "PartialEq",
    doc = "TrafficMigrationItem is one Service of a TrafficMigration: what was decided, the patch, the patch that undoes \
           it, and how far it is. The operator writes it.",
    printcolumn(name = "Service", type_ = "string", json_path = ".spec.service.name", description = "The Service"),
    printcolumn(
        name = "Decision",
        type_ = "string",
        json_path = ".spec.decision",
        description = "Safe, NeedsApproval or Invalid"
    ),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state", description = "How far it is"),
    printcolumn(
        name = "Owner",
        type_ = "string",
        json_path = ".spec.owner",
        description = "Who would bring the annotation back"
    ),
    printcolumn(
        name = "Migration",
        type_ = "string",
        json_path = ".spec.migration",
        description = "The TrafficMigration"
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.message",
        priority = "1",
        description = "What happened last"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct TrafficMigrationItemSpec {
    /// Name of the TrafficMigration.
    #[schemars(length(max = 253))]
    pub migration: String,
    /// The Service.
    pub service: ServiceIdentity,
    /// What was decided.
    pub decision: Decision,
    /// Why, in one sentence.
    #[schemars(length(max = 1024))]
    pub reason: String,
    /// The Service's relevant state when the plan was made.
    pub before: ServiceState,
    /// Who would bring the annotation back, if anyone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Owner>,
    /// The change, as an RFC 6902 JSON Patch whose `test` operations make it fail if the Service is no longer as planned.
    #[schemars(length(max = 32))]
    pub patch: Vec<PatchOperation>,
    /// The patch that undoes it, recorded before anything is changed.
    #[schemars(length(max = 32))]
    pub inverse: Vec<PatchOperation>,
    /// Things the user should know and that no patch can mend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 1024)))]
    pub notes: Vec<String>,
}

/// Identity of a Service.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceIdentity {
    /// Its name; the namespace is the item's own.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its UID: a Service made anew under the same name is another one.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// What was decided for a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(
    description = "Safe: no traffic changes. NeedsApproval: traffic changes. Invalid: the annotation's value means \
                          nothing; never touched."
)]
pub enum Decision {
    /// No traffic changes.
    Safe,
    /// Traffic changes.
    NeedsApproval,
    /// The annotation's value means nothing; never guessed, never touched.
    Invalid,
}

/// The part of a Service that a migration reads.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceState {
    /// `spec.type`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub type_: Option<String>,
    /// `spec.externalTrafficPolicy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub external_traffic_policy: Option<String>,
    /// `spec.healthCheckNodePort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_node_port: Option<i32>,
    /// The legacy annotations, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// Who manages a Service's manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "Who manages the Service's manifest and would bring the annotation back.")]
pub enum Owner {
    /// A Helm release.
    Helm,
    /// An Argo CD application.
    ArgoCD,
    /// A Flux Kustomization or HelmRelease.
    Flux,
    /// `kubectl apply` (last-applied annotation holds the legacy annotation).
    KubectlApply,
}

impl Owner {
    /// The owner's name as people write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Helm => "Helm",
            Self::ArgoCD => "Argo CD",
            Self::Flux => "Flux",
            Self::KubectlApply => "kubectl apply",
        }
    }
}

/// One operation of a JSON Patch (RFC 6902).
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PatchOperation {
    /// test, add, replace or remove.
    pub op: PatchOp,
    /// JSON Pointer (RFC 6901).
    #[schemars(length(max = 512))]
    pub path: String,
    /// The value, for test, add and replace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_value")]
    pub value: Option<serde_json::Value>,
}

/// Kind of a patch operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(description = "Operation of RFC 6902.")]
pub enum PatchOp {
    /// The value must be this, or the whole patch fails.
    Test,
    /// Add a member.
    Add,
    /// Replace a value.
    Replace,
    /// Remove a member.
    Remove,
}

/// How far an item is.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficMigrationItemStatus {
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ItemState>,
    /// What happened last, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// When the patch was applied (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub applied_at: Option<String>,
    /// healthCheckNodePort after the change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_node_port: Option<i32>,
    /// Attempts that met a conflict and were planned anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conflicts: Option<i32>,
}

/// How far an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "How far the item is.")]
pub enum ItemState {
    /// Planned; nothing was changed.
    Planned,
    /// The patch is for the owner's source; nothing was changed.
    Proposed,
    /// Waits for approval of the plan.
    AwaitingApproval,
    /// A gate holds it back.
    Blocked,
    /// Applied and being watched.
    Verifying,
    /// Applied.
    Done,
    /// Undone.
    RolledBack,
    /// Never touched: the value means nothing.
    Invalid,
    /// Failed; the message says how.
    Failed,
    /// The Service is gone.
    Gone,
}
