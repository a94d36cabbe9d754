//! The election as a pure state machine.
//!
//! The caller passes the time since its own start and what happened, and gets one thing to do next. Two rules make two
//! leaders impossible while clocks run at rates within `lease_duration / renew_deadline` of each other:
//!
//! * a leader believes itself for `renew_deadline` counted from when its last successful write was **sent**;
//! * others take a lease over only after having watched the same record for `lease_duration`, by a write that fails if
//!   the record has changed (resourceVersion).
//!
//! Every other observer sees a record no earlier than it was sent, so belief ends before anyone may take over.

use std::time::Duration;

/// The three times of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long others watch an unchanged record before they take it over.
    pub lease_duration: Duration,
    /// How long a leader believes itself without a successful renewal.
    pub renew_deadline: Duration,
    /// How often a leader renews and a follower looks.
    pub retry_period: Duration,
}

impl Default for Timing {
    /// The defaults of controller-runtime: 15 s, 10 s, 2 s.
    fn default() -> Self {
        let s = Duration::from_secs;
        Self { lease_duration: s(15), renew_deadline: s(10), retry_period: s(2) }
    }
}

/// The times do not leave a margin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// A leader would believe itself for as long as others wait.
    #[error("the renew deadline must be shorter than the lease duration")]
    NoMargin,
    /// A leader would have no second try.
    #[error("the retry period must be at most half of the renew deadline")]
    NoRetry,
    /// Leases are written in whole seconds.
    #[error("the lease duration must be at least one second")]
    TooShort,
}

impl Timing {
    /// Checks the margins.
    ///
    /// # Errors
    /// See [`TimingError`].
    pub fn validate(self) -> Result<Self, TimingError> {
        if self.renew_deadline >= self.lease_duration {
            return Err(TimingError::NoMargin);
        }
        if self.retry_period.is_zero() || self.retry_period * 2 > self.renew_deadline {
            return Err(TimingError::NoRetry);
        }
        if self.lease_duration < Duration::from_secs(1) {
            return Err(TimingError::TooShort);
        }
        Ok(self)
    }
}

/// A Lease as it was seen. Two records are the same observation only if every field is equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The guard for the next write (resourceVersion).
    pub version: String,
    /// Who holds it; empty when released.
    pub holder: String,
    /// What the holder promised to others.
    pub lease_duration: Duration,
    /// The holder's own time of its last renewal, in microseconds: compared for equality, never for order.
    pub renewed_micros: i64,
    /// How often the lease changed hands.
    pub transitions: i32,
}

/// What happened since the last step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The wait is over, or nothing happened yet.
    Tick,
    /// A read was answered; `None` means that there is no Lease.
    Read(Option<Record>),
    /// A watch told of a record. It may be older than what we know.
    Seen(Option<Record>),
    /// The write succeeded and left this record.
    Written(Record),
    /// The write was refused: the record has changed, has gone, or exists already.
    Conflict,
    /// A read or write failed, or took too long. A write may have happened all the same.
    Failed,
    /// The process is to end.
    Shutdown,
}

/// What a write says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The version to replace, `None` to create.
    pub version: Option<String>,
    /// Our identity, or empty to release.
    pub holder: String,
    /// What to promise.
    pub lease_duration: Duration,
    /// The count to write.
    pub transitions: i32,
    /// Whether the lease changes hands, so that `acquireTime` is set anew.
    pub acquires: bool,
}

/// What to do next; its outcome is the next event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Read the Lease, within this time.
    Read(Duration),
    /// Write the Lease, within this time.
    Write(Claim, Duration),
    /// Wait this long, then `Tick`.
    Wait(Duration),
    /// Stop acting as the leader, then `Tick`.
    StepDown,
    /// The election has ended.
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Follower,
    /// Belief counts from `renewed`, when the last successful write was sent.
    Leader {
        renewed: Duration,
    },
    Releasing {
        believed_until: Duration,
    },
    Stopped,
}

#[derive(Clone, Debug)]
struct Seen {
    record: Record,
    first: Duration,
}

