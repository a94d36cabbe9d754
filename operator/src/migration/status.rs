//! Step 5, client required: statuses of items and of the migration, and what is said about them.

use super::apply::Applied;
use super::item::state;
use crate::api_error;
use crate::index::{Delta, Event};
use crate::notice::{Notice, Reason};
use jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use portreeve_crds::condition::READY;
use portreeve_crds::migration::{Decision, ItemState, MigrationPhase, TrafficMigrationItemStatus};
use portreeve_crds::{TrafficMigration, TrafficMigrationItem, names};
use thiserror::Error;

/// A status could not be written.
#[derive(Debug, Error)]
#[error("cannot write a migration's status: {0}")]
pub(crate) struct StatusError(#[source] pub(crate) kube::Error);

/// A status to write onto an item.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) item: TrafficMigrationItem,
    pub(crate) status: TrafficMigrationItemStatus,
    /// Said about the Service when it is written.
    pub(crate) notice: Option<Notice>,
}

/// What a step came to.
#[derive(Default)]
pub(crate) struct Outcome {
    /// What the API server now holds.
    pub(crate) events: Vec<Event>,
    pub(crate) notices: Vec<Notice>,
    /// Items that changed their state.
    pub(crate) moved: Vec<(Decision, ItemState)>,
    pub(crate) until: Option<Timestamp>,
    pub(crate) settled: bool,
}

pub(crate) async fn status(client: &Client, applied: Applied) -> Result<Outcome, StatusError> {
    let Applied { marks, events, migration, until, settled } = applied;
    let mut outcome = Outcome { events, until, settled, ..Outcome::default() };
    for Mark { item, status, notice } in marks {
        let before = item.status.as_ref().and_then(|status| status.state);
        match write_item(client, &item, &status).await {
            Ok(written) => {
                if before != Some(state(&status)) {
                    outcome.moved.push((item.spec.decision, state(&status)));
                    outcome.notices.extend(notice.or_else(|| moved_notice(&item, &status)));
                }
                outcome.events.push(Event::Item(Delta::Applied(written)));
            }
            // Someone touched or removed the item: the watch tells, and the next pass looks anew.
            Err(StatusError(error)) if api_error::is_not_found(&error) => {
                outcome.events.push(Event::Item(Delta::Deleted(item)));
            }
            Err(error) => return Err(error),
        }
    }
    if let Some((migration, status)) = migration {
        let before = migration.status.as_ref().and_then(|status| status.phase);
        let wanted = TrafficMigration { status: Some(*status), ..migration };
        let api: Api<TrafficMigration> = Api::all(client.clone());
        let name = wanted.metadata.name.clone().unwrap_or_default();
        match api.replace_status(&name, &params(), &wanted).await {
            Ok(written) => {
                outcome.notices.extend(phase_notice(before, &written));
                outcome.events.push(Event::Migration(Delta::Applied(written)));
            }
            Err(error) if api_error::is_not_found(&error) => {}
            Err(error) => return Err(StatusError(error)),
        }
    }
    Ok(outcome)
}

/// A replace guarded by the resource version, so that of two leaders in a row only one can have the last word.
pub(crate) async fn write_item(
    client: &Client,
    item: &TrafficMigrationItem,
    status: &TrafficMigrationItemStatus,
) -> Result<TrafficMigrationItem, StatusError> {
    let api: Api<TrafficMigrationItem> =
        Api::namespaced(client.clone(), item.metadata.namespace.as_deref().unwrap_or_default());
    let wanted = TrafficMigrationItem { status: Some(status.clone()), ..item.clone() };
    let name = item.metadata.name.as_deref().unwrap_or_default();
    api.replace_status(name, &params(), &wanted).await.map_err(StatusError)
}

fn params() -> PostParams {
    PostParams { dry_run: false, field_manager: Some(names::MANAGER_OPERATOR.to_owned()) }
}

fn moved_notice(item: &TrafficMigrationItem, status: &TrafficMigrationItemStatus) -> Option<Notice> {
    let reason = match state(status) {
        ItemState::Verifying => Reason::MigrationItemApplied,
        ItemState::Done => Reason::MigrationItemDone,
        ItemState::Blocked => Reason::MigrationItemBlocked,
        ItemState::Failed | ItemState::Gone => Reason::MigrationItemFailed,
        ItemState::RolledBack => Reason::MigrationItemRolledBack,
        ItemState::Planned | ItemState::Proposed | ItemState::AwaitingApproval | ItemState::Invalid => return None,
    };
    let namespace = item.metadata.namespace.as_deref().unwrap_or_default();
    let note = status.message.clone().unwrap_or_default();
    let note = format!("{note} (TrafficMigration {})", item.spec.migration);
    Some(Notice::about_service(namespace, &item.spec.service.name, &item.spec.service.uid, reason, note))
}

fn phase_notice(before: Option<MigrationPhase>, migration: &TrafficMigration) -> Option<Notice> {
    let status = migration.status.as_ref()?;
    let phase = status.phase.filter(|phase| Some(*phase) != before)?;
    let hash = status.plan_hash.as_deref().unwrap_or_default();
    let (reason, note) = match phase {
        MigrationPhase::Planned | MigrationPhase::Proposed => {
            (Reason::MigrationPlanned, format!("The plan is {hash}; nothing was changed."))
        }
        MigrationPhase::AwaitingApproval => {
            (Reason::MigrationAwaitsApproval, format!("Items that change traffic wait for approval of {hash}."))
        }
        MigrationPhase::Completed => {
            let ready = status.conditions.iter().find(|condition| condition.type_ == READY);
            (Reason::MigrationCompleted, ready.map(|ready| ready.message.clone()).unwrap_or_default())
        }
        MigrationPhase::RolledBack => (Reason::MigrationRolledBack, "Every applied item was undone.".to_owned()),
        MigrationPhase::Failed => {
            (Reason::MigrationFailed, "Nothing more is done until the spec changes; see the items.".to_owned())
        }
        // The items' own Events tell.
        MigrationPhase::Applying | MigrationPhase::Blocked | MigrationPhase::RollingBack => return None,
    };
    Some(Notice::about(migration, reason, note))
}
