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
    /// Why the spec cannot be followed.
    pub(crate) problem: Option<String>,
}

impl Progress {
    fn any(&self, states: &[ItemState]) -> bool {
        self.items.iter().any(|(_, state)| states.contains(state))
    }

    /// Where the migration stands.
    pub(crate) fn phase(&self, mode: MigrationMode, rollback: bool) -> MigrationPhase {
        if self.problem.is_some() || self.any(&[ItemState::Failed]) {
            return MigrationPhase::Failed;
        }
        if rollback {
            return if self.changed { MigrationPhase::RollingBack } else { MigrationPhase::RolledBack };
        }
        match mode {
            _ if self.any(&[ItemState::RolledBack]) => MigrationPhase::Failed,
            _ if self.any(&[ItemState::Verifying]) => MigrationPhase::Applying,
            MigrationMode::Plan => MigrationPhase::Planned,
            MigrationMode::Propose => MigrationPhase::Proposed,
            MigrationMode::Apply if self.any(&[ItemState::Planned, ItemState::Blocked]) => MigrationPhase::Applying,
            MigrationMode::Apply if self.any(&[ItemState::AwaitingApproval]) => MigrationPhase::AwaitingApproval,
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
    let (reason, message) = words(phase);
    let completed = matches!(phase, MigrationPhase::Completed | MigrationPhase::RolledBack);
    let at_rest = completed || matches!(phase, MigrationPhase::Planned | MigrationPhase::Proposed);
    let condition = |type_, holds| Desired { type_, status: Some(holds), reason, message: message.to_owned() };
    vec![
        planned,
        approved,
        condition(COMPLETED, completed),
        condition(READY, at_rest),
        condition(RECONCILING, !at_rest && phase != MigrationPhase::Failed),
        condition(STALLED, phase == MigrationPhase::Failed),
    ]
}

const fn words(phase: MigrationPhase) -> (&'static str, &'static str) {
    match phase {
        MigrationPhase::Planned => ("Planned", "The plan is shown; nothing was changed."),
        MigrationPhase::Proposed => ("Proposed", "Patches are recorded on the items; nothing was changed."),
        MigrationPhase::AwaitingApproval => ("AwaitingApproval", "Items that change traffic wait for approval."),
        MigrationPhase::Applying => ("Applying", "Items are being applied, watched or held back by a gate."),
        MigrationPhase::Completed => ("Completed", "Every item came to its end."),
        MigrationPhase::RollingBack => ("RollingBack", "Items are being undone."),
        MigrationPhase::RolledBack => ("RolledBack", "Every applied item was undone."),
        MigrationPhase::Failed => ("Failed", "Nothing more is done until the spec changes; see the items."),
    }
}

fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
