//! The one owner of the index: takes events in, dispatches work, takes results in. No lock anywhere.
//!
//! Caches are filled on every replica; work is dispatched only while this process leads. Each piece of work runs under
//! the term it was begun in: when the term is lost all of it stops at once, and what it would have answered is ignored.

mod dispatch;
mod finish;
mod lane;
mod own_writes;

use crate::admission::Endpoint;
use crate::admission::owner::Owner;
use crate::index::{Changes, Event, Index};
use crate::key::Key;
use crate::metrics::{OperatorMetrics, ServiceCounts};
use crate::notice::Notice;
use crate::policies;
use crate::policies::tally::{Summaries, Tally};
use crate::service_traffic::build::Now;
use crate::{admission, datapath_config, migration, service_traffic};
use jiff::Timestamp;
use kube::Client;
use lane::Lane;
use own_writes::OwnWrites;
use portreeve_crds::service_traffic::{BALANCED, LOCAL_READY};
use portreeve_policy::policies::PolicyRef;
use portreeve_runtime::lease::{Leadership, Term};
use portreeve_runtime::metrics::Metrics;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Events taken in before work is looked at.
const EVENTS_AT_ONCE: usize = 512;
/// Services assessed before events are looked at.
const SERVICES_AT_ONCE: usize = 128;
/// Policies are counted this long after something changed, so that a burst is counted once.
const TALLY_AFTER: Duration = Duration::from_secs(1);
/// The loop turns at least this often, so that a stuck one can be told from an idle one.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// What the engine is given.
pub(crate) struct Settings {
    pub(crate) client: Client,
    pub(crate) endpoint: Endpoint,
    pub(crate) node_ports: RangeInclusive<u16>,
    pub(crate) workers: u16,
    pub(crate) metrics: Metrics,
    pub(crate) own: OperatorMetrics,
    pub(crate) notices: mpsc::Sender<Notice>,
    /// Set once every kind has been listed.
    pub(crate) synced: watch::Sender<Vec<&'static str>>,
    /// Told at each turn.
    pub(crate) heartbeat: watch::Sender<Instant>,
}

/// The result of one piece of work, with the key it was about.
enum Finished {
    Service(Key, Result<service_traffic::status::Outcome, service_traffic::Error>),
    Policy(PolicyRef, Result<policies::status::Written, policies::status::StatusError>),
    Migration(String, Result<migration::status::Outcome, migration::apply::ApplyError>),
    Admission(Result<admission::status::Outcome, admission::apply::ApplyError>),
    Datapath(Result<portreeve_crds::DatapathConfig, datapath_config::StatusError>),
}

struct Report {
    epoch: u64,
    took: Duration,
    finished: Finished,
}

/// See the module's text.
pub(crate) struct Engine {
    settings: Settings,
    started: Instant,
    index: Index,
    summaries: Summaries,
    tallies: BTreeMap<PolicyRef, Tally>,
    tally_at: Option<Duration>,
    /// What watches told of reports while they were being written.
    own_writes: OwnWrites,
    /// When a report was last written, as far as that still matters.
    written: BTreeMap<Key, Duration>,
    /// The bundle that both registrations carry, and since when this process has seen that.
    registered: Option<(Vec<u8>, Duration)>,
    /// Owner of the registrations, once looked for.
    owner: Option<Owner>,
    services: Lane<Key>,
    policies: Lane<PolicyRef>,
    migrations: Lane<String>,
    admission: Lane<()>,
    datapath: Lane<()>,
    term: Option<Term>,
    /// Counts terms: results of an earlier one are ignored.
    epoch: u64,
    reports: mpsc::UnboundedSender<Report>,
    results: mpsc::UnboundedReceiver<Report>,
}

impl Engine {
    pub(crate) fn new(settings: Settings) -> Self {
        let metrics = &settings.metrics;
        let (reports, results) = mpsc::unbounded_channel();
        Self {
            services: Lane::new("servicetraffic", settings.workers, metrics),
            policies: Lane::new("policy", 8, metrics),
            // One: traffic of one Service at a time changes in the whole cluster.
            migrations: Lane::new("migration", 1, metrics),
            admission: Lane::new("admission", 1, metrics),
            datapath: Lane::new("datapathconfig", 1, metrics),
            settings,
            started: Instant::now(),
            index: Index::default(),
            summaries: Summaries::default(),
            tallies: BTreeMap::new(),
            tally_at: None,
            own_writes: OwnWrites::default(),
            written: BTreeMap::new(),
            registered: None,
            owner: None,
            term: None,
            epoch: 0,
            reports,
            results,
        }
    }

