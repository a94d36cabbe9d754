//! The migration's own status, from what its items have come to. Pure.

use jiff::Timestamp;
use portreeve_crds::TrafficMigration;
use portreeve_crds::condition::{self, Desired, READY, RECONCILING, STALLED};
use portreeve_crds::migration::{
    APPROVED, COMPLETED, Decision, ItemState, MigrationCounts, MigrationMode, MigrationPhase, PLANNED,
    TrafficMigrationStatus,
};

/// Whether the user's word covers the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Approval {
    /// No item changes traffic.
    NotNeeded,
    /// There is none yet.
    Missing,
    /// It names another plan: the plan changed since it was shown, or the hash was copied wrong.
    OfAnotherPlan,
    /// It names this plan.
    Given,
}

/// What the items have come to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Progress {
    pub(crate) plan_hash: String,
    pub(crate) approval: Approval,
    pub(crate) items: Vec<(Decision, ItemState)>,
    /// Some item is applied and not undone.
    pub(crate) changed: bool,
    /// Some item is applied, and its watch or its undo failed.
    pub(crate) left_applied: bool,
    /// The first item that is held back, and why.
    pub(crate) blocked: Option<String>,
    /// Why the spec cannot be followed.
    pub(crate) problem: Option<String>,
}

impl Progress {
    fn any(&self, states: &[ItemState]) -> bool {
        self.items.iter().any(|(_, state)| states.contains(state))
    }

    /// Where the migration stands.
    pub(crate) fn phase(&self, mode: MigrationMode, rollback: bool) -> MigrationPhase {
        if rollback {
            // What failed before it was applied does not stand in the way of going back.
            return match (self.left_applied, self.changed) {
                (true, _) => MigrationPhase::Failed,
                (false, true) => MigrationPhase::RollingBack,
                (false, false) => MigrationPhase::RolledBack,
            };
        }
        match mode {
            _ if self.problem.is_some() => MigrationPhase::Failed,
            _ if self.any(&[ItemState::Failed, ItemState::RolledBack]) => MigrationPhase::Failed,
            _ if self.any(&[ItemState::Verifying]) => MigrationPhase::Applying,
            MigrationMode::Plan => MigrationPhase::Planned,
            MigrationMode::Propose => MigrationPhase::Proposed,
            MigrationMode::Apply if self.any(&[ItemState::Planned]) => MigrationPhase::Applying,
            MigrationMode::Apply if self.any(&[ItemState::Blocked]) => MigrationPhase::Blocked,
            MigrationMode::Apply if self.any(&[ItemState::AwaitingApproval]) => MigrationPhase::AwaitingApproval,
            // Nothing came of the mode: all that could be applied belongs to somebody else.
            MigrationMode::Apply if self.any(&[ItemState::Proposed]) && !self.any(&[ItemState::Done]) => {
                MigrationPhase::Proposed
            }
            MigrationMode::Apply => MigrationPhase::Completed,
        }
    }

    fn counts(&self) -> MigrationCounts {
        let decision = |wanted| count(self.items.iter().filter(|(decision, _)| *decision == wanted).count());
        let state = |wanted| count(self.items.iter().filter(|(_, state)| *state == wanted).count());
        MigrationCounts {
            safe: decision(Decision::Safe),
            needs_approval: decision(Decision::NeedsApproval),
            invalid: decision(Decision::Invalid),
            done: state(ItemState::Done),
            proposed: state(ItemState::Proposed),
            blocked: state(ItemState::Blocked),
            rolled_back: state(ItemState::RolledBack),
            failed: state(ItemState::Failed),
        }
    }
}

