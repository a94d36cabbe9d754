//! TrafficMigration: plan, show, wait for approval of exactly that plan, apply one Service at a time, watch, undo.
//!
//! dereference → validate (plans) → build (the pure [`machine`]: one step at a time) → apply → status; only the last two
//! hold a client. Everything that a step needs is recorded in the API before anything is changed, so a process that dies
//! between any two writes is followed by one that goes on: an item with `appliedAt` but no outcome was being applied, and
//! the live Service says whether it was.

pub(crate) mod answer;
pub(crate) mod apply;
pub(crate) mod build;
pub(crate) mod dereference;
pub(crate) mod item;
pub(crate) mod machine;
pub(crate) mod status;
pub(crate) mod summary;
pub(crate) mod validate;

use jiff::Timestamp;
use kube::Client;

/// The two steps that need a client, in order.
pub(crate) async fn run(
    client: &Client,
    prepared: build::Prepared,
    now: Timestamp,
) -> Result<status::Outcome, apply::ApplyError> {
    let applied = apply::apply(client, prepared, now).await?; // client required
    Ok(status::status(client, applied).await?) // client required
}

/// Most items that are recorded or marked in one step.
pub(crate) const BATCH: usize = 64;

#[cfg(test)]
mod tests;
