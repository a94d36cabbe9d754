//! Step 4, client required: the report's existence and directive.

use super::build::{Prepared, Write};
use crate::api_error;
use crate::notice::Notice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::core::Request;
use kube::{Api, Client, Resource as _};
use portreeve_crds::service_traffic::ServiceTrafficStatus;
use portreeve_crds::{ServiceTraffic, ServiceTrafficSpec, names};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
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

/// What is read of an answer. The object is then as it was sent; to read it back in full, with who owns which of its
/// forty fields, would cost more than all else that is done about it.
#[derive(Deserialize)]
struct Answer {
    metadata: AnswerMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnswerMetadata {
    uid: String,
    resource_version: String,
    generation: Option<i64>,
}

/// Which write is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Replace,
    ReplaceStatus,
}

/// Sends the object, and sets on it what the API server answers with.
pub(super) async fn send(client: &Client, verb: Verb, traffic: &mut ServiceTraffic) -> Result<(), kube::Error> {
    let params = PostParams { dry_run: false, field_manager: Some(names::MANAGER_OPERATOR.to_owned()) };
    let name = traffic.metadata.name.clone().unwrap_or_default();
    let requests = Request::new(ServiceTraffic::url_path(&(), traffic.metadata.namespace.as_deref()));
    let request = match verb {
        Verb::Create => requests.create(&params, body(traffic, None)?),
        Verb::Replace => requests.replace(&name, &params, body(traffic, None)?),
        Verb::ReplaceStatus => {
            requests.replace_subresource("status", &name, &params, body(traffic, traffic.status.as_ref())?)
        }
    };
    let request = request.map_err(kube::Error::BuildRequest)?;
    let Answer { metadata } = client.request(request).await?;
    traffic.metadata.uid = Some(metadata.uid);
    traffic.metadata.resource_version = Some(metadata.resource_version);
    traffic.metadata.generation = metadata.generation;
    Ok(())
}

/// The object with this status. The API server ignores one that comes with a create or a replace.
fn body(traffic: &ServiceTraffic, status: Option<&ServiceTrafficStatus>) -> Result<Vec<u8>, kube::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        api_version: Cow<'a, str>,
        kind: Cow<'a, str>,
        metadata: &'a ObjectMeta,
        spec: &'a ServiceTrafficSpec,
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<&'a ServiceTrafficStatus>,
    }
    let ServiceTraffic { metadata, spec, status: _ } = traffic;
    let (api_version, kind) = (ServiceTraffic::api_version(&()), ServiceTraffic::kind(&()));
    serde_json::to_vec(&Body { api_version, kind, metadata, spec, status }).map_err(kube::Error::SerdeError)
}

/// Plain writes guarded by the resource version, not server-side apply: the operator owns the whole object, and a
/// replace costs the API server a fraction of an apply.
pub(crate) async fn apply(client: &Client, prepared: Prepared) -> Result<Applied, ApplyError> {
    let Prepared { key, write, notice } = prepared;
    match write {
        Write::Status(traffic) => Ok(Applied::Status { traffic, notice }),
        Write::Create(mut traffic) => match send(client, Verb::Create, &mut traffic).await {
            Ok(()) => Ok(Applied::Status { traffic, notice }),
            Err(error) if api_error::is_namespace_terminating(&error) => Ok(Applied::Refused),
            Err(error) => Err(ApplyError::Create(error)),
        },
        Write::Directive(mut traffic) => {
            send(client, Verb::Replace, &mut traffic).await.map_err(ApplyError::Replace)?;
            Ok(Applied::Status { traffic, notice })
        }
        Write::Delete { uid } => {
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid, resource_version: None }),
                ..DeleteParams::default()
            };
            let api: Api<ServiceTraffic> = Api::namespaced(client.clone(), &key.namespace);
            match api.delete(&key.name, &params).await {
                Ok(_) => Ok(Applied::Gone),
                Err(error) if api_error::is_not_found(&error) => Ok(Applied::Gone),
                Err(error) => Err(ApplyError::Delete(error)),
            }
        }
    }
}
