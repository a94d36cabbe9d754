//! Work behind a table that is in force: it may come late without harm to what is in force, and what fails is told and
//! tried again. Pure.

use std::time::{Duration, Instant};

/// One sort of such work: when it is due, and why the last attempt failed.
#[derive(Clone, Debug)]
pub(super) struct Chore {
    /// Least time from one attempt that succeeded to the next, since each costs whatever there is to do.
    rest: Duration,
    /// Time from one that failed to the next.
    retry: Duration,
    due: Option<Instant>,
    rested: Option<Instant>,
    failed: Option<String>,
}

impl Chore {
    pub(super) const fn new(rest: Duration, retry: Duration) -> Self {
        Self { rest, retry, due: None, rested: None, failed: None }
    }

    /// There is something to do.
    pub(super) fn want(&mut self, now: Instant) {
        self.due.get_or_insert(self.rested.map_or(now, |rested| rested.max(now)));
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// It was tried.
    pub(super) fn tried(&mut self, outcome: Result<(), String>, now: Instant) {
        self.failed = outcome.err();
        (self.due, self.rested) = match self.failed {
            None => (None, Some(now + self.rest)),
            Some(_) => (Some(now + self.retry), None),
        };
    }

    /// When it is to be tried, if it is.
    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Why the last attempt failed.
    pub(super) fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_done_at_once_those_close_behind_it_together_and_what_fails_again() {
        let (rest, retry, start) = (Duration::from_millis(500), Duration::from_secs(1), Instant::now());
        let mut chore = Chore::new(rest, retry);
        assert!(!chore.is_due(start));
        chore.want(start);
        assert!(chore.is_due(start));
        chore.tried(Ok(()), start);
        for later in [1, 20, 300].map(Duration::from_millis) {
            chore.want(start + later);
        }
        assert_eq!(chore.due(), Some(start + rest));
        chore.tried(Err("no".to_owned()), start + rest);
        chore.want(start + rest);
        assert_eq!((chore.failed(), chore.due()), (Some("no"), Some(start + rest + retry)));
        chore.tried(Ok(()), start + rest + retry);
        assert_eq!((chore.failed(), chore.due()), (None, None));
        let quiet = start + rest + retry + rest;
        chore.want(quiet);
        assert!(chore.is_due(quiet));
    }
}
