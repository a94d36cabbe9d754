//! The state machine: given a migration, its items, the live Services and the time, the one thing to do next. Pure.
//!
//! It holds no state of its own: everything is read from what is recorded, so that every run, after any crash, goes on
//! from there. Order of concern: what was begun is settled first, then rollback, then recording the plan, then marking
//! items, then applying, then the migration's own status.

use super::BATCH;
use super::answer::{ASKED, PORT_REFUSED, Undo, WATCHED, applied};
use super::dereference::ItemView;
use super::item::{holds_outcome, intended, record, same_plan, state};
use super::summary::{Approval, Progress};
use super::validate::Validated;
use crate::index::has_legacy_annotation;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Service;
use portreeve_crds::TrafficMigrationItem;
use portreeve_crds::migration::{Decision, Gates, ItemState, MigrationMode, TrafficMigrationItemStatus, Verify};
use portreeve_policy::migration::{PlannedItem, gates, leftover, plan_hash, stays_in_bounds};
use std::collections::BTreeMap;

/// Seconds of the verify window where the spec names none.
const DEFAULT_WINDOW: i64 = 30;

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Record these items: they are new, or their plan changed.
    Record(Vec<TrafficMigrationItem>),
    /// Remove this item: its Service needs nothing any more, and nothing was done to it.
    Drop(TrafficMigrationItem),
    /// Write these items' statuses.
    Mark(Vec<(TrafficMigrationItem, TrafficMigrationItemStatus)>),
    /// Change a Service as the item says.
    Apply { item: TrafficMigrationItem, resource_version: String, accept_new_port: bool },
    /// Take a change back. The patch is not made here, where only a part of the Service is known.
    Undo { item: TrafficMigrationItem, undo: Undo },
    /// Nothing to do to items; look again at `until` if given.
    Rest { until: Option<Timestamp> },
}

/// One step for a migration.
pub(crate) fn next(validated: &Validated<'_>, now: Timestamp) -> Step {
    Machine { view: validated, now }.next()
}

/// What the items have come to.
pub(crate) fn progress(validated: &Validated<'_>, now: Timestamp) -> Progress {
    Machine { view: validated, now }.progress()
}

struct Machine<'a, 'v> {
    view: &'v Validated<'a>,
    now: Timestamp,
}

impl Machine<'_, '_> {
    fn next(&self) -> Step {
        let rollback = self.view.migration.spec.rollback.unwrap_or(false);
        self.settle_begun()
            .or_else(|| if rollback { self.retry_undo().or_else(|| self.undo_next()) } else { None })
            .or_else(|| if rollback || self.view.problem.is_some() { None } else { self.go_forward() })
            .unwrap_or_else(|| self.rest())
    }

    fn go_forward(&self) -> Option<Step> {
        self.retry_after_change().or_else(|| self.record_plan()).or_else(|| self.mark()).or_else(|| self.apply_next())
    }

    /// Items that a process was applying when it ended: the live Service says whether the change was made.
    fn settle_begun(&self) -> Option<Step> {
        let begun = self.view.items.iter().filter(|view| intended(&status(view)));
        let marks = begun.map(|view| {
            let old = status(view);
            let done = view.live.filter(|live| outcome(view, live));
            let new = match done {
                Some(live) => applied(view.item.spec.decision, live, &old),
                None => TrafficMigrationItemStatus { applied_at: None, ..old },
            };
            (view.item.clone(), new)
        });
        step_of(marks.take(BATCH).collect()).or_else(|| self.watch_applied())
    }

    /// Items under watch: ended windows, and Services that did not stand the change.
    fn watch_applied(&self) -> Option<Step> {
        let verify = self.view.migration.spec.verify.clone().unwrap_or_default();
        self.view.items.iter().filter(|view| state(&status(view)) == ItemState::Verifying).find_map(|view| {
            let old = status(view);
            let Some(live) = view.live.filter(|live| same_service(view, live)) else {
                return mark(view, ItemState::Gone, "The Service was deleted while it was watched.");
            };
            if !outcome(view, live) {
                let why = "Somebody changed the Service back while it was watched; it was left as it is.";
                return mark(view, ItemState::Failed, why);
            }
            if let Err(refusal) = gates(&planned(view), &self.gates(), &view.endpoints) {
                let why = format!("The Service did not stand the change: {refusal}.");
                if !verify.auto_rollback.unwrap_or(true) {
                    return mark(view, ItemState::Failed, &why);
                }
                return Some(undo(view, why));
            }
            let due = window_end(&old, &verify)?;
            let message = match old.message.unwrap_or_default() {
                message if message == WATCHED => "Applied, and stood its watch.".to_owned(),
                message => message,
            };
            (due <= self.now).then(|| mark(view, ItemState::Done, &message)).flatten()
        })
    }

