//! Services and Pods, reduced to what a decision can depend on while they are read.
//!
//! A Pod's containers and volumes and everybody's managedFields are the bulk of a review and decide nothing: they are
//! skipped, not built. What is kept has the usual types, so that the engine sees an ordinary Service or Pod.

use k8s_openapi::api::core::v1::{
    Affinity, Pod, PodSchedulingGate, PodSpec, Service, ServiceSpec, ServiceStatus, Toleration,
    TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A Service as it comes in a review.
#[derive(Debug, Deserialize)]
#[serde(from = "WireService")]
pub(super) struct ServiceInput(pub(super) Service);

/// A Pod as it comes in a review.
#[derive(Debug, Deserialize)]
#[serde(from = "WirePod")]
pub(super) struct PodInput(pub(super) Pod);

#[derive(Deserialize)]
struct WireService {
    metadata: WireMeta,
    spec: Option<ServiceSpec>,
    status: Option<ServiceStatus>,
}

#[derive(Deserialize)]
struct WirePod {
    metadata: WireMeta,
    spec: WirePodSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireMeta {
    name: Option<String>,
    generate_name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
}

/// Where a Pod may be placed, and what it asks of its placement.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WirePodSpec {
    affinity: Option<Affinity>,
    host_network: Option<bool>,
    node_name: Option<String>,
    node_selector: Option<BTreeMap<String, String>>,
    priority_class_name: Option<String>,
    restart_policy: Option<String>,
    scheduler_name: Option<String>,
    scheduling_gates: Option<Vec<PodSchedulingGate>>,
    tolerations: Option<Vec<Toleration>>,
    topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
}

impl From<WireService> for ServiceInput {
    fn from(WireService { metadata, spec, status }: WireService) -> Self {
        Self(Service { metadata: metadata.into(), spec, status })
    }
}

impl From<WirePod> for PodInput {
    fn from(WirePod { metadata, spec }: WirePod) -> Self {
        Self(Pod { metadata: metadata.into(), spec: Some(spec.into()), status: None })
    }
}

impl From<WireMeta> for ObjectMeta {
    fn from(meta: WireMeta) -> Self {
        let WireMeta {
            name,
            generate_name,
            namespace,
            uid,
            labels,
            annotations,
            owner_references,
            creation_timestamp,
            deletion_timestamp,
        } = meta;
        Self {
            name,
            generate_name,
            namespace,
            uid,
            labels,
            annotations,
            owner_references,
            creation_timestamp,
            deletion_timestamp,
            ..Self::default()
        }
    }
}

impl From<WirePodSpec> for PodSpec {
    fn from(spec: WirePodSpec) -> Self {
        let WirePodSpec {
            affinity,
            host_network,
            node_name,
            node_selector,
            priority_class_name,
            restart_policy,
            scheduler_name,
            scheduling_gates,
            tolerations,
            topology_spread_constraints,
        } = spec;
        Self {
            affinity,
            host_network,
            node_name,
            node_selector,
            priority_class_name,
            restart_policy,
            scheduler_name,
            scheduling_gates,
            tolerations,
            topology_spread_constraints,
            ..Self::default()
        }
    }
}
