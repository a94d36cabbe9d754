//! Whether a new status is worth a write. Pure; `now` is an argument.
//!
//! Counts, conditions, findings and policies are written at once. A ratio that moved by less than 5 %, and texts that
//! merely repeat numbers, wait until 30 s after the last write, so that 10,000 Services do not become 10,000 writes a
//! minute; they are never dropped.

use portreeve_crds::service_traffic::ServiceTrafficStatus;
use std::time::Duration;

/// Least time between two writes of small moves.
pub(crate) const SMALL_MOVE_EVERY: Duration = Duration::from_secs(30);
/// A move of the ratio by this many permille of the written one is written at once.
const LARGE_MOVE_PERMILLE: i64 = 50;

/// What to do with a new status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing changed.
    Same,
    /// Write it.
    Now,
    /// Write it then, unless it changes back.
    At(Duration),
}

/// Compares the status that is stored with the one that holds. Times are since the process's start; `written` is when
/// this process last wrote the object, if it did.
pub(crate) fn verdict(
    stored: Option<&ServiceTrafficStatus>,
    new: &ServiceTrafficStatus,
    written: Option<Duration>,
    now: Duration,
) -> Verdict {
    let Some(stored) = stored else { return Verdict::Now };
    if same(stored, new) {
        return Verdict::Same;
    }
    if coarse(stored) != coarse(new) || moved_far(stored, new) {
        return Verdict::Now;
    }
    match written.map(|at| at + SMALL_MOVE_EVERY) {
        Some(due) if due > now => Verdict::At(due),
        _ => Verdict::Now,
    }
}

/// Equal but for transition times, which follow from the rest.
fn same(a: &ServiceTrafficStatus, b: &ServiceTrafficStatus) -> bool {
    let timeless = |status: &ServiceTrafficStatus| {
        let mut status = status.clone();
        for condition in &mut status.conditions {
            condition.last_transition_time.0 = jiff::Timestamp::UNIX_EPOCH;
        }
        status
    };
    timeless(a) == timeless(b)
}

/// The status without what may wait: numbers of the imbalance and texts.
fn coarse(status: &ServiceTrafficStatus) -> ServiceTrafficStatus {
    let mut status = status.clone();
    if let Some(imbalance) = &mut status.imbalance {
        imbalance.ratio_permille = 0;
        imbalance.usable_permille = 0;
        imbalance.hottest.node.clear();
        imbalance.hottest.share_permille = 0;
        imbalance.suggested_replicas.clear();
        imbalance.nodes.clear();
    }
    for finding in status.findings.iter_mut().flatten() {
        finding.message.clear();
    }
    for condition in &mut status.conditions {
        condition.message.clear();
        condition.last_transition_time.0 = jiff::Timestamp::UNIX_EPOCH;
    }
    status
}

fn moved_far(stored: &ServiceTrafficStatus, new: &ServiceTrafficStatus) -> bool {
    let ratio = |status: &ServiceTrafficStatus| status.imbalance.as_ref().map(|i| i64::from(i.ratio_permille));
    match (ratio(stored), ratio(new)) {
        (Some(old), Some(new)) => (new - old).abs() * 1000 >= old * LARGE_MOVE_PERMILLE,
        (old, new) => old != new,
    }
}