    /// The latest change that is still to be taken back.
    fn undo_next(&self) -> Option<Step> {
        let changed = self.view.items.iter().filter(|view| is_changed(&status(view)));
        let latest = changed.max_by_key(|view| (applied_at(&status(view)), view.item.metadata.name.clone()))?;
        let Some(live) = latest.live.filter(|live| same_service(latest, live)) else {
            return mark(latest, ItemState::Gone, "The Service was deleted; there is nothing to undo.");
        };
        if is_before(latest, live) {
            return mark(latest, ItemState::RolledBack, ASKED);
        }
        Some(undo(latest, ASKED.to_owned()))
    }

    fn spec_changed(&self) -> bool {
        let migration = self.view.migration;
        let observed = migration.status.as_ref().and_then(|status| status.observed_generation);
        observed.is_some() && observed != migration.metadata.generation
    }

    /// A changed spec is the user's word to try again: what was applied and failed since is to be undone like the rest.
    fn retry_undo(&self) -> Option<Step> {
        let failed = self.view.items.iter().filter(|view| self.spec_changed() && is_left_applied(&status(view)));
        let marks = failed.map(|view| (view.item.clone(), held(view, "Applied; to be undone.")));
        step_of(marks.take(BATCH).collect())
    }

    /// A changed spec is the user's word to try again: what failed or was undone is planned anew. What was applied and
    /// has no annotation any more cannot be planned: the item stays, as the only record of what was there before.
    fn retry_after_change(&self) -> Option<Step> {
        if !self.spec_changed() {
            return None;
        }
        let refused = |view: &ItemView<'_>| view.item.status.as_ref().is_some_and(was_port_refused);
        let stuck = self.view.items.iter().filter(|view| is_stuck(view) || refused(view));
        let marks = stuck.map(|view| {
            let stripped = |live: &&Service| same_service(view, live) && !has_legacy_annotation(live);
            let new = match view.live.filter(stripped) {
                Some(live) if is_left_applied(&status(view)) && outcome(view, live) => {
                    held(view, "Applied, and left as it is.")
                }
                Some(_) if is_left_applied(&status(view)) => held(
                    view,
                    "The annotations are gone, but externalTrafficPolicy is not as it was approved. Set it yourself, or \
                     roll back and plan anew.",
                ),
                _ => {
                    let state = Some(ItemState::Planned);
                    TrafficMigrationItemStatus { state, ..TrafficMigrationItemStatus::default() }
                }
            };
            (view.item.clone(), new)
        });
        step_of(marks.take(BATCH).collect())
    }

    /// Brings the recorded items in line with today's plan. What was applied, or failed, stays as it was recorded.
    fn record_plan(&self) -> Option<Step> {
        let recorded: BTreeMap<_, _> = self.view.items.iter().map(|view| (service_of(view.item), view)).collect();
        let mut planned = BTreeMap::new();
        let mut records = Vec::new();
        for plan in &self.view.planned {
            let key = (plan.namespace.as_str(), plan.name.as_str());
            planned.insert(key, plan);
            let view = recorded.get(&key);
            let keep = view.is_some_and(|view| {
                let fixed = is_final(&status(view)) && view.item.spec.service.uid == plan.uid;
                fixed || same_plan(&view.item.spec, plan)
            });
            if !keep {
                let mut item = record(self.view.migration, plan);
                if let Some(view) = view {
                    item.metadata.resource_version.clone_from(&view.item.metadata.resource_version);
                    item.metadata.uid.clone_from(&view.item.metadata.uid);
                    // A plan made anew keeps count of its conflicts, so that it cannot go on for ever.
                    let conflicts = view.item.status.as_ref().and_then(|status| status.conflicts);
                    item.status =
                        Some(TrafficMigrationItemStatus { conflicts, ..TrafficMigrationItemStatus::default() });
                }
                records.push(item);
                if records.len() == BATCH {
                    break;
                }
            }
        }
        if !records.is_empty() {
            return Some(Step::Record(records));
        }
        let unplanned = recorded.iter().filter(|(key, view)| !planned.contains_key(*key) && !is_final(&status(view)));
        unplanned.map(|(_, view)| unplanned_step(view)).next()
    }

    /// Brings every item's state in line with the mode and the approval.
    fn mark(&self) -> Option<Step> {
        let approved = self.approval() == Approval::Given;
        let marks = self.view.items.iter().filter(|view| !is_final(&status(view))).filter_map(|view| {
            let old = status(view);
            let (state, message) = self.resting_state(view, approved);
            let new = TrafficMigrationItemStatus { state: Some(state), message: Some(message), ..old.clone() };
            (new != old).then(|| (view.item.clone(), new))
        });
        step_of(marks.take(BATCH).collect())
    }

