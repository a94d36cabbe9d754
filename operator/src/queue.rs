//! A work queue as a plain value: one entry per key, never two workers on one key, delays and back-off by a passed `now`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// How long a key that failed waits at first; doubled with every failure in a row.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// The longest back-off.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);

/// Keys that wait, keys that are worked on, and keys that may be taken later. Times are since the process's start.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    ready: VecDeque<(K, Duration)>,
    queued: BTreeSet<K>,
    later: BTreeSet<(Duration, K)>,
    due: BTreeMap<K, Duration>,
    active: BTreeSet<K>,
    again: BTreeSet<K>,
    failures: BTreeMap<K, u32>,
    retries: u64,
    adds: u64,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            queued: BTreeSet::new(),
            later: BTreeSet::new(),
            due: BTreeMap::new(),
            active: BTreeSet::new(),
            again: BTreeSet::new(),
            failures: BTreeMap::new(),
            retries: 0,
            adds: 0,
        }
    }
}

/// What follows when a key has been worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing until the next change.
    Settled,
    /// Look again then, even if nothing changes.
    At(Duration),
    /// It failed: wait, longer each time. `at_least` is what the API server asked for; `jitter` in 0..1000 spreads keys
    /// that failed together.
    Failed { at_least: Option<Duration>, jitter: u16 },
}

impl<K: Ord + Clone> Queue<K> {
    /// Asks for work on `key`, at once. A key in back-off is looked at when its wait is over: a change does not make a
    /// failing API server better.
    pub(crate) fn add(&mut self, key: K, now: Duration) {
        if self.active.contains(&key) {
            self.again.insert(key);
            return;
        }
        if self.failures.contains_key(&key) && self.due.contains_key(&key) {
            return;
        }
        self.forget_delay(&key);
        if self.queued.insert(key.clone()) {
            self.adds += 1;
            self.ready.push_back((key, now));
        }
    }

    /// Takes the next key that nobody works on, with the time it waited.
    pub(crate) fn take(&mut self, now: Duration) -> Option<(K, Duration)> {
        self.promote(now);
        let (key, since) = self.ready.pop_front()?;
        self.queued.remove(&key);
        self.active.insert(key.clone());
        Some((key, now.saturating_sub(since)))
    }

    /// Says how the work on `key` ended.
    pub(crate) fn done(&mut self, key: K, after: After, now: Duration) {
        self.active.remove(&key);
        let again = self.again.remove(&key);
        match after {
            After::Failed { at_least, jitter } => {
                let count = self.failures.entry(key.clone()).or_insert(0);
                let wait = backoff(*count, jitter).max(at_least.unwrap_or_default());
                *count = count.saturating_add(1);
                self.retries += 1;
                self.delay(key, now + wait);
            }
            After::At(at) => {
                self.failures.remove(&key);
                self.delay(key.clone(), at);
                if again {
                    self.add(key, now);
                }
            }
            After::Settled => {
                self.failures.remove(&key);
                if again {
                    self.add(key, now);
                }
            }
        }
    }

    /// When the next delayed key is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.later.first().map(|(at, _)| *at)
    }

    /// Whether a key can be taken now.
    pub(crate) fn has_ready(&self, now: Duration) -> bool {
        !self.ready.is_empty() || self.next_due().is_some_and(|at| at <= now)
    }

    pub(crate) fn depth(&self) -> usize {
        self.ready.len()
    }

    pub(crate) fn is_active(&self, key: &K) -> bool {
        self.active.contains(key)
    }

    pub(crate) fn active(&self) -> usize {
        self.active.len()
    }

    /// Keys taken in and tries after a failure since the last call.
    pub(crate) fn drain_counts(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.adds), std::mem::take(&mut self.retries))
    }

    fn promote(&mut self, now: Duration) {
        while let Some((at, key)) = self.later.first().cloned() {
            if at > now {
                return;
            }
            self.forget_delay(&key);
            if self.queued.insert(key.clone()) {
                self.adds += 1;
                self.ready.push_back((key, at));
            }
        }
    }

    fn delay(&mut self, key: K, at: Duration) {
        self.forget_delay(&key);
        self.due.insert(key.clone(), at);
        self.later.insert((at, key));
    }

    fn forget_delay(&mut self, key: &K) {
        if let Some(at) = self.due.remove(key) {
            self.later.remove(&(at, key.clone()));
        }
    }
}

/// Back-off after `failures` earlier ones: doubled each time, up to five minutes, and up to half as much again by jitter.
fn backoff(failures: u32, jitter: u16) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1_u32.checked_shl(failures.min(20)).unwrap_or(u32::MAX));
    let capped = doubled.min(LONGEST_BACKOFF);
    capped + capped * u32::from(jitter.min(1000)) / 2000
}

#[cfg(test)]
mod tests {
    use super::{After, LONGEST_BACKOFF, Queue, backoff};
    use std::time::Duration;

    const T0: Duration = Duration::ZERO;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_key_waits_once_however_often_it_is_added() {
        let mut queue = Queue::default();
        queue.add(1, T0);
        queue.add(1, T0);
        assert_eq!(queue.take(secs(2)), Some((1, secs(2))));
        assert_eq!(queue.take(secs(2)), None);
    }

    #[test]
    fn a_change_during_the_work_is_worked_on_afterwards() {
        let mut queue = Queue::default();
        queue.add(1, T0);
        assert!(queue.take(T0).is_some());
        queue.add(1, T0);
        assert_eq!(queue.take(T0), None, "never two workers on one key");
        queue.done(1, After::Settled, T0);
        assert!(queue.take(T0).is_some());
    }

    #[test]
    fn a_failed_key_waits_and_a_change_does_not_shorten_the_wait() {
        let mut queue = Queue::default();
        queue.add(1, T0);
        assert!(queue.take(T0).is_some());
        queue.done(1, After::Failed { at_least: Some(secs(5)), jitter: 0 }, T0);
        queue.add(1, secs(1));
        assert_eq!(queue.take(secs(4)), None);
        assert!(queue.take(secs(5)).is_some());
    }

    #[test]
    fn a_delayed_key_comes_at_its_time_and_a_change_brings_it_forward() {
        let mut queue = Queue::default();
        for key in [1, 2] {
            queue.add(key, T0);
            assert!(queue.take(T0).is_some());
            queue.done(key, After::At(secs(30)), T0);
        }
        queue.add(2, secs(3));
        assert_eq!(queue.take(secs(3)).map(|taken| taken.0), Some(2));
        assert_eq!(queue.next_due(), Some(secs(30)));
        assert_eq!(queue.take(secs(30)).map(|taken| taken.0), Some(1));
    }

    #[test]
    fn back_off_doubles_up_to_its_limit() {
        assert_eq!(backoff(0, 0), Duration::from_millis(200));
        assert_eq!(backoff(3, 0), Duration::from_millis(1600));
        assert_eq!(backoff(40, 0), LONGEST_BACKOFF);
        assert_eq!(backoff(0, 1000), Duration::from_millis(300));
    }
}
