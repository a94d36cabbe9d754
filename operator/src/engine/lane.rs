//! One controller's queue with its conventional metrics.

use crate::queue::{After, Queue};
use portreeve_runtime::metrics::{Label, Metrics, Name, ReconcileResult};
use std::time::Duration;

/// A queue, how many work on it at once, and what is counted about it.
pub(super) struct Lane<K> {
    pub(super) label: Label,
    queue: Queue<K>,
    workers: usize,
    metrics: Metrics,
}

impl<K: Ord + Clone> Lane<K> {
    pub(super) fn new(name: &'static str, workers: u16, metrics: &Metrics) -> Self {
        let label = Label(name);
        metrics.reconcile.declare(label, i64::from(workers));
        let name = Name { name: label };
        drop(metrics.queue.depth.get_or_create(&name));
        drop(metrics.queue.adds.get_or_create(&name));
        drop(metrics.queue.retries.get_or_create(&name));
        drop(metrics.queue.queue_duration.get_or_create(&name));
        drop(metrics.queue.work_duration.get_or_create(&name));
        drop(metrics.queue.unfinished.get_or_create(&name));
        drop(metrics.queue.longest.get_or_create(&name));
        Self { label, queue: Queue::default(), workers: usize::from(workers), metrics: metrics.clone() }
    }

    pub(super) fn add(&mut self, key: K, now: Duration) {
        self.queue.add(key, now);
    }

    /// The next key, if a worker is free.
    pub(super) fn take(&mut self, now: Duration) -> Option<K> {
        if self.queue.active() >= self.workers {
            return None;
        }
        let (key, waited) = self.queue.take(now)?;
        let name = Name { name: self.label };
        self.metrics.queue.queue_duration.get_or_create(&name).observe(waited.as_secs_f64());
        Some(key)
    }

    /// Whether `key` is being worked on.
    pub(super) fn works_on(&self, key: &K) -> bool {
        self.queue.is_active(key)
    }

    /// The work on `key` ended after `took`.
    pub(super) fn done(&mut self, key: K, after: After, took: Duration, now: Duration) {
        let result = match after {
            After::Settled => ReconcileResult::Success,
            After::At(_) => ReconcileResult::RequeueAfter,
            After::Failed { .. } => ReconcileResult::Error,
        };
        self.metrics.reconcile.end(self.label, result, took.as_secs_f64());
        let name = Name { name: self.label };
        self.metrics.queue.work_duration.get_or_create(&name).observe(took.as_secs_f64());
        self.queue.done(key, after, now);
    }

    /// When something can be taken; `now` if at once, none while every worker is busy.
    pub(super) fn due(&self, now: Duration) -> Option<Duration> {
        if self.queue.active() >= self.workers {
            return None;
        }
        if self.queue.has_ready(now) { Some(now) } else { self.queue.next_due() }
    }

    pub(super) fn clear(&mut self) {
        self.queue = Queue::default();
    }

    pub(super) fn measure(&mut self) {
        let name = Name { name: self.label };
        let (adds, retries) = self.queue.drain_counts();
        self.metrics.queue.adds.get_or_create(&name).inc_by(adds);
        self.metrics.queue.retries.get_or_create(&name).inc_by(retries);
        let depth = i64::try_from(self.queue.depth()).unwrap_or(i64::MAX);
        self.metrics.queue.depth.get_or_create(&name).set(depth);
    }
}
