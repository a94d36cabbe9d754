//! What an item comes to by the API server's answer. Pure.

use super::item::state;
use crate::notice::Reason;
use k8s_openapi::api::core::v1::Service;
use portreeve_crds::TrafficMigrationItemSpec;
use portreeve_crds::migration::{Decision, ItemState, TrafficMigrationItemStatus};
use portreeve_policy::migration::{Leftover, RollbackRefusal, asked_health_check_port, leftover};

/// Conflicts after which an item fails.
pub(crate) const MOST_CONFLICTS: i32 = 5;
/// How the message of an item begins whose health check node port the API server would not give.
pub(crate) const PORT_REFUSED: &str = "The API server does not give health check node port";

/// Message of an item under watch.
pub(crate) const WATCHED: &str = "Applied; the Service is being watched.";

/// Message of an item that was undone because the user asked for it.
pub(crate) const ASKED: &str = "Undone as asked by spec.rollback.";

/// How the API server took a patch.
pub(crate) enum Answer {
    Taken(Box<Service>),
    /// The Service is not as it was looked at.
    Conflict,
    Gone,
    /// HTTP 500 on a patch that asks for a health check node port: out of range or taken.
    PortRefused,
    /// Not sent: the Service is no longer as the change left it.
    Unfit(RollbackRefusal),
    /// An admission webhook or an admission policy refused.
    Denied(String),
    Refused(String),
}

/// Why an undo is made, and what is known to stand in its way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Undo {
    pub(crate) why: String,
    /// The policy that has ETP001 at Fix for this Service, so that admission removes the annotations again.
    pub(crate) remover: Option<String>,
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
        Answer::Denied(text) => {
            let message = denied("patch", "apply", spec, text);
            (untouched(ItemState::Failed, message), Reason::MigrationItemFailed)
        }
        Answer::Refused(text) => {
            let message = format!("The API server refused the patch: {text}");
            (untouched(ItemState::Failed, message), Reason::MigrationItemFailed)
        }
        Answer::Unfit(refusal) => {
            (untouched(ItemState::Failed, format!("Not applied: {refusal}.")), Reason::MigrationItemFailed)
        }
    }
}

/// The status after an undo was tried.
///
/// RolledBack has one meaning: the Service is as it was before, annotations included. An undo that was taken but changed
/// by admission is Failed, even where traffic is restored: `appliedAt` and the state before stay on the item, so that the
/// undo can be tried again once admission lets it through. As RolledBack it would be planned anew, found without
/// annotations and dropped, and with it the last record of them.
pub(crate) fn after_undo(
    spec: &TrafficMigrationItemSpec,
    old: &TrafficMigrationItemStatus,
    undo: &Undo,
    answer: &Answer,
) -> (TrafficMigrationItemStatus, Reason) {
    let (state, message, reason) = match answer {
        Answer::Taken(service) => {
            let left = leftover(spec, service);
            if left.is_empty() {
                (ItemState::RolledBack, undo.why.clone(), Reason::MigrationItemRolledBack)
            } else {
                (ItemState::Failed, interfered(spec, undo, &left), Reason::MigrationItemFailed)
            }
        }
        Answer::Unfit(refusal) => {
            (ItemState::Failed, format!("Cannot be undone: {refusal}."), Reason::MigrationItemFailed)
        }
        Answer::Denied(text) => {
            (ItemState::Failed, denied("undo", "rollback", spec, text), Reason::MigrationItemFailed)
        }
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

/// What to do comes before what admission said, which may be long.
fn denied(what: &str, again: &str, spec: &TrafficMigrationItemSpec, text: &str) -> String {
    format!(
        "Admission refused the {what}; nothing was changed. Set the rule that refuses it to Warn, then: kubectl portreeve \
         migrate {again} {}. It said: {text}",
        spec.migration
    )
}

fn interfered(spec: &TrafficMigrationItemSpec, undo: &Undo, left: &Leftover) -> String {
    // "Undone" is not true of this one.
    let why = if undo.why == ASKED { String::new() } else { format!("{} ", undo.why) };
    let again = format!("kubectl portreeve migrate rollback {}", spec.migration);
    if let Some(now) = &left.policy {
        let now = now.as_deref().unwrap_or("absent");
        return format!(
            "{why}Admission set spec.externalTrafficPolicy to {now} on the way, so the change is not undone. Find out \
             who (kubectl get mutatingwebhookconfigurations), stop it, then: {again}"
        );
    }
    let keys = left.annotations.join(", ");
    match &undo.remover {
        Some(policy) => format!(
            "{why}Traffic is as it was before, but admission removed {keys} again: {policy} sets rule ETP001 to Fix. Set \
             it to Warn there, then: {again}"
        ),
        None => format!(
            "{why}Traffic is as it was before, but admission removed or changed {keys}. Find out who (rule ETP001 at Fix, \
             or kubectl get mutatingwebhookconfigurations), stop it, then: {again}"
        ),
    }
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