/// The status to write; none if the stored one says it all.
pub(crate) fn status(
    migration: &TrafficMigration,
    progress: &Progress,
    now: Timestamp,
) -> Option<TrafficMigrationStatus> {
    let stored = migration.status.as_ref();
    let generation = migration.metadata.generation;
    let phase = progress.phase(migration.spec.mode, migration.spec.rollback.unwrap_or(false));
    let desired = conditions(progress, phase);
    let status = TrafficMigrationStatus {
        observed_generation: generation,
        phase: Some(phase),
        plan_hash: Some(progress.plan_hash.clone()),
        counts: Some(progress.counts()),
        conditions: condition::merge(stored.map_or(&[], |s| &s.conditions), &desired, generation, now),
    };
    (stored != Some(&status)).then_some(status)
}

fn conditions(progress: &Progress, phase: MigrationPhase) -> Vec<Desired> {
    let planned = match &progress.problem {
        Some(problem) => Desired::no(PLANNED, "Invalid", format!("spec.selector: {problem}")),
        None => Desired::yes(PLANNED, "PlanComplete", "Every Service in scope has an item."),
    };
    let approved = match progress.approval {
        Approval::NotNeeded => Desired::yes(APPROVED, "NotNeeded", "No item changes traffic."),
        Approval::Given => Desired::yes(APPROVED, "HashMatches", "spec.approval names this plan."),
        Approval::Missing => {
            Desired::no(APPROVED, "AwaitingApproval", "Set spec.approval.planHash to status.planHash to go on.")
        }
        Approval::OfAnotherPlan => Desired::no(
            APPROVED,
            "HashDiffers",
            "spec.approval names another plan than the one shown; look at the items and approve status.planHash.",
        ),
    };
    let (reason, message) = words(progress, phase);
    let completed = matches!(phase, MigrationPhase::Completed | MigrationPhase::RolledBack);
    let at_rest = completed || matches!(phase, MigrationPhase::Planned | MigrationPhase::Proposed);
    let condition = |type_, holds| Desired { type_, status: Some(holds), reason, message: message.clone() };
    vec![
        planned,
        approved,
        condition(COMPLETED, completed),
        condition(READY, at_rest),
        condition(RECONCILING, !at_rest && phase != MigrationPhase::Failed),
        condition(STALLED, phase == MigrationPhase::Failed),
    ]
}

fn words(progress: &Progress, phase: MigrationPhase) -> (&'static str, String) {
    let fixed = |reason, message: &str| (reason, message.to_owned());
    match phase {
        MigrationPhase::Planned => fixed("Planned", "The plan is shown; nothing was changed."),
        MigrationPhase::Proposed => {
            fixed("Proposed", "Nothing was changed; the items hold the patches for the sources of the manifests.")
        }
        MigrationPhase::AwaitingApproval => fixed("AwaitingApproval", "Items that change traffic wait for approval."),
        MigrationPhase::Blocked => {
            let first = progress.blocked.as_deref().unwrap_or_default();
            let counts = progress.counts();
            let what =
                format!("{first} What a gate holds back is looked at again when its endpoints or spec.gates change.");
            ("Blocked", format!("{} held back. {what}", items(counts.blocked)))
        }
        MigrationPhase::Applying => fixed("Applying", "Items are being applied or watched."),
        MigrationPhase::Completed => ("Completed", completed(&progress.counts())),
        MigrationPhase::RollingBack => fixed("RollingBack", "Items are being undone."),
        MigrationPhase::RolledBack => fixed("RolledBack", "Every applied item was undone."),
        MigrationPhase::Failed => fixed("Failed", "Nothing more is done until the spec changes; see the items."),
    }
}

fn completed(counts: &MigrationCounts) -> String {
    let parts = [
        (counts.done, "applied"),
        (counts.proposed, "only proposed, for the sources of the manifests"),
        (counts.invalid, "not readable and not touched"),
    ];
    let told: Vec<_> = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", items(*n))).collect();
    if told.is_empty() { "Nothing is left to migrate.".to_owned() } else { format!("{}.", told.join("; ")) }
}

fn items(n: i32) -> String {
    if n == 1 { "1 item".to_owned() } else { format!("{n} items") }
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
