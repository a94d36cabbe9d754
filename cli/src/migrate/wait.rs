//! Waiting for the operator, with something to look at meanwhile.

use crate::exit::Failure;
use futures::{StreamExt as _, pin_mut};
use indicatif::{ProgressBar, ProgressStyle};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};
use portreeve_crds::TrafficMigration;
use portreeve_crds::condition::is_true;
use portreeve_crds::migration::{MigrationPhase, TrafficMigrationStatus};
use std::time::Duration;
use tokio::time::Instant;

/// How long the operator may leave what is new to it unseen before we say so: it looks within a second when it runs, and
/// another one leads 16 s after one that was killed.
const UNSEEN: Duration = Duration::from_secs(30);
/// How long it may then stay silent: a Service under watch is silent by itself.
const SILENCE: Duration = Duration::from_secs(120);
/// The operator's own window where the spec names none.
const DEFAULT_WINDOW: u64 = 30;

/// Whether the condition `type_` is true.
pub(super) fn holds(status: &TrafficMigrationStatus, type_: &str) -> bool {
    is_true(&status.conditions, type_)
}

/// Whether the condition `type_` is decided, one way or the other.
pub(super) fn told(status: &TrafficMigrationStatus, type_: &str) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == type_)
}

/// Whether nothing more will happen without the user, or without somebody who brings up Pods.
pub(super) fn rests(status: &TrafficMigrationStatus) -> bool {
    matches!(
        status.phase,
        Some(
            MigrationPhase::AwaitingApproval
                | MigrationPhase::Blocked
                | MigrationPhase::Proposed
                | MigrationPhase::Completed
                | MigrationPhase::RolledBack
                | MigrationPhase::Failed
        )
    )
}

/// Follows `from` until its status speaks of its present spec and `done` holds.
pub(super) async fn until(
    api: &Api<TrafficMigration>,
    from: &TrafficMigration,
    progress: bool,
    done: impl Fn(&TrafficMigrationStatus) -> bool,
) -> Result<TrafficMigration, Failure> {
    let (name, generation) = (from.name_any(), from.metadata.generation);
    let bar = if progress { spinner() } else { ProgressBar::hidden() };
    let stream = watcher(api.clone(), watcher::Config::default().fields(&format!("metadata.name={name}")))
        .default_backoff()
        .applied_objects();
    pin_mut!(stream);
    let window = from.spec.verify.as_ref().and_then(|verify| verify.window_seconds);
    let silence =
        SILENCE + Duration::from_secs(window.map_or(DEFAULT_WINDOW, |window| window.max(0).unsigned_abs().into()));
    let (mut seen, mut heard) = (false, Instant::now());
    loop {
        let patience = if seen { silence } else { UNSEEN };
        let next = tokio::time::timeout_at(heard + patience, stream.next()).await;
        let Ok(next) = next else {
            let what = if seen { "said nothing more about" } else { "has not looked at" };
            return Err(Failure::Migration(format!(
                "the operator {what} migration '{name}' for {} s; is it running? `kubectl portreeve status` shows it. \
                 Nothing is lost: it goes on from where it was, and `kubectl portreeve migrate status {name}` shows where \
                 that is",
                patience.as_secs()
            )));
        };
        let migration = match next {
            Some(Ok(migration)) => migration,
            // The watcher reconnects by itself; the deadline above ends a cluster that stays away.
            Some(Err(_)) => continue,
            None => return Err(Failure::Unreachable("the watch ended".to_owned())),
        };
        let Some(status) = migration.status.as_ref() else { continue };
        heard = Instant::now();
        bar.set_message(line(status));
        seen = status.observed_generation >= generation;
        if seen && done(status) {
            bar.finish_and_clear();
            return Ok(migration);
        }
    }
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed:>4} {msg}") {
        bar.set_style(style);
    }
    bar.set_message("waiting for the operator");
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

fn line(status: &TrafficMigrationStatus) -> String {
    let phase = status.phase.map_or_else(|| "Planning".to_owned(), |phase| format!("{phase:?}"));
    let Some(counts) = &status.counts else { return phase };
    let all = counts.safe + counts.needs_approval + counts.invalid;
    let (done, undone, blocked, failed) = (counts.done, counts.rolled_back, counts.blocked, counts.failed);
    format!("{phase}: {done} of {all} done, {undone} undone, {blocked} held back, {failed} failed")
}
