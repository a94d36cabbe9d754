//! ServiceTraffic: what Portreeve knows of one Service, and what agents are told to do with it.

use crate::policy::{DataPathMode, OnNoLocal, ReturnPath, ServiceType};
use crate::rule::{Action, RuleId};
use crate::schema::conditions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Condition: at least one ready Pod stands behind the Service.
pub const LOCAL_READY: &str = "LocalReady";
/// Condition: the predicted imbalance is within the policy's limit.
pub const BALANCED: &str = "Balanced";

/// One per externally reachable Service with `externalTrafficPolicy: Local`; same name and namespace, owned by it.
///
/// `spec` is the data-path directive, resolved from all policies: agents know no policies, only this.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "portreeve.io",
    version = "v1alpha1",
    kind = "ServiceTraffic",
    plural = "servicetraffics",
    namespaced,
    shortname = "svct",
    category = "portreeve",
    status = "ServiceTrafficStatus",
    derive = "PartialEq",
    doc = "ServiceTraffic tells what Portreeve knows of the Service of the same name: how even its load is over its Pods, \
           what its policies say, and what node agents do with its external traffic. The operator writes it.",
    printcolumn(
        name = "Policy",
        type_ = "string",
        json_path = ".status.externalTrafficPolicy",
        description = "externalTrafficPolicy of the Service"
    ),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.readyPods", description = "Ready Pods"),
    printcolumn(
        name = "Nodes",
        type_ = "integer",
        json_path = ".status.activeNodes",
        description = "Nodes with at least one ready Pod"
    ),
    printcolumn(
        name = "Ratio‰",
        type_ = "integer",
        json_path = ".status.imbalance.ratioPermille",
        description = "Load of the hottest Pod over the mean, in permille"
    ),
    printcolumn(
        name = "Usable‰",
        type_ = "integer",
        json_path = ".status.imbalance.usablePermille",
        description = "Share of the Pods' capacity that can be used before the hottest is full"
    ),
    printcolumn(
        name = "HC-Port",
        type_ = "integer",
        json_path = ".status.healthCheckNodePort",
        description = "Port of the load balancer's health check"
    ),
    printcolumn(
        name = "Balanced",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Balanced')].status",
        description = "The imbalance is within the policy's limit"
    ),
    printcolumn(
        name = "Data-Path",
        type_ = "string",
        json_path = ".spec.mode",
        description = "What node agents are told to do",
        priority = "1"
    ),
    printcolumn(
        name = "Hottest",
        type_ = "string",
        json_path = ".status.imbalance.hottest.node",
        description = "Node of the hottest Pod",
        priority = "1"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ServiceTrafficSpec {
    /// What node agents do with the Service's external traffic. Off when no policy asks for anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<DataPathMode>,
    /// What a node without a local Pod does with a new flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_no_local: Option<OnNoLocal>,
    /// How a forwarded flow is answered.
    #[serde(default, rename = "return", skip_serializing_if = "Option::is_none")]
    pub return_: Option<ReturnPath>,
    /// Whether `loadBalancerSourceRanges` also guards the node ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_ranges_on_node_ports: Option<bool>,
}

/// What the operator found.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceTrafficStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Type of the Service.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<ServiceType>,
    /// externalTrafficPolicy of the Service: Local or Cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub external_traffic_policy: Option<String>,
    /// Port on which nodes answer the load balancer's health check; absent on NodePort Services.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_node_port: Option<i32>,
    /// Ready Pods behind the Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_pods: Option<i32>,
    /// Nodes with at least one ready Pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active_nodes: Option<i32>,
    /// Predicted imbalance under a load balancer that is even over the active nodes; absent without ready Pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imbalance: Option<Imbalance>,
    /// Policies that decide something for the Service, in order of precedence, as `ctp/NAME` or `tp/NAME`; 16 at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(max = 600)))]
    pub effective_policies: Option<Vec<String>>,
    /// What the rules find on the Service now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub findings: Option<Vec<FindingSummary>>,
    /// LocalReady, Balanced, Ready, Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// Predicted imbalance. With P ready Pods on N nodes and n Pods on the emptiest of them, a load balancer that is even
/// over nodes gives the hottest Pod 1/(N·n) of the load, which is P/(N·n) times the mean.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Imbalance {
    /// Load of the hottest Pod over the mean, in permille: 1000 is even, 1500 is half more than the mean.
    pub ratio_permille: i32,
    /// Share of the Pods' total capacity that can be used before the hottest Pod is full, in permille.
    pub usable_permille: i32,
    /// The Pod that gets the most.
    pub hottest: Hottest,
    /// Replica counts near today's that would be within the policy's limit, given an even spread over the nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub suggested_replicas: Vec<i32>,
    /// Ready Pods and share per Pod on each node, hottest first; 32 nodes at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub nodes: Vec<NodeShare>,
}

/// Where the most loaded Pod is.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hottest {
    /// Its node.
    #[schemars(length(max = 253))]
    pub node: String,
    /// Its share of the Service's load, in permille.
    pub share_permille: i32,
}

/// Ready Pods on one node.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeShare {
    /// The node.
    #[schemars(length(max = 253))]
    pub node: String,
    /// Ready Pods on it.
    pub pods: i32,
    /// Share of the Service's load that each of them gets, in permille.
    pub share_permille: i32,
}

/// One finding of a rule.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FindingSummary {
    /// The rule.
    pub rule: RuleId,
    /// What admission would do about it.
    pub action: Action,
    /// The field, e.g. `spec.externalTrafficPolicy`.
    #[schemars(length(max = 256))]
    pub field: String,
    /// What is wrong and what to do.
    #[schemars(length(max = 1024))]
    pub message: String,
}

/// `spec.externalTrafficPolicy` of a Service, as the engines see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "externalTrafficPolicy of a Service.")]
pub enum ExternalTrafficPolicy {
    /// All Pods of the cluster; the client's address is hidden.
    Cluster,
    /// Pods of the receiving node only; the client's address is kept.
    Local,
}