    fn resting_state(&self, view: &ItemView<'_>, approved: bool) -> (ItemState, String) {
        let spec = &view.item.spec;
        let old = status(view);
        if spec.decision == Decision::Invalid {
            return (ItemState::Invalid, spec.reason.clone());
        }
        match (self.view.migration.spec.mode, spec.owner) {
            (MigrationMode::Plan, _) => return (ItemState::Planned, spec.reason.clone()),
            (MigrationMode::Propose, _) => {
                return (
                    ItemState::Proposed,
                    "The patch is for the manifest's source; the Service stays as it is.".into(),
                );
            }
            (MigrationMode::Apply, Some(owner)) if !self.view.migration.spec.include_owned.unwrap_or(false) => {
                let owner = owner.as_str();
                return (
                    ItemState::Proposed,
                    format!("{owner} would bring the annotation back; change it at the source."),
                );
            }
            (MigrationMode::Apply, _) => {}
        }
        if spec.decision == Decision::NeedsApproval && !approved {
            return (ItemState::AwaitingApproval, "Waits for spec.approval.planHash.".to_owned());
        }
        if let Err(refusal) = gates(&planned(view), &self.gates(), &view.endpoints) {
            return (ItemState::Blocked, format!("Held back: {refusal}."));
        }
        if self.port_refused(&old) {
            return (ItemState::Blocked, old.message.unwrap_or_default());
        }
        (
            ItemState::Planned,
            if old.conflicts.is_some() { old.message.unwrap_or_default() } else { spec.reason.clone() },
        )
    }

    /// The API server refused the old health check node port, and the approval does not accept another.
    fn port_refused(&self, status: &TrafficMigrationItemStatus) -> bool {
        was_port_refused(status) && !self.accepts_new_port()
    }

    /// Safe items first, then those that change traffic, one at a time and only while nothing is under watch.
    fn apply_next(&self) -> Option<Step> {
        if self.view.migration.spec.mode != MigrationMode::Apply || self.view.items.iter().any(is_stuck) {
            return None;
        }
        let busy =
            self.view.others_busy || self.view.items.iter().any(|view| state(&status(view)) == ItemState::Verifying);
        let ready = self.view.items.iter().filter(|view| state(&status(view)) == ItemState::Planned);
        let eligible = ready.filter(|view| view.item.spec.decision == Decision::Safe || !busy);
        let first = eligible.min_by_key(|view| (view.item.spec.decision, service_of(view.item)))?;
        if !stays_in_bounds(&first.item.spec.patch) {
            return mark(first, ItemState::Failed, "The recorded patch touches more than a migration may.");
        }
        let live = first.live?;
        Some(Step::Apply {
            item: first.item.clone(),
            resource_version: version(live),
            accept_new_port: self.accepts_new_port(),
        })
    }

    fn rest(&self) -> Step {
        let verify = self.view.migration.spec.verify.clone().unwrap_or_default();
        let watched = self.view.items.iter().filter(|view| state(&status(view)) == ItemState::Verifying);
        let until = watched.filter_map(|view| window_end(&status(view), &verify)).min();
        Step::Rest { until }
    }

    fn progress(&self) -> Progress {
        let items = self.view.items.iter().map(|view| (view.item.spec.decision, state(&status(view))));
        Progress {
            plan_hash: self.plan_hash(),
            approval: self.approval(),
            items: items.collect(),
            changed: self.view.items.iter().any(|view| is_changed(&status(view))),
            left_applied: self.view.items.iter().any(|view| is_left_applied(&status(view))),
            blocked: self.view.items.iter().find(|view| state(&status(view)) == ItemState::Blocked).map(|view| {
                let (namespace, name) = service_of(view.item);
                format!("{namespace}/{name}: {}", status(view).message.unwrap_or_default())
            }),
            problem: self.view.problem.as_ref().map(ToString::to_string),
        }
    }

    fn approval(&self) -> Approval {
        if !self.view.items.iter().any(|view| view.item.spec.decision == Decision::NeedsApproval) {
            return Approval::NotNeeded;
        }
        match &self.view.migration.spec.approval {
            None => Approval::Missing,
            Some(approval) if approval.plan_hash == self.plan_hash() => Approval::Given,
            Some(_) => Approval::OfAnotherPlan,
        }
    }

    /// Over everything that is recorded, applied or not: applying one item does not void the approval of the rest.
    fn plan_hash(&self) -> String {
        let items: Vec<_> = self.view.items.iter().map(planned).collect();
        plan_hash(&items)
    }

