//! Keeps an engine in step with the table: when it is called, with what, and what is made of its answer. Synchronous; the
//! clock is an argument.

mod chore;

use chore::Chore;
use portreeve_table::{
    Applied, BackendKind, Changes, Difference, Engine, EngineError, ForwardingTable, Goal, Integrity, Interface, Keeps,
    Op, PodFlows, ServiceKey, Yields, diff_of,
};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Wait after the first failure; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Wait until flows that could not be ended are tried again.
const LINGER: Duration = Duration::from_secs(1);
/// Least time from one search for flows that must end to the next: each is a walk through all that the kernel tracks, 5 ms
/// and more. What goes meanwhile is searched for together.
const BETWEEN: Duration = Duration::from_millis(500);

/// Opens an engine of a kind.
pub(crate) type Open = Box<dyn FnMut(BackendKind) -> Result<Box<dyn Engine>, EngineError> + Send>;

/// What is wanted of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) kind: BackendKind,
    pub(crate) uplinks: BTreeSet<Interface>,
}

/// The engine of this node, in step with the table or on the way to it.
pub(crate) struct Program {
    open: Open,
    /// Kinds of engines that can be used here.
    usable: BTreeSet<BackendKind>,
    running: Option<Running>,
    /// Nothing of ours is in force, so that another proxy alone decides.
    yielded: bool,
    /// Everything is to be made anew, whatever the engine in use knows.
    anew: bool,
    standing: Standing,
    /// What the last round was asked for, if it failed.
    failed: Option<Wanted>,
    /// Flows whose Pods are gone are to be ended.
    flows: Chore,
    /// What engines of other kinds programmed, in this life or an earlier one, is to be cleared away.
    others: Chore,
}

/// One engine and what it was told.
struct Running {
    wanted: Wanted,
    engine: Box<dyn Engine>,
    /// The table as the engine was told, from which steps lead on.
    told: ForwardingTable,
    touched: BTreeSet<ServiceKey>,
    /// Something other than a Service's entry may differ, or what is in force is not known.
    due: bool,
    /// Flows were ended whose Pods went while no agent ran.
    swept: bool,
    /// Pods have gone since flows were last to be ended.
    gone: bool,
    made: Made,
}

/// When what the engine has in force was programmed.
struct Made {
    /// All of it.
    everything: Instant,
    /// Services that were programmed later.
    later: BTreeMap<ServiceKey, Instant>,
}

impl Made {
    fn note(&mut self, applied: Applied, steps: &[Op], now: Instant) {
        if applied == Applied::Replaced {
            *self = Self { everything: now, later: BTreeMap::new() };
            return;
        }
        for step in steps {
            match step {
                Op::Add(key, _) | Op::Replace(key, _) => _ = self.later.insert(key.clone(), now),
                Op::Remove(key) => _ = self.later.remove(key),
                Op::NodeAddresses(_) | Op::PodRanges(_) | Op::Gone { .. } => {}
            }
        }
    }

    fn since(&self, service: &ServiceKey) -> Instant {
        self.later.get(service).copied().unwrap_or(self.everything)
    }
}

impl Running {
    fn has_news(&self) -> bool {
        self.due || !self.touched.is_empty()
    }

    fn step(
        &mut self,
        wanted: &Wanted,
        table: &ForwardingTable,
        now: Instant,
    ) -> Result<(Applied, usize), EngineError> {
        let Self { wanted: has, engine, told, touched, due, swept: _, gone, made } = self;
        let steps = diff_of(told, table, &*touched);
        // The engine remembers whose flows are to end even if it fails. A Service that comes back may do so without a Pod.
        *gone |= steps.iter().any(|step| matches!(step, Op::Gone { .. } | Op::Add(..)));
        let outcome = engine.apply(Goal { table, uplinks: &wanted.uplinks }, &steps);
        // Whether it succeeded or not: an engine that failed makes everything anew, from the goal and not from steps.
        portreeve_table::apply(told, &steps);
        touched.clear();
        has.clone_from(wanted);
        *due = outcome.is_err();
        let applied = outcome?;
        made.note(applied, &steps, now);
        Ok((applied, steps.len()))
    }

    fn end_flows(&mut self, table: &ForwardingTable, keeps: Keeps<'_>) -> Result<(), EngineError> {
        if !self.swept {
            self.engine.sweep(table, keeps)?;
            self.swept = true;
        }
        self.engine.end_flows(table)
    }
}

/// Whether the kernel does what the table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing was tried yet.
    NotYet,
    /// It does.
    InStep(BackendKind),
    /// The last attempt failed.
    Failed { why: String, failures: u32, again: Instant, meanwhile: Meanwhile },
}

/// What the kernel does after an attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meanwhile {
    /// It is not known.
    Unknown,
    /// What the table says, by the engine that was in force before.
    Former(BackendKind),
    /// Nothing of ours.
    Nothing,
}

/// What one round did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    pub(crate) applied: Applied,
    /// Steps that it was asked for.
    pub(crate) steps: usize,
    /// It is the first of this engine.
    pub(crate) first: bool,
}

