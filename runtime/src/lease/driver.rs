//! Carries the state machine's decisions out against the API server.

use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{DefaultBackoff, watch_object};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::state::{Action, Claim, Event, LeaseState, Record, Timing, TimingError};
use crate::metrics::{Label, LeaderMetrics};

/// How long a release waits for requests under way to be answered. One that is given up may still be carried out, after
/// another has begun to lead.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);

/// One time of leading. Work as the leader belongs under both: stop when `lost` falls, and run on `tasks`, so that the
/// lease is given back only when the work has ended.
#[derive(Clone, Debug)]
pub struct Term {
    /// Falls when this process no longer leads: stop at once, another may have begun. Before a release it falls a moment
    /// after the term was taken back, so that requests under way are answered rather than left to the API server.
    pub lost: CancellationToken,
    /// Work that a release waits for, no longer than the lease lasts.
    pub tasks: TaskTracker,
}

impl Term {
    fn new() -> Self {
        Self { lost: CancellationToken::new(), tasks: TaskTracker::new() }
    }
}

/// Who leads, as far as this process knows.
#[derive(Clone, Debug, Default)]
pub enum Leadership {
    /// Somebody else, or nobody yet.
    #[default]
    Following,
    /// This process.
    Leading(Term),
}

/// A candidate for one lease.
pub struct Elector {
    api: Api<Lease>,
    name: Label,
    state: LeaseState,
    metrics: LeaderMetrics,
    started: Instant,
    /// `acquireTime` as it was last seen: a renewal must write it back, though the election does not need it.
    acquired: Option<MicroTime>,
    leadership: watch::Sender<Leadership>,
}

impl Elector {
    /// A candidate named `identity` for the lease `name` in `namespace`.
    ///
    /// # Errors
    /// When the times leave no margin.
    pub fn new(
        client: Client,
        namespace: &str,
        name: Label,
        identity: String,
        timing: Timing,
        metrics: LeaderMetrics,
    ) -> Result<Self, TimingError> {
        metrics.set(name, false);
        Ok(Self {
            api: Api::namespaced(client, namespace),
            name,
            state: LeaseState::new(identity, timing.validate()?),
            metrics,
            started: Instant::now(),
            acquired: None,
            leadership: watch::Sender::new(Leadership::Following),
        })
    }

    /// Tells of every change of leadership; one change may hide another that came before it was read.
    #[must_use]
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    /// Runs until `shutdown` falls, then gives the lease back if it is ours.
    pub async fn run(mut self, shutdown: CancellationToken) {
        // A watch tells followers of renewals and of a release at once; a look each retry period is the fallback.
        let mut news = pin!(watch_object(self.api.clone(), self.name.0).backoff(DefaultBackoff::default()));
        let mut event = Event::Tick;
        let mut told = false;
        loop {
            if shutdown.is_cancelled() && !told {
                told = true;
                event = Event::Shutdown;
            }
            let action = self.state.step(self.started.elapsed(), event, rand::random());
            self.publish();
            event = match action {
                Action::Stop => return,
                Action::StepDown => {
                    self.let_work_end().await;
                    Event::Tick
                }
                Action::Read(within) => self.read(within).await,
                Action::Write(claim, within) => self.write(claim, within).await,
                Action::Wait(time) => tokio::select! {
                    () = shutdown.cancelled(), if !told => Event::Tick,
                    () = tokio::time::sleep(time) => Event::Tick,
                    lease = self.foreign_news(news.as_mut()) => Event::Seen(self.taken(lease.as_ref())),
                },
            };
        }
    }

    /// The next change that concerns a follower. A leader reads the stream too, so that it does not back up, but waits on:
    /// its own renewals come back here, and each would put off the next one.
    async fn foreign_news<S>(&self, mut news: std::pin::Pin<&mut S>) -> Option<Lease>
    where
        S: Stream<Item = Result<Option<Lease>, kube::runtime::watcher::Error>>,
    {
        loop {
            match news.next().await {
                Some(Ok(lease)) if !self.state.leads(self.started.elapsed()) => return lease,
                Some(Ok(_)) => {}
                Some(Err(error)) => tracing::debug!(lease = self.name.0, %error, "Lease watch was interrupted"),
                None => std::future::pending().await,
            }
        }
    }

