//! ClusterTrafficPolicy and TrafficPolicy: what may be set, by whom, and what happens otherwise.

use crate::rule::{Action, Mode, RuleId};
use crate::schema::conditions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A traffic policy for the whole cluster.
///
/// Precedence for one Service (GEP-713): cluster `overrides`, then the namespace's TrafficPolicies, then cluster
/// `defaults`, then the built-in defaults; within a level higher `priority`, then older, then by name.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "portreeve.io",
    version = "v1alpha1",
    kind = "ClusterTrafficPolicy",
    plural = "clustertrafficpolicies",
    shortname = "ctp",
    category = "portreeve",
    status = "PolicyStatus",
    derive = "PartialEq",
    doc = "ClusterTrafficPolicy says for the whole cluster where externalTrafficPolicy may be used, what happens \
           otherwise, and how Pods are spread.",
    printcolumn(
        name = "Mode",
        type_ = "string",
        json_path = ".spec.enforcement.mode",
        description = "Ceiling over all actions"
    ),
    printcolumn(
        name = "Priority",
        type_ = "integer",
        json_path = ".spec.priority",
        description = "Higher wins within a level"
    ),
    printcolumn(
        name = "Services",
        type_ = "integer",
        json_path = ".status.services",
        description = "Services that the policy matches"
    ),
    printcolumn(
        name = "Violations",
        type_ = "integer",
        json_path = ".status.violations",
        description = "Findings of action Warn or above"
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].status",
        description = "The policy was understood"
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Programmed')].status",
        description = "The engines work by it"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        priority = "1",
        description = "Reason of the Ready condition"
    )
)]
#[x_kube(validation = Rule::new("has(self.defaults) != has(self.overrides)")
    .message("must set exactly one of `defaults` (lower levels may change it) and `overrides` (they may only tighten it)"))]
#[serde(rename_all = "camelCase")]
pub struct ClusterTrafficPolicySpec {
    /// Which Services the policy is for. An empty `match` means all of them.
    #[serde(rename = "match", default, skip_serializing_if = "Option::is_none")]
    pub match_: Option<ClusterMatch>,
    /// Rank among cluster policies of the same kind of body: higher wins. 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub priority: Option<i32>,
    /// How far the policy may go.
    pub enforcement: Enforcement,
    /// What holds unless a namespace's TrafficPolicy says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub defaults: Option<PolicyBody>,
    /// What holds in any case; a namespace's TrafficPolicy may only be stricter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overrides: Option<PolicyBody>,
}

/// A traffic policy for the Services of its own namespace. It may tighten, never loosen, what a cluster policy overrides.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "portreeve.io",
    version = "v1alpha1",
    kind = "TrafficPolicy",
    plural = "trafficpolicies",
    namespaced,
    shortname = "tp",
    category = "portreeve",
    status = "PolicyStatus",
    derive = "PartialEq",
    doc = "TrafficPolicy says for its own namespace where externalTrafficPolicy may be used, what happens otherwise, and \
           how Pods are spread. It may only tighten what a ClusterTrafficPolicy overrides.",
    printcolumn(
        name = "Mode",
        type_ = "string",
        json_path = ".spec.enforcement.mode",
        description = "Ceiling over all actions"
    ),
    printcolumn(
        name = "Priority",
        type_ = "integer",
        json_path = ".spec.priority",
        description = "Higher wins within the namespace"
    ),
    printcolumn(
        name = "Services",
        type_ = "integer",
        json_path = ".status.services",
        description = "Services that the policy matches"
    ),
    printcolumn(
        name = "Violations",
        type_ = "integer",
        json_path = ".status.violations",
        description = "Findings of action Warn or above"
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Accepted')].status",
        description = "The policy was understood"
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Programmed')].status",
        description = "The engines work by it"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason",
        priority = "1",
        description = "Reason of the Ready condition"
    )
)]
#[x_kube(validation = Rule::new("has(self.rules) || has(self.externalTrafficPolicy) || has(self.spread) || has(self.imbalance) || has(self.dataPath)")
    .message("must set at least one of `rules`, `externalTrafficPolicy`, `spread`, `imbalance` and `dataPath`"))]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicySpec {
    /// Which Services of the namespace the policy is for. An empty `match` means all of them.
    #[serde(rename = "match", default, skip_serializing_if = "Option::is_none")]
    pub match_: Option<ServiceMatch>,
    /// Rank among the namespace's policies: higher wins. 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub priority: Option<i32>,
    /// How far the policy may go.
    pub enforcement: Enforcement,
    /// Actions of single rules; rules that are not listed keep what the next lower level says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".to_string()]))]
    pub rules: Option<Vec<RuleSetting>>,
    /// What the policy asks of the field itself (rule ETP006).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<FieldRequirement>,
    /// Spreading of the Pods behind Services with `externalTrafficPolicy: Local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
    /// Limit of the predicted imbalance (rule ETP008).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imbalance: Option<ImbalanceLimit>,
    /// What the node agents do with the Services' external traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_path: Option<DataPath>,
}

