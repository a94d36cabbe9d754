//! How long a failing object is left alone.

use std::time::Duration;

/// Doubling pauses between two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Pause after the first failure.
    pub first: Duration,
    /// Longest pause.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(200), longest: Duration::from_secs(300) }
    }
}

impl Backoff {
    /// The pause after failure number `turn` in a row, from 1. `jitter`, from 0 to 1, takes away up to a quarter, so that
    /// objects that failed together do not come back together; what the server asked for is never undercut.
    #[must_use]
    pub fn pause(&self, turn: u32, asked: Option<Duration>, jitter: f64) -> Duration {
        let doubled = self.first.saturating_mul(2u32.saturating_pow(turn.saturating_sub(1))).min(self.longest);
        let jittered = doubled.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 4.0);
        asked.map_or(jittered, |asked| jittered.max(asked.min(self.longest)))
    }
}

/// An error that may carry the server's wish to be left alone for a while.
pub trait RetryAfter {
    /// The pause that the server asked for.
    fn retry_after(&self) -> Option<Duration>;
}

impl RetryAfter for kube::Error {
    fn retry_after(&self) -> Option<Duration> {
        let Self::Api(status) = self else { return None };
        let seconds = status.details.as_ref()?.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
    }
}
