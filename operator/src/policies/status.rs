//! Last step, client required: writes a policy's status.

use super::build::Prepared;
use crate::api_error;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use portreeve_crds::{ClusterTrafficPolicy, TrafficPolicy, names};
use portreeve_policy::policies::PolicyKind;
use serde_json::json;
use thiserror::Error;

/// The status could not be written.
#[derive(Debug, Error)]
#[error("cannot write the policy's status: {0}")]
pub(crate) struct StatusError(#[source] pub(crate) kube::Error);

/// What the API server holds now.
pub(crate) enum Written {
    Cluster(Box<ClusterTrafficPolicy>),
    Namespaced(Box<TrafficPolicy>),
    /// The policy went away meanwhile.
    Gone,
}

/// A merge patch guarded by the resource version.
pub(crate) async fn status(client: &Client, prepared: Prepared) -> Result<Written, StatusError> {
    let Prepared { policy, resource_version, status } = prepared;
    let patch = Patch::Merge(json!({"metadata": {"resourceVersion": resource_version}, "status": status}));
    let params = PatchParams { field_manager: Some(names::MANAGER_OPERATOR.to_owned()), ..PatchParams::default() };
    let written = match (policy.kind, &policy.namespace) {
        (PolicyKind::Cluster, _) => {
            let api: Api<ClusterTrafficPolicy> = Api::all(client.clone());
            api.patch_status(&policy.name, &params, &patch).await.map(|p| Written::Cluster(Box::new(p)))
        }
        (PolicyKind::Namespaced, namespace) => {
            let namespace = namespace.as_deref().unwrap_or_default();
            let api: Api<TrafficPolicy> = Api::namespaced(client.clone(), namespace);
            api.patch_status(&policy.name, &params, &patch).await.map(|p| Written::Namespaced(Box::new(p)))
        }
    };
    match written {
        Ok(written) => Ok(written),
        Err(error) if api_error::is_not_found(&error) => Ok(Written::Gone),
        Err(error) => Err(StatusError(error)),
    }
}
