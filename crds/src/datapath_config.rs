//! DatapathConfig: how agents work, for the whole cluster.

use crate::schema::conditions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The one configuration of all agents; its name must be `default`. Without it agents choose for themselves.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "portreeve.io",
    version = "v1alpha1",
    kind = "DatapathConfig",
    plural = "datapathconfigs",
    shortname = "dpc",
    category = "portreeve",
    status = "DatapathConfigStatus",
    derive = "PartialEq",
    doc = "DatapathConfig says how node agents work: uplinks, backend and capacity. There is one, named `default`.",
    validation = Rule::new("self.metadata.name == 'default'").message("must be named 'default': there is one configuration for all nodes"),
    printcolumn(name = "Backend", type_ = "string", json_path = ".spec.backend", description = "Backend asked for"),
    printcolumn(name = "Nodes", type_ = "integer", json_path = ".status.nodes", description = "Nodes that report"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Every reporting node works by it"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation")
)]
#[serde(rename_all = "camelCase")]
pub struct DatapathConfigSpec {
    /// Backend of every node. Auto when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendChoice>,
    /// Which interfaces are uplinks. When absent: those that hold the node's InternalIP or a default route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplinks: Option<UplinkSelection>,
    /// Most that an agent claims. A Service beyond it is refused as a whole and reported; older ones stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
}

/// The backend that is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "Auto: Ebpf where the kernel has what it needs, else Nftables, else Iptables.")]
pub enum BackendChoice {
    /// The best that the node's kernel can do.
    #[default]
    Auto,
    /// BPF programs on the uplinks.
    Ebpf,
    /// An nftables table of our own.
    Nftables,
    /// iptables chains of our own.
    Iptables,
}

impl BackendChoice {
    /// The choice as it is written in manifests.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "Auto",
            Self::Ebpf => "Ebpf",
            Self::Nftables => "Nftables",
            Self::Iptables => "Iptables",
        }
    }
}

/// Which interfaces are uplinks.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UplinkSelection {
    /// Interface names; a trailing `*` matches any ending, e.g. `eth*`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 15), regex(pattern = r"^[A-Za-z0-9._:-]*\*?$")))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub interfaces: Vec<String>,
}

/// Most that an agent claims.
#[derive(KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// Frontends. 65536 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4_194_304))]
    pub frontends: Option<i32>,
    /// Backends. 262144 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16_777_216))]
    pub backends: Option<i32>,
}

/// How many agents work by the configuration.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatapathConfigStatus {
    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Nodes whose agent reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<i32>,
    /// Ready, Reconciling and Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions")]
    pub conditions: Vec<Condition>,
}
