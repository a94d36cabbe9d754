//! What is kept of each object. Everything else is dropped before it is stored, so that 10,000 Services stay small.

use super::has_legacy_annotation;
use k8s_openapi::api::core::v1::{Namespace, Service};
use portreeve_crds::{NodeDatapath, TrafficMigrationItem};
use portreeve_policy::facts::NamespaceFacts;

/// Label that names the Service of a slice.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// What `kubectl apply` keeps: as large as the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A Service without status; without managedFields and last-applied too, unless a migration has to find its owner there.
/// A patch may test and remove what is kept, but must never replace a whole map of it: the live one may hold more.
pub(super) fn service(mut service: Service) -> Service {
    service.status = None;
    if !has_legacy_annotation(&service) {
        service.metadata.managed_fields = None;
        if let Some(annotations) = &mut service.metadata.annotations {
            annotations.remove(LAST_APPLIED);
        }
    }
    service
}

/// Name and labels of a Namespace.
pub(super) fn namespace(namespace: Namespace) -> NamespaceFacts {
    NamespaceFacts::new(namespace.metadata.name.unwrap_or_default(), namespace.metadata.labels.unwrap_or_default())
}

pub(super) fn item(mut item: TrafficMigrationItem) -> TrafficMigrationItem {
    item.metadata.managed_fields = None;
    item
}

pub(super) fn node_datapath(mut node: NodeDatapath) -> NodeDatapath {
    node.metadata.managed_fields = None;
    node
}
