//! Step 3, no client: the one step to take, with the migration's status where nothing else is to be done.

use super::machine::{Step, next, progress};
use super::summary;
use super::validate::Validated;
use jiff::Timestamp;
use portreeve_crds::TrafficMigration;
use portreeve_crds::migration::TrafficMigrationStatus;

/// What is to be done for a migration.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) migration: TrafficMigration,
    pub(crate) work: Work,
}

/// One step.
#[derive(Debug)]
pub(crate) enum Work {
    /// Something about items or Services.
    Step(Box<Step>),
    /// The migration's status; look again at `until`.
    Status { status: Box<TrafficMigrationStatus>, until: Option<Timestamp> },
    /// Nothing; look again at `until`.
    Settled { until: Option<Timestamp> },
}

pub(crate) fn build(validated: &Validated<'_>, now: Timestamp) -> Prepared {
    let step = next(validated, now);
    let status = || {
        let progress = progress(validated, now);
        summary::status(validated.migration, &progress, now).map(Box::new)
    };
    let work = match step {
        Step::Rest { until } => match status() {
            Some(status) => Work::Status { status, until },
            None => Work::Settled { until },
        },
        // Before a Service is touched, the status says what is being done and by which plan.
        Step::Apply { .. } | Step::Undo { .. } => match status() {
            Some(status) => Work::Status { status, until: None },
            None => Work::Step(Box::new(step)),
        },
        Step::Record(_) | Step::Drop(_) | Step::Mark(_) => Work::Step(Box::new(step)),
    };
    Prepared { migration: validated.migration.clone(), work }
}
