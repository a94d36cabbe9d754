//! NodeDatapath: what the agent of one node sees, chose and did.

use crate::datapath_config::BackendChoice;
use crate::schema::conditions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The data path of one node; cluster-scoped, named as the node, owned by it.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "portreeve.io",
    version = "v1alpha1",
    kind = "NodeDatapath",
    plural = "nodedatapaths",
    shortname = "ndp",
    category = "portreeve",
    status = "NodeDatapathStatus",
    derive = "PartialEq",
    doc = "NodeDatapath tells what the agent of the node of the same name sees (kernel features, uplinks), which backend \
           it chose and why, and how many Services it claims. The agent writes it.",
    printcolumn(
        name = "Backend",
        type_ = "string",
        json_path = ".status.backend.chosen",
        description = "Backend the agent chose"
    ),
    printcolumn(
        name = "Uplinks",
        type_ = "string",
        json_path = ".status.uplinks[*].name",
        description = "Interfaces on which clients arrive"
    ),
    printcolumn(
        name = "Services",
        type_ = "integer",
        json_path = ".status.services.claimed",
        description = "Services claimed on this node"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status",
        description = "The agent is in step with the API"
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Programmed')].status",
        description = "Claimed Services are in the kernel"
    ),
    printcolumn(
        name = "Kernel",
        type_ = "string",
        json_path = ".status.kernel.release",
        priority = "1",
        description = "Kernel release"
    ),
    printcolumn(
        name = "Why",
        type_ = "string",
        json_path = ".status.backend.reason",
        priority = "1",
        description = "Why this backend"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "Time since creation"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct NodeDatapathSpec {
    /// The node. Same as the object's name.
    #[schemars(length(max = 253))]
    pub node_name: String,
}

/// What the agent reports.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeDatapathStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Version of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub agent_version: Option<String>,
    /// The kernel and what it offers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<Kernel>,
    /// The backend and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendStatus>,
    /// Interfaces on which clients arrive; 16 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub uplinks: Vec<Uplink>,
    /// Size of the compiled table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<TableCounts>,
    /// What went wrong last; absent when nothing is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub last_error: Option<String>,
    /// Ready, Programmed, Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}

/// The kernel of the node.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kernel {
    /// `uname -r`.
    #[schemars(length(max = 128))]
    pub release: String,
    /// Features that backends need, each probed, not read off the release.
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_string()]))]
    pub features: Vec<KernelFeature>,
}

/// One probed feature.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelFeature {
    /// Name, e.g. `tcx`.
    #[schemars(length(max = 64))]
    pub name: String,
    /// Whether it can be used by this agent.
    pub available: bool,
    /// Why not, or what was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub detail: Option<String>,
}

/// The backend of a node and why.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendStatus {
    /// What DatapathConfig asks for.
    pub asked: BackendChoice,
    /// What this node uses (or would use); absent if nothing is usable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chosen: Option<Backend>,
    /// Why, in one sentence.
    #[schemars(length(max = 512))]
    pub reason: String,
}

/// A way to program packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "A way to program packets.")]
pub enum Backend {
    /// BPF programs on the uplinks (tcx).
    Ebpf,
    /// An nftables table of our own.
    Nftables,
    /// iptables chains of our own.
    Iptables,
}

impl Backend {
    /// The backend as it is written in manifests and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ebpf => "Ebpf",
            Self::Nftables => "Nftables",
            Self::Iptables => "Iptables",
        }
    }
}

/// An interface on which clients arrive.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Uplink {
    /// Interface name.
    #[schemars(length(max = 16))]
    pub name: String,
    /// Interface index.
    pub index: i32,
    /// MTU in bytes.
    pub mtu: i32,
    /// Addresses with prefix length; 32 at most.
    #[schemars(length(max = 32), inner(length(max = 64)))]
    pub addresses: Vec<String>,
    /// Why it is an uplink: it holds the node's InternalIP, a default route, or the configuration names it.
    #[schemars(length(max = 128))]
    pub reason: String,
}

/// Size of the compiled table.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TableCounts {
    /// Services seen in the API.
    pub seen: i32,
    /// Services claimed for this node.
    pub claimed: i32,
    /// Services refused for lack of capacity.
    pub refused: i32,
    /// Frontends (address, port, protocol) of claimed Services.
    pub frontends: i32,
    /// Ready local backends of claimed Services.
    pub local_backends: i32,
}