    /// Runs until `stop` falls.
    pub(crate) async fn run(
        mut self,
        mut events: mpsc::Receiver<Event>,
        mut leadership: watch::Receiver<Leadership>,
        stop: CancellationToken,
    ) {
        let mut batch = Vec::with_capacity(EVENTS_AT_ONCE);
        loop {
            let lost = self.term.as_ref().map_or_else(CancellationToken::new, |term| term.lost.clone());
            let pause = self.pause();
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = lost.cancelled() => self.step_down(),
                changed = leadership.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = leadership.borrow_and_update().clone();
                    self.lead(now);
                }
                Some(report) = self.results.recv() => self.take_report(report),
                count = events.recv_many(&mut batch, EVENTS_AT_ONCE) => {
                    if count == 0 {
                        return;
                    }
                    self.take_events(batch.drain(..));
                }
                () = tokio::time::sleep(pause) => {}
            }
            while let Ok(report) = self.results.try_recv() {
                self.take_report(report);
            }
            let now = self.now();
            self.settings.heartbeat.send_replace(Instant::now());
            if self.term.is_some() && self.index.synced() {
                self.dispatch(now);
            }
            self.measure();
            // A long queue of Services is worked off in slices; other tasks get their turn in between.
            tokio::task::yield_now().await;
        }
    }

    fn now(&self) -> Now {
        Now { wall: Timestamp::now(), since_start: self.started.elapsed() }
    }

    /// How long nothing needs to be done.
    fn pause(&self) -> Duration {
        if self.term.is_none() || !self.index.synced() {
            return HEARTBEAT;
        }
        let now = self.started.elapsed();
        let due = [
            self.services.due(now),
            self.policies.due(now),
            self.migrations.due(now),
            self.admission.due(now),
            self.datapath.due(now),
            self.tally_at,
        ];
        due.into_iter().flatten().min().map_or(HEARTBEAT, |at| at.saturating_sub(now).min(HEARTBEAT))
    }

    fn take_events(&mut self, events: impl Iterator<Item = Event>) {
        let mut changes = Changes::default();
        for event in events {
            changes.merge(self.index.apply(event));
        }
        self.enqueue(changes);
        let unsynced = self.index.unsynced();
        if *self.settings.synced.borrow() != unsynced {
            if unsynced.is_empty() {
                tracing::info!(services = self.index.services.len(), "Caches filled");
                self.enqueue_everything();
            }
            self.settings.synced.send_replace(unsynced);
        }
    }

    /// On a standby nothing is queued: whoever begins to lead looks at everything.
    fn enqueue(&mut self, changes: Changes) {
        if self.term.is_none() {
            return;
        }
        let now = self.started.elapsed();
        let Changes { services, reports, all_services, policies, migrations, admission, datapath } = changes;
        if all_services {
            for key in self.index.service_keys() {
                self.services.add(key.clone(), now);
            }
        }
        for key in services {
            self.services.add(key, now);
        }
        for key in reports {
            if self.services.works_on(&key) {
                // Most likely the write that is under way, told by the watch; its answer says whether to look again.
                self.own_writes.saw(&self.index, key);
            } else {
                self.services.add(key, now);
            }
        }
        if policies {
            for policy in policies::all(&self.index) {
                self.policies.add(policy, now);
            }
            self.tally_at.get_or_insert(now + TALLY_AFTER);
        }
        if migrations {
            for name in self.index.migrations.keys() {
                self.migrations.add(name.clone(), now);
            }
        }
        if admission {
            self.admission.add((), now);
        }
        if datapath {
            self.datapath.add((), now);
        }
    }

    fn enqueue_everything(&mut self) {
        let orphans: Vec<Key> = self.index.reports.keys().cloned().collect();
        self.enqueue(Changes {
            services: orphans.into_iter().collect(),
            reports: BTreeSet::new(),
            all_services: true,
            policies: true,
            migrations: true,
            admission: true,
            datapath: true,
        });
    }

    fn lead(&mut self, leadership: Leadership) {
        self.step_down();
        if let Leadership::Leading(term) = leadership {
            tracing::info!("Leading");
            self.term = Some(term);
            self.epoch += 1;
            self.enqueue_everything();
        }
    }

    /// Work of the lost term has been stopped by its token; here it is forgotten.
    fn step_down(&mut self) {
        if self.term.take().is_some() {
            tracing::info!("No longer leading");
            self.epoch += 1;
        }
        self.services.clear();
        self.own_writes = OwnWrites::default();
        self.policies.clear();
        self.migrations.clear();
        self.admission.clear();
        self.datapath.clear();
    }

    /// Counts policies anew and queues those whose numbers changed.
    fn tally(&mut self, now: Now) {
        self.tally_at = None;
        let tallies = self.summaries.by_policy();
        for policy in policies::all(&self.index) {
            if tallies.get(&policy) != self.tallies.get(&policy) {
                self.policies.add(policy, now.since_start);
            }
        }
        self.tallies = tallies;
        let small_move = service_traffic::material::SMALL_MOVE_EVERY;
        self.written.retain(|_, at| *at + small_move > now.since_start);
        self.settings.own.set_services(&self.summaries, self.counts());
    }

    fn counts(&self) -> ServiceCounts {
        let mut counts = ServiceCounts {
            known: self.index.services.len(),
            reported: self.index.reports.len(),
            ..Default::default()
        };
        for status in self.index.reports.values().filter_map(|report| report.status.as_ref()) {
            counts.unbalanced += usize::from(status.condition(BALANCED) == Some("False"));
            counts.without_pods += usize::from(status.condition(LOCAL_READY) != Some("True"));
            let ratio = status.ratio_permille.unwrap_or(0);
            counts.highest_ratio_permille = counts.highest_ratio_permille.max(ratio);
        }
        counts
    }

    fn tell(&self, notices: impl IntoIterator<Item = Notice>) {
        for notice in notices {
            if self.settings.notices.try_send(notice).is_err() {
                self.settings.own.events_dropped.inc();
            }
        }
    }

    fn measure(&mut self) {
        self.services.measure();
        self.policies.measure();
        self.migrations.measure();
        self.admission.measure();
        self.datapath.measure();
    }
}