impl TrafficPolicySpec {
    /// The part that a cluster policy carries under `defaults` or `overrides`.
    #[must_use]
    pub fn body(&self) -> PolicyBody {
        let Self {
            match_: _,
            priority: _,
            enforcement: _,
            rules,
            external_traffic_policy,
            spread,
            imbalance,
            data_path,
        } = self;
        PolicyBody {
            rules: rules.clone(),
            external_traffic_policy: external_traffic_policy.clone(),
            spread: spread.clone(),
            imbalance: imbalance.clone(),
            data_path: data_path.clone(),
        }
    }
}

/// What a policy asks for.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyBody {
    /// Actions of single rules; rules that are not listed keep what the next lower level says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".to_string()]))]
    pub rules: Option<Vec<RuleSetting>>,
    /// What the policy asks of the field itself (rule ETP006).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<FieldRequirement>,
    /// Spreading of the Pods behind Services with `externalTrafficPolicy: Local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
    /// Limit of the predicted imbalance (rule ETP008).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imbalance: Option<ImbalanceLimit>,
    /// What the node agents do with the Services' external traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_path: Option<DataPath>,
}

/// Which Services of which namespaces a cluster policy is for. Absent parts match everything.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterMatch {
    /// Labels of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// Labels of the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_selector: Option<LabelSelector>,
    /// Service types; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub types: Option<Vec<ServiceType>>,
}

/// Which Services of its namespace a policy is for. Absent parts match everything.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceMatch {
    /// Labels of the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_selector: Option<LabelSelector>,
    /// Service types; absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub types: Option<Vec<ServiceType>>,
}

/// `spec.type` of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "Type of a Service.")]
pub enum ServiceType {
    /// Reachable inside the cluster only (headless ones included), unless it has externalIPs.
    ClusterIP,
    /// Reachable on a port of every node.
    NodePort,
    /// Reachable through a load balancer.
    LoadBalancer,
    /// An alias in DNS.
    ExternalName,
}

impl ServiceType {
    /// The type as it is written in manifests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalName => "ExternalName",
        }
    }
}

/// How far a policy may go.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Enforcement {
    /// Ceiling over the actions of the policy's rules.
    pub mode: Mode,
}

/// The action of one rule.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.params) || !has(self.params.minNodes) || self.id == 'ETP005'")
    .message("`params.minNodes` may be set only for rule ETP005"))]
#[serde(rename_all = "camelCase")]
pub struct RuleSetting {
    /// The rule.
    pub id: RuleId,
    /// What happens when it finds something.
    pub action: Action,
    /// Numbers that the rule compares with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<RuleParams>,
}

/// Parameters of a rule.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleParams {
    /// ETP005: the least number of nodes with a ready Pod. 1 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5000))]
    pub min_nodes: Option<i32>,
}

/// What a policy asks of `spec.externalTrafficPolicy` itself.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FieldRequirement {
    /// `Local`: NodePort and LoadBalancer Services must keep the client's address. `Any`: either value is fine.
    pub required: RequiredPolicy,
}

/// The value that a policy requires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "Local: the client's address must be kept. Any: either value is fine.")]
pub enum RequiredPolicy {
    /// The client's address must be kept.
    Local,
    /// Either value is fine.
    Any,
}

