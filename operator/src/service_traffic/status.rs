//! Step 5, client required: the report's status.

use super::apply::{Applied, Verb, send};
use crate::notice::Notice;
use kube::Client;
use portreeve_crds::ServiceTraffic;
use thiserror::Error;

/// The status could not be written.
#[derive(Debug, Error)]
#[error("cannot write the status of the ServiceTraffic: {0}")]
pub(crate) struct StatusError(#[source] pub(crate) kube::Error);

/// What has become of the report.
pub(crate) enum Outcome {
    /// It is as the API server now holds it: as it was sent, at the version of the answer.
    Written { traffic: Box<ServiceTraffic>, notice: Option<Notice> },
    /// It is gone.
    Gone,
    /// It cannot be: the namespace is going away.
    Refused,
}

/// A replace guarded by the resource version: a report that someone touched meanwhile is looked at anew.
pub(crate) async fn status(client: &Client, applied: Applied) -> Result<Outcome, StatusError> {
    let (mut traffic, notice) = match applied {
        Applied::Gone => return Ok(Outcome::Gone),
        Applied::Refused => return Ok(Outcome::Refused),
        Applied::Status { traffic, notice } => (traffic, notice),
    };
    send(client, Verb::ReplaceStatus, &mut traffic).await.map_err(StatusError)?;
    Ok(Outcome::Written { traffic, notice })
}
