//! Whether a new status is worth a write. Pure; `now` is an argument.
//!
//! Counts, conditions, findings and policies are written at once. A ratio that moved by less than 5 %, and texts that
//! merely repeat numbers, wait until 30 s after the last write, so that 10,000 Services do not become 10,000 writes a
//! minute; they are never dropped.

use crate::index::StoredStatus;
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
    stored: Option<&StoredStatus>,
    new: &StoredStatus,
    written: Option<Duration>,
    now: Duration,
) -> Verdict {
    let Some(stored) = stored else { return Verdict::Now };
    if stored.exact == new.exact {
        return Verdict::Same;
    }
    if stored.coarse != new.coarse || moved_far(stored.ratio_permille, new.ratio_permille) {
        return Verdict::Now;
    }
    match written.map(|at| at + SMALL_MOVE_EVERY) {
        Some(due) if due > now => Verdict::At(due),
        _ => Verdict::Now,
    }
}

fn moved_far(stored: Option<i32>, new: Option<i32>) -> bool {
    match (stored.map(i64::from), new.map(i64::from)) {
        (Some(old), Some(new)) => (new - old).abs() * 1000 >= old * LARGE_MOVE_PERMILLE,
        (old, new) => old != new,
    }
}
