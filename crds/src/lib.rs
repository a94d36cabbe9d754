//! The API of Portreeve: the custom resources that users and agents meet through `kubectl`.
//!
//! This room knows the shape of each kind, its validation (schema and CEL), its printer columns, its conditions and the
//! names that all rooms share. It may not know clients, async runtimes, clocks or files: it is plain data.
//!
//! Conventions held by every kind: group [`names::GROUP`], version [`names::VERSION`]; integers only (ratios and shares
//! in permille, ‰); closed enums; a bound on every list and string, so that CEL cost stays bounded; no defaults in the
//! schema, so that what is stored is what the user's repository holds; `status.conditions` keyed by `type` and
//! `status.observedGeneration`, so that `kubectl wait`, Argo CD and Flux can read the outcome (kstatus).
//! `crds/manifests/` is generated from these types by `cargo xtask gen`.

#![allow(clippy::duplicated_attributes, reason = "each printer column has its own `type_` and `description`")]
#![allow(unreachable_pub, reason = "KubeSchema derives a private copy of each type, with the type's own `pub`")]

pub mod condition;
pub mod datapath_config;
pub mod migration;
pub mod names;
pub mod node_datapath;
pub mod policy;
pub mod rule;
mod schema;
pub mod service_traffic;

pub use datapath_config::{DatapathConfig, DatapathConfigSpec};
pub use migration::{TrafficMigration, TrafficMigrationItem, TrafficMigrationItemSpec, TrafficMigrationSpec};
pub use node_datapath::{NodeDatapath, NodeDatapathSpec};
pub use policy::{ClusterTrafficPolicy, ClusterTrafficPolicySpec, TrafficPolicy, TrafficPolicySpec};
pub use rule::{Action, Mode, RuleId};
pub use service_traffic::{ServiceTraffic, ServiceTrafficSpec};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

/// Every custom resource definition of the group, in the order in which `crds/manifests/` numbers them.
#[must_use]
pub fn all() -> Vec<CustomResourceDefinition> {
    [
        ClusterTrafficPolicy::crd(),
        TrafficPolicy::crd(),
        ServiceTraffic::crd(),
        TrafficMigration::crd(),
        TrafficMigrationItem::crd(),
        NodeDatapath::crd(),
        DatapathConfig::crd(),
    ]
    .into_iter()
    .map(schema::finish)
    .collect()
}

#[cfg(test)]
mod tests;
