//! Reconciles as `kube::runtime::Controller` runs them, counted and paced.
//!
//! A controller gives each reconcile to [`Worker::run`] and each failure to [`Worker::retry`]; when an object is gone it
//! calls [`Worker::forget`]. The controller hides its queue, so what waits is known only as far as it was announced: by
//! [`Worker::added`], or by a requeue that has come due.

mod backoff;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::runtime::controller::Action;
use tokio::time::Instant;

use crate::metrics::{Label, Metrics, Name, ReconcileResult};
pub use backoff::{Backoff, RetryAfter};

/// Which object is worked on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its namespace, `None` for cluster-scoped kinds.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// The key of an object.
    pub fn of<K: kube::Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self { namespace: meta.namespace.clone(), name: meta.name.clone().unwrap_or_default() }
    }
}

/// How a reconcile ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to do until something changes.
    Done,
    /// Not finished: come back soon, later at each turn.
    Requeue,
    /// Come back then.
    RequeueAfter(Duration),
}

#[derive(Debug, Default)]
struct Ledger {
    /// Announced and not begun, since when.
    waiting: BTreeMap<ObjectKey, Instant>,
    /// To come back, when.
    due: BTreeMap<ObjectKey, Instant>,
    /// Under way, since when.
    running: BTreeMap<ObjectKey, Instant>,
    /// Failures or requeues in a row.
    turns: BTreeMap<ObjectKey, u32>,
}

/// One controller's bookkeeping; clones share it.
#[derive(Clone, Debug)]
pub struct Worker {
    name: Label,
    metrics: Metrics,
    backoff: Backoff,
    ledger: Arc<Mutex<Ledger>>,
}

/// Takes a reconcile off the ledger, also when its future is dropped half way.
struct Running<'a> {
    worker: &'a Worker,
    key: &'a ObjectKey,
    began: Instant,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.worker.ledger().running.remove(self.key);
        let name = Name { name: self.worker.name };
        self.worker.metrics.queue.work_duration.get_or_create(&name).observe(self.began.elapsed().as_secs_f64());
        self.worker.measure();
    }
}

impl Worker {
    /// The bookkeeping of the controller `name`, which works on at most `max_concurrent` objects at once.
    #[must_use]
    pub fn new(name: Label, max_concurrent: u16, backoff: Backoff, metrics: Metrics) -> Self {
        metrics.reconcile.declare(name, i64::from(max_concurrent));
        let worker = Self { name, metrics, backoff, ledger: Arc::default() };
        worker.measure();
        worker
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces that `key` has changed and will be worked on.
    pub fn added(&self, key: ObjectKey) {
        let new = {
            let mut ledger = self.ledger();
            let new = !ledger.waiting.contains_key(&key);
            ledger.waiting.entry(key).or_insert_with(Instant::now);
            new
        };
        if new {
            self.metrics.queue.adds.get_or_create(&Name { name: self.name }).inc();
        }
        self.measure();
    }

    /// Runs one reconcile and counts it.
    ///
    /// # Errors
    /// Those of `reconcile`, unchanged.
    pub async fn run<E>(
        &self,
        key: &ObjectKey,
        reconcile: impl Future<Output = Result<Outcome, E>>,
    ) -> Result<Action, E> {
        let _active = self.metrics.reconcile.begin(self.name);
        let running = self.begin(key);
        let outcome = reconcile.await;
        let result = match &outcome {
            Ok(Outcome::Done) => ReconcileResult::Success,
            Ok(Outcome::Requeue) => ReconcileResult::Requeue,
            Ok(Outcome::RequeueAfter(_)) => ReconcileResult::RequeueAfter,
            Err(_) => ReconcileResult::Error,
        };
        self.metrics.reconcile.end(self.name, result, running.began.elapsed().as_secs_f64());
        Ok(match outcome? {
            Outcome::Done => {
                self.ledger().turns.remove(key);
                Action::await_change()
            }
            Outcome::RequeueAfter(after) => {
                self.ledger().turns.remove(key);
                self.come_back(key, after)
            }
            Outcome::Requeue => self.again(key, None),
        })
    }

    /// The controller's error policy: when to come back to an object whose reconcile failed. `asked` is the server's
    /// `Retry-After`, if the failure carries one ([`RetryAfter`]); it can only lengthen the pause.
    #[must_use]
    pub fn retry(&self, key: &ObjectKey, asked: Option<Duration>) -> Action {
        self.metrics.queue.retries.get_or_create(&Name { name: self.name }).inc();
        self.again(key, asked)
    }

    /// The object is gone: it will not come back, and its failures no longer count.
    pub fn forget(&self, key: &ObjectKey) {
        let mut ledger = self.ledger();
        ledger.waiting.remove(key);
        ledger.due.remove(key);
        ledger.turns.remove(key);
        drop(ledger);
        self.measure();
    }

    /// Brings the gauges of waiting and running work up to date; call it before a scrape or every few seconds.
    pub fn measure(&self) {
        let (depth, ages) = {
            let ledger = self.ledger();
            let ages: Vec<f64> = ledger.running.values().map(|began| began.elapsed().as_secs_f64()).collect();
            (ledger.waiting.len(), ages)
        };
        let (name, queue) = (Name { name: self.name }, &self.metrics.queue);
        queue.depth.get_or_create(&name).set(i64::try_from(depth).unwrap_or(i64::MAX));
        queue.unfinished.get_or_create(&name).set(ages.iter().sum());
        queue.longest.get_or_create(&name).set(ages.iter().copied().fold(0.0, f64::max));
    }

    fn begin<'a>(&'a self, key: &'a ObjectKey) -> Running<'a> {
        let began = Instant::now();
        let name = Name { name: self.name };
        let mut ledger = self.ledger();
        let announced = ledger.waiting.remove(key);
        let due = ledger.due.remove(key).filter(|due| *due <= began);
        ledger.running.insert(key.clone(), began);
        drop(ledger);
        if announced.is_none() {
            self.metrics.queue.adds.get_or_create(&name).inc();
        }
        if let Some(since) = announced.or(due) {
            self.metrics.queue.queue_duration.get_or_create(&name).observe((began - since).as_secs_f64());
        }
        self.measure();
        Running { worker: self, key, began }
    }

    fn again(&self, key: &ObjectKey, asked: Option<Duration>) -> Action {
        let turn = {
            let mut ledger = self.ledger();
            let turn = ledger.turns.entry(key.clone()).or_insert(0);
            *turn = turn.saturating_add(1);
            *turn
        };
        self.come_back(key, self.backoff.pause(turn, asked, rand::random()))
    }

    fn come_back(&self, key: &ObjectKey, after: Duration) -> Action {
        self.ledger().due.insert(key.clone(), Instant::now() + after);
        Action::requeue(after)
    }
}

#[cfg(test)]
mod tests;
