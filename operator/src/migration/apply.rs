//! Step 4, client required: records items and changes Services.

use super::answer::{self, Answer, Undo};
use super::build::{Prepared, Work};
use super::machine::Step;
use super::status::{self, Mark};
use crate::api_error;
use crate::index::{Delta, Event};
use crate::notice::{Notice, Reason};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client};
use portreeve_crds::migration::{PatchOperation, TrafficMigrationItemStatus};
use portreeve_crds::{TrafficMigration, TrafficMigrationItem, names};
use portreeve_policy::migration::{
    asked_health_check_port, rollback_patch, with_resource_version, without_health_check_port,
};
use serde_json::Value;
use thiserror::Error;

/// Why a step failed; it is tried again.
#[derive(Debug, Error)]
pub(crate) enum ApplyError {
    #[error("cannot record a TrafficMigrationItem: {0}")]
    Record(#[source] kube::Error),
    #[error("cannot read the Service: {0}")]
    Read(#[source] kube::Error),
    #[error("cannot patch the Service: {0}")]
    Patch(#[source] kube::Error),
    #[error("cannot write the patch as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Status(#[from] status::StatusError),
}

impl ApplyError {
    /// The API server's answer, if it was asked.
    pub(crate) const fn cause(&self) -> Option<&kube::Error> {
        match self {
            Self::Record(error) | Self::Read(error) | Self::Patch(error) => Some(error),
            Self::Json(_) => None,
            Self::Status(error) => Some(&error.0),
        }
    }
}

/// What was done, and the statuses that are to say so.
#[derive(Default)]
pub(crate) struct Applied {
    pub(crate) marks: Vec<Mark>,
    /// What the API server now holds.
    pub(crate) events: Vec<Event>,
    pub(crate) migration: Option<(TrafficMigration, Box<portreeve_crds::migration::TrafficMigrationStatus>)>,
    pub(crate) until: Option<Timestamp>,
    /// Nothing was left to do.
    pub(crate) settled: bool,
}

pub(crate) async fn apply(client: &Client, prepared: Prepared, now: Timestamp) -> Result<Applied, ApplyError> {
    let Prepared { migration, work } = prepared;
    match work {
        Work::Settled { until } => Ok(Applied { until, settled: true, ..Applied::default() }),
        Work::Status { status, until } => {
            Ok(Applied { migration: Some((migration, status)), until, ..Applied::default() })
        }
        Work::Step(step) => match *step {
            Step::Record(items) => record(client, items).await,
            Step::Drop(item) => forget(client, item).await,
            Step::Mark(marks) => {
                let marks = marks.into_iter().map(|(item, status)| Mark { item, status, notice: None });
                Ok(Applied { marks: marks.collect(), ..Applied::default() })
            }
            Step::Apply { item, resource_version, accept_new_port } => {
                change(client, item, &resource_version, accept_new_port, now).await
            }
            Step::Undo { item, undo } => take_back(client, item, &undo).await,
            Step::Rest { until } => Ok(Applied { until, settled: true, ..Applied::default() }),
        },
    }
}

async fn record(client: &Client, items: Vec<TrafficMigrationItem>) -> Result<Applied, ApplyError> {
    let params = PostParams { dry_run: false, field_manager: Some(names::MANAGER_OPERATOR.to_owned()) };
    let mut done = Applied::default();
    for item in items {
        let api = item_api(client, &item);
        let name = item.metadata.name.as_deref().unwrap_or_default();
        let written = if item.metadata.resource_version.is_some() {
            api.replace(name, &params, &item).await
        } else {
            api.create(&params, &item).await
        };
        match written {
            Ok(written) => {
                // A plan made anew begins anew: what an earlier status says is about an earlier plan.
                if let Some(status) = item.status {
                    done.marks.push(Mark { item: written.clone(), status, notice: None });
                }
                done.events.push(Event::Item(Delta::Applied(written)));
            }
            Err(error) if api_error::is_namespace_terminating(&error) => {}
            Err(error) => return Err(ApplyError::Record(error)),
        }
    }
    Ok(done)
}

async fn forget(client: &Client, item: TrafficMigrationItem) -> Result<Applied, ApplyError> {
    let name = item.metadata.name.as_deref().unwrap_or_default();
    let preconditions = Preconditions { uid: item.metadata.uid.clone(), resource_version: None };
    let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match item_api(client, &item).delete(name, &params).await {
        Ok(_) => {}
        Err(error) if api_error::is_not_found(&error) => {}
        Err(error) => return Err(ApplyError::Record(error)),
    }
    Ok(Applied { events: vec![Event::Item(Delta::Deleted(item))], ..Applied::default() })
}

/// The intent is written first, then a dry run, then the patch: whoever comes after a crash sees the intent and asks the
/// live Service whether the change was made.
async fn change(
    client: &Client,
    item: TrafficMigrationItem,
    resource_version: &str,
    accept_new_port: bool,
    now: Timestamp,
) -> Result<Applied, ApplyError> {
    let old = item.status.clone().unwrap_or_default();
    let intent = TrafficMigrationItemStatus { applied_at: Some(now.to_string()), ..old.clone() };
    let item = status::write_item(client, &item, &intent).await?;
    let patch = item.spec.patch.clone();
    let mut answer = send_checked(client, &item, &patch, resource_version).await?;
    if matches!(answer, Answer::PortRefused) && accept_new_port {
        answer = send_checked(client, &item, &without_health_check_port(&patch), resource_version).await?;
    }
    let mut done = Applied::default();
    let (status, reason) = answer::after_change(&item.spec, &old, &intent, &answer);
    if let Answer::Taken(service) = answer {
        done.events.push(Event::Service(Delta::Applied(*service)));
    }
    let notice = Some(notice(&item, reason, status.message.clone().unwrap_or_default()));
    done.marks.push(Mark { item, status, notice });
    Ok(done)
}

/// The way back is made from the whole Service as it is now: what the index keeps lacks annotations, and a patch made
/// from that could replace them.
async fn take_back(client: &Client, item: TrafficMigrationItem, undo: &Undo) -> Result<Applied, ApplyError> {
    let old = item.status.clone().unwrap_or_default();
    let mut done = Applied::default();
    let live = service_api(client, &item).get_opt(&item.spec.service.name).await.map_err(ApplyError::Read)?;
    let answer = match live {
        None => Answer::Gone,
        Some(live) => match rollback_patch(&item.spec, &live) {
            Ok(patch) => {
                let version = live.metadata.resource_version.as_deref().unwrap_or_default();
                send_checked(client, &item, &patch, version).await?
            }
            Err(refusal) => Answer::Unfit(refusal),
        },
    };
    let (status, reason) = answer::after_undo(&item.spec, &old, undo, &answer);
    if let Answer::Taken(service) = answer {
        done.events.push(Event::Service(Delta::Applied(*service)));
    }
    let message = status.message.clone().unwrap_or_default();
    let told = (status.state != old.state).then(|| notice(&item, reason, message));
    done.marks.push(Mark { item, status, notice: told });
    Ok(done)
}

/// A dry run, then the patch. A dry run does not check the health check node port; everything else, other admission
/// webhooks included, it does.
async fn send_checked(
    client: &Client,
    item: &TrafficMigrationItem,
    patch: &[PatchOperation],
    resource_version: &str,
) -> Result<Answer, ApplyError> {
    let api = service_api(client, item);
    let body: Value = serde_json::to_value(with_resource_version(patch, resource_version))?;
    let asks_for_port = asked_health_check_port(patch).is_some();
    for dry_run in [true, false] {
        let params =
            PatchParams { dry_run, field_manager: Some(names::MANAGER_MIGRATOR.to_owned()), ..PatchParams::default() };
        let patch = Patch::Json::<()>(serde_json::from_value(body.clone())?);
        let error = match api.patch(&item.spec.service.name, &params, &patch).await {
            Ok(_) if dry_run => continue,
            Ok(service) => return Ok(Answer::Taken(Box::new(service))),
            Err(error) => error,
        };
        return match api_error::code(&error) {
            Some(404) => Ok(Answer::Gone),
            Some(409) => Ok(Answer::Conflict),
            Some(400..=499) if is_denied(&error) => Ok(Answer::Denied(api_error::text(&error))),
            // A failed `test` operation.
            Some(422) if api_error::is_patch_mismatch(&error) => Ok(Answer::Conflict),
            Some(500) if asks_for_port && !is_webhook_failure(&error) => Ok(Answer::PortRefused),
            Some(400..=499) if api_error::code(&error) != Some(429) => Ok(Answer::Refused(api_error::text(&error))),
            _ => Err(ApplyError::Patch(error)),
        };
    }
    Ok(Answer::Conflict)
}

/// The API server's words, which it puts before those of the webhook or policy.
fn is_denied(error: &kube::Error) -> bool {
    let denied = |message: &str| {
        message.contains("denied the request")
            || (message.contains("ValidatingAdmissionPolicy '") && message.contains("denied request"))
    };
    api_error::status(error).is_some_and(|status| denied(&status.message))
}

/// A webhook that must answer did not; that says nothing about the patch.
fn is_webhook_failure(error: &kube::Error) -> bool {
    api_error::status(error).is_some_and(|status| status.message.contains("failed calling webhook"))
}

fn service_api(client: &Client, item: &TrafficMigrationItem) -> Api<Service> {
    Api::namespaced(client.clone(), item.metadata.namespace.as_deref().unwrap_or_default())
}

fn item_api(client: &Client, item: &TrafficMigrationItem) -> Api<TrafficMigrationItem> {
    Api::namespaced(client.clone(), item.metadata.namespace.as_deref().unwrap_or_default())
}

fn notice(item: &TrafficMigrationItem, reason: Reason, note: String) -> Notice {
    let namespace = item.metadata.namespace.as_deref().unwrap_or_default();
    let note = format!("{note} (TrafficMigration {})", item.spec.migration);
    Notice::about_service(namespace, &item.spec.service.name, &item.spec.service.uid, reason, note)
}