    fn taken(&mut self, lease: Option<&Lease>) -> Option<Record> {
        let lease = lease?;
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
        self.acquired = spec.acquire_time;
        Some(Record {
            version: lease.metadata.resource_version.clone().unwrap_or_default(),
            holder: spec.holder_identity.unwrap_or_default(),
            lease_duration: Duration::from_secs(seconds),
            renewed_micros: spec.renew_time.map_or(0, |time| time.0.as_microsecond()),
            transitions: spec.lease_transitions.unwrap_or(0),
        })
    }

    /// Makes the outside agree with the state. The token falls before anybody is told.
    fn publish(&self) {
        let leads = self.state.leads(self.started.elapsed());
        let changed = self.leadership.send_if_modified(|current| match (&*current, leads) {
            (Leadership::Following, true) => {
                *current = Leadership::Leading(Term::new());
                true
            }
            // Belief had run out for a moment and came back: what stopped then must be started anew.
            (Leadership::Leading(term), true) if term.lost.is_cancelled() => {
                *current = Leadership::Leading(Term::new());
                true
            }
            (Leadership::Leading(term), false) => {
                if self.state.release_by().is_none() {
                    term.lost.cancel();
                }
                term.tasks.close();
                // The term stays for `let_work_end`, which replaces it.
                false
            }
            _ => false,
        });
        if changed {
            tracing::info!(lease = self.name.0, "Became the leader");
        }
        self.metrics.set(self.name, leads);
    }

    /// After the loss nothing waits; before a release the work may end while the lease still protects it.
    async fn let_work_end(&mut self) {
        let Leadership::Leading(term) = self.leadership.send_replace(Leadership::Following) else { return };
        tracing::info!(lease = self.name.0, "Stopped being the leader");
        if let Some(until) = self.state.release_by() {
            let left = || until.saturating_sub(self.started.elapsed());
            let ended = tokio::time::timeout(left().min(ANSWERS_WITHIN), term.tasks.wait()).await;
            term.lost.cancel();
            if ended.is_err() && tokio::time::timeout(left(), term.tasks.wait()).await.is_err() {
                tracing::warn!(left = term.tasks.len(), "Work outlived the lease, which now runs out by itself");
            }
        }
    }

    async fn read(&mut self, within: Duration) -> Event {
        match tokio::time::timeout(within, self.api.get_opt(self.name.0)).await {
            Ok(Ok(lease)) => Event::Read(self.taken(lease.as_ref())),
            Ok(Err(error)) => self.failed("read", &error),
            Err(late) => self.failed("read", &late),
        }
    }

    async fn write(&mut self, claim: Claim, within: Duration) -> Event {
        let replaces = claim.version.is_some();
        let lease = self.lease(claim);
        let params = PostParams::default();
        let written = async {
            if replaces {
                self.api.replace(self.name.0, &params, &lease).await
            } else {
                self.api.create(&params, &lease).await
            }
        };
        match tokio::time::timeout(within, written).await {
            Ok(Ok(lease)) => self.taken(Some(&lease)).map_or(Event::Failed, Event::Written),
            // 404: it was deleted between read and write; 409: it has changed, or exists already.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Event::Conflict,
            Ok(Err(error)) => self.failed("write", &error),
            Err(late) => self.failed("write", &late),
        }
    }

    fn failed(&self, what: &'static str, error: &(dyn std::error::Error + 'static)) -> Event {
        tracing::warn!(lease = self.name.0, what, error, "Lease request failed");
        Event::Failed
    }

    fn lease(&self, claim: Claim) -> Lease {
        let now = Timestamp::now();
        let acquired = if claim.acquires { Some(MicroTime(now)) } else { self.acquired.clone() };
        Lease {
            metadata: ObjectMeta {
                name: Some(self.name.0.to_owned()),
                resource_version: claim.version,
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(claim.holder),
                lease_duration_seconds: Some(i32::try_from(claim.lease_duration.as_secs()).unwrap_or(i32::MAX)),
                lease_transitions: Some(claim.transitions),
                acquire_time: acquired,
                renew_time: Some(MicroTime(now)),
                ..LeaseSpec::default()
            }),
        }
    }
}