impl Program {
    pub(crate) fn new(usable: impl IntoIterator<Item = BackendKind>, open: Open) -> Self {
        let usable = usable.into_iter().collect();
        let (flows, others) = (Chore::new(BETWEEN, LINGER), Chore::new(Duration::ZERO, MAX_WAIT));
        Self {
            open,
            usable,
            running: None,
            yielded: false,
            anew: false,
            standing: Standing::NotYet,
            failed: None,
            flows,
            others,
        }
    }

    /// Notes what has changed, for the next round.
    pub(crate) fn note(&mut self, changes: Changes) {
        // An engine that is yet to be opened is told the whole table.
        if let Some(running) = &mut self.running {
            running.due |= changes.addresses;
            running.touched.extend(changes.touched());
        }
    }

    /// When the next round is due, if one is.
    pub(crate) fn due(&self, wanted: &Wanted, now: Instant) -> Option<Instant> {
        // What fails may be just what another wish is to mend.
        if let (Standing::Failed { again, .. }, true) = (&self.standing, self.failed.as_ref() == Some(wanted)) {
            let serves_by_old_table = |running: &Running| running.wanted.kind != wanted.kind && running.has_news();
            return Some(if self.running.as_ref().is_some_and(serves_by_old_table) { now } else { *again });
        }
        let in_step = |running: &Running| running.wanted == *wanted && !running.has_news();
        if self.running.as_ref().is_some_and(in_step) {
            return [self.flows.due(), self.others.due()].into_iter().flatten().min();
        }
        Some(now)
    }

    /// Puts `table` in force as `wanted`, and ends the flows that `keeps` does not keep. An engine that is replaced is cleared
    /// away when its successor is in force, so that no packet meets neither; if the successor fails, it stays.
    ///
    /// # Errors
    /// When the table is not known to be in force; [`due`](Self::due) then says when to try again.
    pub(crate) fn round(
        &mut self,
        wanted: &Wanted,
        table: &ForwardingTable,
        keeps: Keeps<'_>,
        now: Instant,
    ) -> Result<Round, ProgramError> {
        let round = self.attempt(wanted, table, now);
        self.anew = false;
        match &round {
            Ok(_) => {
                self.yielded = false;
                self.do_chores(wanted.kind, table, keeps, now);
            }
            Err(error) if error.is_yielding() => self.give_way(wanted.kind, now),
            Err(_) => self.yielded = false,
        }
        self.failed = round.is_err().then(|| wanted.clone());
        self.standing = match &round {
            Ok(_) => Standing::InStep(wanted.kind),
            Err(error) => {
                let failures = match self.standing {
                    Standing::Failed { failures, .. } => failures.saturating_add(1),
                    _ => 1,
                };
                let wait = FIRST_WAIT.saturating_mul(1 << (failures - 1).min(16)).min(MAX_WAIT);
                let former = |it: &&Running| it.wanted.kind != wanted.kind && !it.has_news();
                let meanwhile = match self.running.as_ref().filter(former) {
                    Some(former) => Meanwhile::Former(former.wanted.kind),
                    None if self.yielded && self.others.failed().is_none() => Meanwhile::Nothing,
                    None => Meanwhile::Unknown,
                };
                Standing::Failed { why: error.to_string(), failures, again: now + wait, meanwhile }
            }
        };
        round
    }

    fn attempt(&mut self, wanted: &Wanted, table: &ForwardingTable, now: Instant) -> Result<Round, ProgramError> {
        let kind = wanted.kind;
        let failed = |source| ProgramError::Apply { kind, source };
        let round = match &mut self.running {
            Some(running) if running.wanted.kind == kind && !self.anew => {
                let (applied, steps) = running.step(wanted, table, now).map_err(failed)?;
                Round { applied, steps, first: false }
            }
            former => {
                // It serves until its successor does, and must not do so by an old table; one of the same kind writes over it.
                // That it cannot is no reason to keep it.
                let old = |it: &&mut Running| it.has_news() || it.wanted.uplinks != wanted.uplinks;
                let stale = former.as_mut().filter(|it| it.wanted.kind != kind).filter(old).and_then(|former| {
                    let own = Wanted { kind: former.wanted.kind, uplinks: wanted.uplinks.clone() };
                    former.step(&own, table, now).err().map(|source| (own.kind, source))
                });
                let failed = |source| match stale {
                    None => failed(source),
                    Some((former, stale)) => ProgramError::Both { kind, source, former, stale },
                };
                let mut fresh = Running {
                    wanted: wanted.clone(),
                    engine: (self.open)(kind).map_err(|source| ProgramError::Open { kind, source })?,
                    told: ForwardingTable::default(),
                    touched: table.services.keys().cloned().collect(),
                    due: true,
                    swept: false,
                    gone: false,
                    made: Made { everything: now, later: BTreeMap::new() },
                };
                let (applied, steps) = fresh.step(wanted, table, now).map_err(failed)?;
                self.running = Some(fresh);
                self.others.want(now);
                Round { applied, steps, first: true }
            }
        };
        Ok(round)
    }