/// Spreading of Pods over nodes.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[x_kube(validation = Rule::new("!has(self.weight) || !has(self.mechanism) || self.mechanism != 'TopologySpread'")
    .message("`weight` may be set only for mechanisms Auto and PodAntiAffinity"))]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// Whether Pods are left alone, or spread when they are created.
    pub mode: SpreadMode,
    /// How they are spread. Auto when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<SpreadMechanism>,
    /// Weight of the injected preferred anti-affinity term. 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub weight: Option<i32>,
}

/// Whether Pods are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "Off: Pods are left alone. Inject: new Pods get it; only in enforcement mode Enforce.")]
pub enum SpreadMode {
    /// Pods are left alone.
    Off,
    /// New Pods get it when they are created; existing Pods and templates are never changed.
    Inject,
}

/// How Pods are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(
    description = "PodAntiAffinity: a preferred term on kubernetes.io/hostname. TopologySpread: constraints on \
                          hostname and zone, ScheduleAnyway. Auto: the first up to 300 nodes, the second above."
)]
pub enum SpreadMechanism {
    /// PodAntiAffinity up to 300 nodes, TopologySpread above.
    Auto,
    /// A preferred anti-affinity term on `kubernetes.io/hostname`.
    PodAntiAffinity,
    /// Topology spread constraints on hostname and zone, both `ScheduleAnyway`.
    TopologySpread,
}

/// Limit of the predicted imbalance.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImbalanceLimit {
    /// Largest accepted ratio of the hottest Pod's load to the mean, in permille: 1500 means the hottest Pod gets half
    /// more than the mean.
    #[schemars(range(min = 1000, max = 100_000))]
    pub max_ratio_permille: i32,
}

/// What the node agents do with a Service's external traffic.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataPath {
    /// Whether, and how, agents take the traffic.
    pub mode: DataPathMode,
    /// What a node without a local Pod does with a new flow. Drop when absent, as kube-proxy does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_no_local: Option<OnNoLocal>,
    /// How a Pod on another node answers a client whose packet was forwarded to it. Auto when absent.
    #[serde(default, rename = "return", skip_serializing_if = "Option::is_none")]
    pub return_: Option<ReturnPath>,
    /// Whether `loadBalancerSourceRanges` also guards the node ports. false when absent, as in kube-proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ranges_on_node_ports: Option<bool>,
}

/// Whether, and how, agents take a Service's external traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(
    description = "Off: kube-proxy keeps the traffic. Observe: agents count what they would do. Local: to Pods of \
                          the node. Balance: Local, and the least possible share to other nodes so that every Pod gets the same."
)]
pub enum DataPathMode {
    /// kube-proxy keeps the traffic.
    Off,
    /// Agents count what they would do and touch nothing.
    Observe,
    /// New flows go to ready Pods of the node that received them.
    Local,
    /// As Local, and the least possible share goes to other nodes so that every Pod gets the same.
    Balance,
}

/// What a node without a local Pod does with a new flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "Drop: silently, as kube-proxy. Reject: the client is told at once. Passthrough: kube-proxy \
                          decides. Forward: another node takes it, with the client's address kept.")]
pub enum OnNoLocal {
    /// Silently, as kube-proxy.
    Drop,
    /// The client is told at once.
    Reject,
    /// kube-proxy decides.
    Passthrough,
    /// Another node takes it, with the client's address kept.
    Forward,
}

/// How a forwarded flow is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(
    description = "Direct: the Pod's node answers the client. ViaIngress: back through the node the client knows. \
                          Auto: ViaIngress until a probe has shown that Direct arrives."
)]
pub enum ReturnPath {
    /// ViaIngress until a probe has shown that Direct arrives.
    Auto,
    /// The Pod's node answers the client.
    Direct,
    /// Back through the node the client knows.
    ViaIngress,
}

/// What the operator found about a policy.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Number of Services that the policy matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<i32>,
    /// Number of findings of action Warn or above on those Services that this policy decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub violations: Option<i32>,
    /// Findings by rule, for rules with at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["id".to_string()]))]
    pub findings: Option<Vec<RuleCount>>,
    /// Policies of higher precedence that decide something in this one's place, as `kind/namespace/name`; 16 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(max = 600)))]
    pub overridden_by: Option<Vec<String>>,
    /// Accepted, Programmed, Ready, Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// Findings of one rule.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleCount {
    /// The rule.
    pub id: RuleId,
    /// How many Services it found something on.
    pub count: i32,
}
