//! Step 4, client required: the report's existence and directive.

use super::build::{Prepared, Write};
use crate::api_error;
use crate::notice::Notice;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client};
use portreeve_crds::{ServiceTraffic, names};
use thiserror::Error;

/// Why a report could not be written.
#[derive(Debug, Error)]
pub(crate) enum ApplyError {
    #[error("cannot create the ServiceTraffic: {0}")]
    Create(#[source] kube::Error),
    #[error("cannot replace the ServiceTraffic: {0}")]
    Replace(#[source] kube::Error),
    #[error("cannot delete the ServiceTraffic: {0}")]
    Delete(#[source] kube::Error),
}

impl ApplyError {
    /// The API server's answer.
    pub(crate) const fn cause(&self) -> &kube::Error {
        match self {
            Self::Create(error) | Self::Replace(error) | Self::Delete(error) => error,
        }
    }
}

/// A report that is there with the right directive; its status is still to be written.
pub(crate) enum Applied {
    /// Write this status onto the object at this version.
    Status { traffic: Box<ServiceTraffic>, notice: Option<Notice> },
    /// The report is gone.
    Gone,
    /// The Service's namespace is going away.
    Refused,
}

pub(crate) fn params() -> PostParams {
    PostParams { dry_run: false, field_manager: Some(names::MANAGER_OPERATOR.to_owned()) }
}

/// Plain writes guarded by the resource version, not server-side apply: the operator owns the whole object, and a
/// replace costs the API server a fraction of an apply.
pub(crate) async fn apply(client: &Client, prepared: Prepared) -> Result<Applied, ApplyError> {
    let Prepared { key, write, notice } = prepared;
    let api: Api<ServiceTraffic> = Api::namespaced(client.clone(), &key.namespace);
    let (wanted, version) = match write {
        Write::Status(traffic) => return Ok(Applied::Status { traffic, notice }),
        Write::Create(traffic) => match api.create(&params(), &without_status(&traffic)).await {
            Ok(created) => (traffic, created.metadata),
            Err(error) if api_error::is_namespace_terminating(&error) => return Ok(Applied::Refused),
            Err(error) => return Err(ApplyError::Create(error)),
        },
        Write::Directive(traffic) => {
            let replaced = api.replace(&key.name, &params(), &without_status(&traffic)).await;
            (traffic, replaced.map_err(ApplyError::Replace)?.metadata)
        }
        Write::Delete { uid } => {
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid, resource_version: None }),
                ..DeleteParams::default()
            };
            return match api.delete(&key.name, &params).await {
                Ok(_) => Ok(Applied::Gone),
                Err(error) if api_error::is_not_found(&error) => Ok(Applied::Gone),
                Err(error) => Err(ApplyError::Delete(error)),
            };
        }
    };
    let mut traffic = wanted;
    traffic.metadata.resource_version = version.resource_version;
    traffic.metadata.uid = version.uid;
    Ok(Applied::Status { traffic, notice })
}

fn without_status(traffic: &ServiceTraffic) -> ServiceTraffic {
    ServiceTraffic { metadata: traffic.metadata.clone(), spec: traffic.spec.clone(), status: None }
}