    fn accepts_new_port(&self) -> bool {
        let approval = self.view.migration.spec.approval.as_ref();
        approval.and_then(|approval| approval.accept_new_health_check_node_port).unwrap_or(false)
    }

    fn gates(&self) -> Gates {
        self.view.migration.spec.gates.clone().unwrap_or_default()
    }
}

fn was_port_refused(status: &TrafficMigrationItemStatus) -> bool {
    status.message.as_deref().is_some_and(|message| message.starts_with(PORT_REFUSED))
}

fn unplanned_step(view: &ItemView<'_>) -> Step {
    let gone = |message: &str| {
        let state = Some(ItemState::Gone);
        let old = status(view);
        mark_always(view, TrafficMigrationItemStatus { state, message: Some(message.to_owned()), ..old })
    };
    match view.live {
        None => gone("The Service is gone."),
        Some(live) if !same_service(view, live) => gone("The Service was made anew without the annotation."),
        Some(_) => Step::Drop(view.item.clone()),
    }
}

fn status(view: &ItemView<'_>) -> TrafficMigrationItemStatus {
    view.item.status.clone().unwrap_or_default()
}

fn planned(view: &ItemView<'_>) -> PlannedItem {
    PlannedItem::from_spec(view.item.metadata.namespace.as_deref().unwrap_or_default(), &view.item.spec)
}

fn service_of(item: &TrafficMigrationItem) -> (&str, &str) {
    (item.metadata.namespace.as_deref().unwrap_or_default(), &item.spec.service.name)
}

/// No longer follows the plan: something was done, or nothing can be.
fn is_final(status: &TrafficMigrationItemStatus) -> bool {
    matches!(
        state(status),
        ItemState::Verifying | ItemState::Done | ItemState::RolledBack | ItemState::Failed | ItemState::Gone
    )
}

/// Applied, and not undone.
fn is_changed(status: &TrafficMigrationItemStatus) -> bool {
    matches!(state(status), ItemState::Done | ItemState::Verifying) && status.applied_at.is_some()
}

/// Applied, and then it failed: the watch, or the undo.
fn is_left_applied(status: &TrafficMigrationItemStatus) -> bool {
    state(status) == ItemState::Failed && status.applied_at.is_some()
}

/// Stops the migration until its spec changes.
fn is_stuck(view: &ItemView<'_>) -> bool {
    matches!(state(&status(view)), ItemState::Failed | ItemState::RolledBack)
}

fn same_service(view: &ItemView<'_>, live: &Service) -> bool {
    live.metadata.uid.as_deref() == Some(&view.item.spec.service.uid)
}

fn outcome(view: &ItemView<'_>, live: &Service) -> bool {
    holds_outcome(&view.item.spec.patch, &view.item.spec.service.uid, live)
}

/// The live Service is as it was before the change: an undo was made, and not recorded.
fn is_before(view: &ItemView<'_>, live: &Service) -> bool {
    leftover(&view.item.spec, live).is_empty()
}

fn undo(view: &ItemView<'_>, why: String) -> Step {
    Step::Undo { item: view.item.clone(), undo: Undo { why, remover: view.remover.clone() } }
}

/// The item counts as applied again, and its record stays.
fn held(view: &ItemView<'_>, message: &str) -> TrafficMigrationItemStatus {
    TrafficMigrationItemStatus { state: Some(ItemState::Done), message: Some(message.to_owned()), ..status(view) }
}

fn version(live: &Service) -> String {
    live.metadata.resource_version.clone().unwrap_or_default()
}

fn applied_at(status: &TrafficMigrationItemStatus) -> Option<Timestamp> {
    status.applied_at.as_ref().and_then(|at| at.parse().ok())
}

/// When the watch over an item ends. A time that cannot be read has passed.
fn window_end(status: &TrafficMigrationItemStatus, verify: &Verify) -> Option<Timestamp> {
    let seconds = verify.window_seconds.map_or(DEFAULT_WINDOW, i64::from);
    let begin = applied_at(status).unwrap_or(Timestamp::UNIX_EPOCH);
    begin.checked_add(SignedDuration::from_secs(seconds)).ok()
}

fn mark(view: &ItemView<'_>, state: ItemState, message: &str) -> Option<Step> {
    let new = TrafficMigrationItemStatus { state: Some(state), message: Some(message.to_owned()), ..status(view) };
    Some(mark_always(view, new))
}

fn mark_always(view: &ItemView<'_>, status: TrafficMigrationItemStatus) -> Step {
    Step::Mark(vec![(view.item.clone(), status)])
}

fn step_of(marks: Vec<(TrafficMigrationItem, TrafficMigrationItemStatus)>) -> Option<Step> {
    (!marks.is_empty()).then_some(Step::Mark(marks))
}
