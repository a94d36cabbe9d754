//! What an item comes to by the API server's answer. Pure.

use super::item::state;
use crate::notice::Reason;
use k8s_openapi::api::core::v1::Service;
use portreeve_crds::TrafficMigrationItemSpec;
use portreeve_crds::migration::{Decision, ItemState, TrafficMigrationItemStatus};
use portreeve_policy::migration::asked_health_check_port;

/// Conflicts after which an item fails.
pub(crate) const MOST_CONFLICTS: i32 = 5;
/// How the message of an item begins whose health check node port the API server would not give.
pub(crate) const PORT_REFUSED: &str = "The API server does not give health check node port";

/// Message of an item under watch.
pub(crate) const WATCHED: &str = "Applied; the Service is being watched.";

/// How the API server took a patch.
pub(crate) enum Answer {
    Taken(Box<Service>),
    /// The Service is not as it was looked at.
    Conflict,
    Gone,
    /// HTTP 500 on a patch that asks for a health check node port: out of range or taken.
    PortRefused,
    Refused(String),
}

/// The status after a change was tried: `old` is the one before, `intent` the one that announced it.
pub(crate) fn after_change(
    spec: &TrafficMigrationItemSpec,
    old: &TrafficMigrationItemStatus,
    intent: &TrafficMigrationItemStatus,
    answer: &Answer,
) -> (TrafficMigrationItemStatus, Reason) {
    let asked = asked_health_check_port(&spec.patch);
    let untouched = |state, message: String| TrafficMigrationItemStatus {
        state: Some(state),
        message: Some(message),
        applied_at: None,
        ..old.clone()
    };
    match answer {
        Answer::Taken(service) => {
            let mut status = applied(spec.decision, service, intent);
            if let (Some(asked), Some(got)) = (asked, status.health_check_node_port)
                && i32::from(asked) != got
            {
                let message = format!("Applied; health check node port {asked} could not be had, it is {got} now.");
                status.message = Some(message);
            }
            (status, Reason::MigrationItemApplied)
        }
        Answer::Conflict => {
            let conflicts = old.conflicts.unwrap_or(0).saturating_add(1);
            let message =
                format!("The Service was changed by someone else meanwhile ({conflicts} times); planned anew.");
            let (state, reason) = if conflicts >= MOST_CONFLICTS {
                (ItemState::Failed, Reason::MigrationItemFailed)
            } else {
                (ItemState::Planned, Reason::MigrationItemBlocked)
            };
            (TrafficMigrationItemStatus { conflicts: Some(conflicts), ..untouched(state, message) }, reason)
        }
        Answer::Gone => (untouched(ItemState::Gone, "The Service is gone.".to_owned()), Reason::MigrationItemFailed),
        Answer::PortRefused => {
            let port = asked.unwrap_or_default();
            let message = format!(
                "{PORT_REFUSED} {port}: it is taken or out of range. Free it, or approve with \
                 acceptNewHealthCheckNodePort."
            );
            (untouched(ItemState::Blocked, message), Reason::MigrationItemBlocked)
        }
        Answer::Refused(text) => {
            let message = format!("The API server refused the patch: {text}");
            (untouched(ItemState::Failed, message), Reason::MigrationItemFailed)
        }
    }
}

/// The status after an undo was tried.
pub(crate) fn after_undo(
    old: &TrafficMigrationItemStatus,
    why: String,
    answer: &Answer,
) -> (TrafficMigrationItemStatus, Reason) {
    let (state, message, reason) = match answer {
        Answer::Taken(_) => (ItemState::RolledBack, why, Reason::MigrationItemRolledBack),
        // The live Service is looked at again, and the undo made from what it is then.
        Answer::Conflict => (state(old), old.message.clone().unwrap_or_default(), Reason::MigrationItemBlocked),
        Answer::Gone => (ItemState::Gone, "The Service is gone.".to_owned(), Reason::MigrationItemFailed),
        Answer::PortRefused => {
            (ItemState::Failed, "The undo was refused with HTTP 500.".to_owned(), Reason::MigrationItemFailed)
        }
        Answer::Refused(text) => {
            (ItemState::Failed, format!("The API server refused the undo: {text}"), Reason::MigrationItemFailed)
        }
    };
    (TrafficMigrationItemStatus { state: Some(state), message: Some(message), ..old.clone() }, reason)
}

/// The status of an item whose patch the API server took.
pub(crate) fn applied(
    decision: Decision,
    live: &Service,
    old: &TrafficMigrationItemStatus,
) -> TrafficMigrationItemStatus {
    let port = live.spec.as_ref().and_then(|spec| spec.health_check_node_port).filter(|port| *port != 0);
    let (state, message) = match decision {
        Decision::NeedsApproval => (ItemState::Verifying, WATCHED),
        Decision::Safe | Decision::Invalid => (ItemState::Done, "Applied; no traffic changed."),
    };
    TrafficMigrationItemStatus {
        state: Some(state),
        message: Some(message.to_owned()),
        applied_at: old.applied_at.clone(),
        health_check_node_port: port,
        conflicts: old.conflicts,
    }
}