    /// What is left over behind a table that is in force is no reason to doubt it.
    fn do_chores(&mut self, kind: BackendKind, table: &ForwardingTable, keeps: Keeps<'_>, now: Instant) {
        let Some(running) = &mut self.running else { return };
        if mem::take(&mut running.gone) || !running.swept {
            self.flows.want(now);
        }
        if self.flows.is_due(now) {
            let outcome = running.end_flows(table, keeps).map_err(|error| error.to_string());
            self.flows.tried(outcome, now);
        }
        if self.others.is_due(now) {
            let outcome = self.clear_others(kind).map_err(|error| error.to_string());
            self.others.tried(outcome, now);
        }
    }

    /// Leaves all to the proxy that decides before the engine of this kind, which has taken its own away.
    fn give_way(&mut self, kind: BackendKind, now: Instant) {
        if self.running.take().is_some() || !self.yielded {
            self.others.want(now);
        }
        self.yielded = true;
        if self.others.is_due(now) {
            let outcome = self.clear_others(kind).map_err(|error| error.to_string());
            self.others.tried(outcome, now);
        }
    }

    fn clear_others(&mut self, kind: BackendKind) -> Result<(), ProgramError> {
        for other in self.usable.iter().copied().filter(|other| *other != kind) {
            let cleared = (self.open)(other).and_then(|mut engine| engine.remove());
            cleared.map_err(|source| ProgramError::Clear { kind: other, source })?;
        }
        Ok(())
    }

    /// What is left over beside a table that is in force, if something is.
    pub(crate) fn lingering(&self) -> Option<&str> {
        self.flows.failed().or_else(|| self.others.failed())
    }

    /// Whether somebody else has changed what was programmed; if so, a round is due.
    ///
    /// # Errors
    /// When that cannot be found out; then too a round is due, which tells more.
    pub(crate) fn disturbed(&mut self) -> Result<bool, EngineError> {
        let Some(running) = &mut self.running else { return Ok(false) };
        let found = running.engine.integrity();
        let lost = !matches!(found, Ok(Integrity::Intact | Integrity::Unknown));
        running.due |= lost;
        found.map(|_| lost)
    }

    /// Makes the next round one of a fresh engine, which knows nothing of what is in force and makes everything anew.
    pub(crate) const fn make_anew(&mut self) {
        self.anew = true;
    }

    /// New flows to the Pods of a Service, and when the Service was last programmed.
    pub(crate) fn flows(&mut self, service: &ServiceKey) -> Result<(Instant, Vec<PodFlows>), EngineError> {
        let running = self.running.as_mut().ok_or("nothing is programmed yet")?;
        Ok((running.made.since(service), running.engine.flows(service)?))
    }

    /// Where the kernel is not what was last put in force.
    pub(crate) fn read_back(&mut self) -> Result<Vec<Difference>, EngineError> {
        self.running.as_mut().ok_or("nothing is programmed yet")?.engine.read_back()
    }

    /// Readable when [`disturbed`](Self::disturbed) should be asked; `None` if the engine in use has no such thing.
    pub(crate) fn alarm(&self) -> Result<Option<OwnedFd>, EngineError> {
        self.running.as_ref().map_or(Ok(None), |running| running.engine.alarm())
    }

    /// Lets health checks come to `listeners` for a while, or ends it if there are none.
    pub(crate) fn steer_health_checks(&mut self, listeners: &[SocketAddr]) -> Result<(), EngineError> {
        match &mut self.running {
            Some(running) => running.engine.steer_health_checks(listeners),
            None if listeners.is_empty() => Ok(()),
            None => Err("no engine is in force yet".into()),
        }
    }

    /// Takes everything away, whatever engine has programmed it.
    pub(crate) fn remove(&mut self) -> Result<(), ProgramError> {
        self.running = None;
        self.standing = Standing::NotYet;
        for kind in self.usable.iter().copied() {
            let removed = (self.open)(kind).and_then(|mut engine| engine.remove());
            removed.map_err(|source| ProgramError::Clear { kind, source })?;
        }
        Ok(())
    }

    pub(crate) const fn standing(&self) -> &Standing {
        &self.standing
    }
}

/// Why the kernel may not do what the table says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// The engine could not be opened.
    #[error("{kind} cannot be used: {source}")]
    Open { kind: BackendKind, source: EngineError },
    /// The engine failed.
    #[error("{kind}: {source}")]
    Apply { kind: BackendKind, source: EngineError },
    /// The engine failed, and so did the one that serves until it succeeds.
    #[error("{kind}: {source}; meanwhile {former} serves by an old table: {stale}")]
    Both { kind: BackendKind, source: EngineError, former: BackendKind, stale: EngineError },
    /// What another engine left could not be cleared away.
    #[error("what {kind} programmed before cannot be removed: {source}")]
    Clear { kind: BackendKind, source: EngineError },
}

impl ProgramError {
    /// Whether the engine that was asked for leaves all to another proxy.
    fn is_yielding(&self) -> bool {
        matches!(self, Self::Apply { source, .. } | Self::Both { source, .. } if source.is::<Yields>())
    }
}

#[cfg(test)]
pub(crate) mod tests;
