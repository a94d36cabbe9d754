//! ServiceTraffic: one report per externally reachable Service with `externalTrafficPolicy: Local`.
//!
//! dereference → validate → build → apply → status; only the last two hold a client.

pub(crate) mod apply;
pub(crate) mod build;
pub(crate) mod dereference;
pub(crate) mod material;
pub(crate) mod notice;
pub(crate) mod status;
pub(crate) mod validate;

use kube::Client;
use status::Outcome;
use thiserror::Error;

/// Why a report could not be brought up to date.
#[derive(Debug, Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Apply(#[from] apply::ApplyError),
    #[error(transparent)]
    Status(#[from] status::StatusError),
}

impl Error {
    /// The API server's answer.
    pub(crate) const fn cause(&self) -> &kube::Error {
        match self {
            Self::Apply(error) => error.cause(),
            Self::Status(error) => &error.0,
        }
    }
}

/// The two steps that need a client, in order.
pub(crate) async fn write(client: Client, prepared: build::Prepared) -> Result<Outcome, Error> {
    let applied = apply::apply(&client, prepared).await?; // client required
    Ok(status::status(&client, applied).await?) // client required
}

#[cfg(test)]
mod tests;