/// One candidate.
#[derive(Clone, Debug)]
pub struct LeaseState {
    identity: String,
    timing: Timing,
    phase: Phase,
    seen: Option<Seen>,
    /// The last read found no Lease.
    absent: bool,
    /// When the write under way was sent.
    sent: Option<Duration>,
}

impl LeaseState {
    /// A follower that knows nothing yet. `identity` must be this candidate's alone and not empty.
    #[must_use]
    pub fn new(identity: String, timing: Timing) -> Self {
        Self { identity, timing, phase: Phase::Follower, seen: None, absent: false, sent: None }
    }

    /// Until when this candidate believes that it leads, if nothing more happens.
    #[must_use]
    pub fn leads_until(&self) -> Option<Duration> {
        match self.phase {
            Phase::Leader { renewed } => Some(renewed + self.timing.renew_deadline),
            Phase::Follower | Phase::Releasing { .. } | Phase::Stopped => None,
        }
    }

    /// Whether this candidate believes at `now` that it leads.
    #[must_use]
    pub fn leads(&self, now: Duration) -> bool {
        self.leads_until().is_some_and(|until| now < until)
    }

    /// Who holds the lease as far as we know; empty or `None` when nobody does.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        if self.absent { None } else { self.seen.as_ref().map(|seen| seen.record.holder.as_str()) }
    }

    /// Until when a release may still be written, once the shutdown has begun.
    #[must_use]
    pub fn release_by(&self) -> Option<Duration> {
        match self.phase {
            Phase::Releasing { believed_until } => Some(believed_until),
            Phase::Follower | Phase::Leader { .. } | Phase::Stopped => None,
        }
    }

    /// Takes what happened at `now` and says what to do. `jitter`, from 0 to 1, spreads the followers' looks over a fifth
    /// of the retry period.
    pub fn step(&mut self, now: Duration, event: Event, jitter: f64) -> Action {
        let sent = self.sent.take();
        match event {
            Event::Tick => self.due(now),
            Event::Read(record) => {
                self.observe(now, record);
                self.judge(now, jitter)
            }
            Event::Seen(record) if self.phase == Phase::Follower => {
                self.observe(now, record);
                self.judge(now, jitter)
            }
            Event::Seen(_) | Event::Failed => self.pause(now, jitter),
            Event::Written(record) => self.written(now, record, sent.unwrap_or(now), jitter),
            Event::Conflict => self.look_again(now),
            Event::Shutdown => self.shut_down(),
        }
    }

    /// The wait is over: renew, take over, look, or release.
    fn due(&mut self, now: Duration) -> Action {
        match self.phase {
            Phase::Stopped => Action::Stop,
            Phase::Releasing { believed_until } if now < believed_until => self.write(now, believed_until - now),
            Phase::Releasing { .. } => self.stop(),
            Phase::Leader { .. } if self.leads(now) => self.write(now, self.budget(now)),
            Phase::Leader { .. } => self.step_down(),
            Phase::Follower if self.claimable(now) => self.write(now, self.budget(now)),
            Phase::Follower => Action::Read(self.budget(now)),
        }
    }

    /// A record was just observed.
    fn judge(&mut self, now: Duration, jitter: f64) -> Action {
        match self.phase {
            Phase::Leader { .. } if self.leads(now) && self.holder() == Some(&self.identity) => {
                self.write(now, self.budget(now))
            }
            Phase::Leader { .. } => self.step_down(),
            Phase::Follower if self.claimable(now) => self.write(now, self.budget(now)),
            Phase::Follower => self.pause(now, jitter),
            Phase::Releasing { .. } if self.holder() == Some(&self.identity) => self.due(now),
            Phase::Releasing { .. } | Phase::Stopped => self.stop(),
        }
    }

    fn written(&mut self, now: Duration, record: Record, sent: Duration, jitter: f64) -> Action {
        self.observe(sent, Some(record));
        match self.phase {
            Phase::Releasing { .. } | Phase::Stopped => self.stop(),
            Phase::Leader { .. } | Phase::Follower if now < sent + self.timing.renew_deadline => {
                self.phase = Phase::Leader { renewed: sent };
                Action::Wait((sent + self.timing.retry_period).saturating_sub(now))
            }
            // The answer came so late that the belief it brings is over already.
            Phase::Leader { .. } => self.step_down(),
            Phase::Follower => self.pause(now, jitter),
        }
    }

    fn look_again(&mut self, now: Duration) -> Action {
        match self.phase {
            Phase::Leader { .. } if !self.leads(now) => self.step_down(),
            Phase::Leader { .. } | Phase::Follower => Action::Read(self.budget(now)),
            // Perhaps our own renewal, whose answer was lost: then it is still ours to release.
            Phase::Releasing { believed_until } if now < believed_until => Action::Read(believed_until - now),
            Phase::Releasing { .. } | Phase::Stopped => self.stop(),
        }
    }

    fn pause(&mut self, now: Duration, jitter: f64) -> Action {
        let retry = self.timing.retry_period;
        match self.phase {
            Phase::Leader { renewed } if self.leads(now) => {
                Action::Wait(retry.min(renewed + self.timing.renew_deadline - now))
            }
            Phase::Leader { .. } => self.step_down(),
            Phase::Follower => {
                let wait = retry + retry.mul_f64(jitter.clamp(0.0, 1.0) / 5.0);
                // Wake up when the lease can be taken over, not up to a period later.
                let expiry = self.expires().map(|at| at.saturating_sub(now)).filter(|left| !left.is_zero());
                Action::Wait(expiry.map_or(wait, |left| wait.min(left)))
            }
            Phase::Releasing { .. } | Phase::Stopped => self.stop(),
        }
    }

    fn shut_down(&mut self) -> Action {
        match (self.phase, self.leads_until()) {
            (Phase::Leader { .. }, Some(believed_until)) => {
                self.phase = Phase::Releasing { believed_until };
                Action::StepDown
            }
            _ => self.stop(),
        }
    }

    fn step_down(&mut self) -> Action {
        self.phase = Phase::Follower;
        Action::StepDown
    }

    fn stop(&mut self) -> Action {
        self.phase = Phase::Stopped;
        Action::Stop
    }

    fn observe(&mut self, first: Duration, record: Option<Record>) {
        self.absent = record.is_none();
        let Some(record) = record else { return };
        if self.seen.as_ref().is_none_or(|seen| seen.record != record) {
            self.seen = Some(Seen { record, first });
        }
    }

    /// When another's lease can be taken over. A Lease that was deleted is still waited for: its holder has not noticed.
    fn expires(&self) -> Option<Duration> {
        let seen = self.seen.as_ref()?;
        let foreign = !seen.record.holder.is_empty() && seen.record.holder != self.identity;
        foreign.then(|| seen.first + seen.record.lease_duration.max(self.timing.lease_duration))
    }

    fn claimable(&self, now: Duration) -> bool {
        match self.expires() {
            Some(at) => now >= at,
            None => self.absent || self.seen.is_some(),
        }
    }

    /// Half of the renew deadline, so that a lost request leaves time for another; never past the end of belief.
    fn budget(&self, now: Duration) -> Duration {
        let half = self.timing.renew_deadline / 2;
        self.leads_until().map_or(half, |until| half.min(until.saturating_sub(now)))
    }

    fn write(&mut self, now: Duration, budget: Duration) -> Action {
        self.sent = Some(now);
        let known = if self.absent { None } else { self.seen.as_ref().map(|seen| &seen.record) };
        let ours = known.is_some_and(|record| record.holder == self.identity);
        let releases = matches!(self.phase, Phase::Releasing { .. });
        let transitions = match known {
            None => 0,
            Some(record) if ours => record.transitions,
            Some(record) => record.transitions.saturating_add(1),
        };
        let claim = Claim {
            version: known.map(|record| record.version.clone()),
            holder: if releases { String::new() } else { self.identity.clone() },
            lease_duration: if releases { Duration::from_secs(1) } else { self.timing.lease_duration },
            transitions,
            acquires: !ours,
        };
        Action::Write(claim, budget)
    }
}

#[cfg(test)]
mod tests;
