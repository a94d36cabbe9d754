//! The agent's life: start, one loop that owns the state, orderly end.

use crate::args::Args;
use crate::ask::{self, Asked, Clock};
use crate::health::{self, HealthChecks};
use crate::links::Links;
use crate::metrics::AgentMetrics;
use crate::notice::{self, Notices};
use crate::program::{Program, Standing, Wanted};
use crate::publish;
use crate::report::{self, Facts, Report};
use crate::state::State;
use crate::uninstall::Uninstall;
use crate::watch::{self, Kind, Object, Seen};
use crate::{choose, uplinks};
use anyhow::Context as _;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use jiff::Timestamp;
use kube::ResourceExt as _;
use portreeve_ask::{Answer, Repaired, Request};
use portreeve_ebpf::Ebpf;
use portreeve_netfilter::{Iptables, Nftables, iptables, nftables};
use portreeve_runtime::admin::{self, Health};
use portreeve_runtime::client;
use portreeve_runtime::events::Recorder;
use portreeve_runtime::metrics::Metrics;
use portreeve_runtime::shutdown::{Ended, Plan, Shutdown};
use portreeve_table::{Applied, Backend, BackendKind, Capabilities, Engine, EngineError, Interface, Probe, ServiceKey};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use std::{env, fs, mem};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch as channel};
use tokio::time::{Instant as Moment, MissedTickBehavior, interval, sleep_until};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How often the interfaces are looked at although nothing was said of them: a socket may lose messages.
const LOOK: Duration = Duration::from_secs(30);
/// How long news may gather before they are reported.
const GATHER: Duration = Duration::from_millis(200);
/// When the change of endpoints happened that made the endpoint controller write a slice (RFC 3339); kube-proxy's objective
/// for network programming counts from it.
const TRIGGERED: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// How long changes of the table may gather before they are programmed, while more of them are at hand.
const BATCH: Duration = Duration::from_millis(20);

/// Runs the agent until a signal ends it.
///
/// # Errors
/// When it cannot start: no admin address, no client, no capabilities to read.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let node_name = args.node_name.context("--node-name is not given")?;
    let metrics = Metrics::new(VERSION);
    let own = AgentMetrics::register(&metrics);
    let shutdown = Shutdown::on_signals(Plan::default()).context("signal handlers")?;
    let (synced, is_synced) = channel::channel(false);
    let health = Health::new();
    health.ready("synced", is_synced);
    health.ready("shutdown", shutdown.leaving());
    let listener =
        TcpListener::bind(args.admin_address).await.with_context(|| format!("admin address {}", args.admin_address))?;
    let checks = HealthChecks::start(own.clone(), &shutdown);
    let routes = admin::router_with(metrics.clone(), &health, health::healthz(checks.published()));
    shutdown.spawn(admin::serve_router(listener, routes, shutdown.stop()));

    let client = client::connect(&args.client, "agent", VERSION, metrics.client.clone()).await?;
    let (reports, reported) = channel::channel(None);
    shutdown.spawn(publish::run(client.clone(), reported, own.clone(), shutdown.stop()));
    let recorder = Recorder::new(client.clone(), "portreeve.io/agent", &node_name, &metrics);
    let (notices, told) = Notices::new(own.clone());
    shutdown.spawn(notice::run(client.clone(), recorder, told, shutdown.stop()));
    let (requests, asked) = mpsc::channel(1);
    shutdown.spawn(ask::serve(args.admin_socket, node_name.clone(), requests, shutdown.stop()));
    let (links, changes) = open_links();
    let probes = probes().await?;
    let usable = probes.iter().filter(|probe| probe.missing().is_none()).map(|probe| probe.kind);
    let mut agent = Agent {
        state: State::of_node(&node_name),
        program: Program::new(usable.collect::<Vec<_>>(), Box::new(open_engine)),
        wanted: None,
        alarm: None,
        pending: None,
        triggers: Vec::new(),
        facts: Facts {
            kernel: kernel()?,
            probes,
            links: Err("not read yet".to_owned()),
            health_checks: None,
            lingering: None,
        },
        checks,
        notices,
        links,
        metrics: own,
        reports,
        synced,
        clock: Clock { instant: Instant::now(), time: Timestamp::now() },
    };
    let uninstall = Uninstall::default();
    if let Some(namespace) = args.namespace {
        shutdown.spawn(uninstall.clone().watch(client.clone(), namespace, shutdown.stop()));
    }
    let stop = shutdown.stop();
    tokio::select! {
        outcome = agent.watch(watch::all(&client), changes, asked) => outcome?,
        () = stop.cancelled() => {}
    }
    agent.leave(uninstall.under_way());
    if let Ended::Cut { left } = shutdown.finished().await {
        tracing::warn!(left, "Tasks were cut off at the end");
    }
    Ok(())
}

/// The engines' probes, best first. They take capabilities of the thread they run in, so the set is read in that thread.
async fn probes() -> anyhow::Result<Vec<Probe>> {
    let probed = tokio::task::spawn_blocking(|| {
        let status = fs::read_to_string("/proc/thread-self/status").context("own capabilities")?;
        let held = Capabilities::parse(&status).context("own capabilities are not in /proc/thread-self/status")?;
        let engines: [Box<dyn Backend>; 3] =
            [Box::new(Ebpf), Box::new(Nftables), Box::new(Iptables::in_path(search_path()))];
        let probes: Vec<Probe> = engines.iter().map(|engine| engine.probe(held)).collect();
        for (engine, probe) in engines.iter().zip(&probes) {
            let missing = probe.missing().map(|feature| format!("{}: {}", feature.name, feature.detail));
            tracing::info!(backend = %engine.kind(), missing = missing.as_deref().unwrap_or("nothing"), "Backend probed");
        }
        anyhow::Ok(probes)
    });
    probed.await.context("probing was cut off")?
}

fn kernel() -> anyhow::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/osrelease").context("kernel release")?.trim().to_owned())
}

/// The rtnetlink connection and its news. Without it the report says why, and no news comes.
fn open_links() -> (Result<Links, String>, BoxStream<'static, ()>) {
    match Links::open() {
        Ok((links, changes)) => (Ok(links), changes.boxed()),
        Err(error) => (Err(error.to_string()), futures::stream::empty().boxed()),
    }
}

/// Where programs are looked for.
fn search_path() -> OsString {
    env::var_os("PATH").unwrap_or_default()
}

fn open_engine(kind: BackendKind) -> Result<Box<dyn Engine>, EngineError> {
    match kind {
        BackendKind::Nftables => Ok(Box::new(nftables::Programmed::open()?)),
        BackendKind::Iptables => Ok(Box::new(iptables::Programmed::open(&search_path())?)),
        BackendKind::Ebpf => Err(format!("this version has no engine for {kind}").into()),
    }
}

struct Agent {
    state: State,
    program: Program,
    /// What is to be programmed; nothing until the first lists are complete and the node is known.
    wanted: Option<Wanted>,
    /// Readable when somebody else may have changed what was programmed.
    alarm: Option<AsyncFd<OwnedFd>>,
    /// Since when the table has changes that are not programmed.
    pending: Option<Instant>,
    /// What triggered the slices among them.
    triggers: Vec<Timestamp>,
    facts: Facts,
    checks: HealthChecks,
    notices: Notices,
    links: Result<Links, String>,
    metrics: AgentMetrics,
    reports: channel::Sender<Option<Report>>,
    synced: channel::Sender<bool>,
    clock: Clock,
}

impl Agent {
    /// The one loop: takes what is seen at once, programs it when no more is at hand, and reports when the news have had
    /// time to gather.
    async fn watch(
        &mut self,
        mut seen: impl Stream<Item = Seen> + Unpin,
        changes: impl Stream<Item = ()> + Unpin,
        mut asked: mpsc::Receiver<Asked>,
    ) -> anyhow::Result<()> {
        let mut changes = changes.fuse();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // News gather until a fixed time after the first of them, so that a steady stream cannot put the report off.
        let (mut due, mut moved) = (None, false);
        loop {
            if self.pending.is_some_and(|since| since.elapsed() >= BATCH) {
                self.round()?;
            }
            // Before what is seen, of which there may be ever more.
            if self.checks.due().is_some_and(|at| at <= Instant::now()) {
                self.checks.renew(&mut self.program, Instant::now());
            }
            let step = tokio::select! {
                biased;
                one = seen.next() => Step::Take(one.context("the watches ended")?),
                () = readable(self.alarm.as_ref()) => Step::Alarm,
                () = until(self.round_due()) => Step::Program,
                () = until(self.checks.due().map(Moment::from_std)) => Step::Renew,
                Some(asked) = asked.recv() => Step::Answer(asked),
                Some(()) = changes.next() => Step::Moved,
                _ = look.tick() => Step::Tick,
                () = until(due) => Step::Report,
            };
            match step {
                Step::Take(seen) => self.take(seen),
                // What has to be mended is a round, and that is news; the rest is none.
                Step::Alarm => {
                    self.disturbed();
                    continue;
                }
                Step::Program => self.round()?,
                Step::Renew => continue,
                Step::Answer(asked) => self.answer(asked)?,
                Step::Moved => moved = true,
                Step::Tick => {
                    self.state.tidy();
                    self.disturbed();
                    moved = true;
                }
                Step::Report => {
                    if mem::take(&mut moved) {
                        self.look().await;
                    }
                    self.report();
                    due = None;
                    continue;
                }
            }
            due.get_or_insert_with(|| Moment::now() + GATHER);
        }
    }

    /// The end: what was programmed stays, unless Portreeve itself goes.
    fn leave(mut self, uninstalled: bool) {
        self.checks.end(&mut self.program);
        if !uninstalled {
            return;
        }
        match self.program.remove() {
            Ok(()) => tracing::info!("Nothing of ours is left on this node; kube-proxy serves all of its traffic"),
            Err(error) => tracing::error!(error = %error, "This node could not be cleared"),
        }
    }

    fn take(&mut self, seen: Seen) {
        if let Seen::Failed(kind, error) = &seen {
            self.metrics.watch_failed(*kind);
            tracing::warn!(kind = kind.as_str(), error = %error, "Watch failed, trying again");
        }
        let decides = match &seen {
            Seen::Synced(_) => true,
            Seen::Put(_, object) => matches!(object, Object::Node(_) | Object::DatapathConfig(_)),
            Seen::Gone(kind, _) => matches!(kind, Kind::Node | Kind::DatapathConfig),
            Seen::Failed(..) => false,
        };
        let trigger = trigger(&seen);
        let start = Instant::now();
        let changes = self.state.take(seen);
        self.metrics.compiled(start.elapsed().as_secs_f64());
        for key in &changes.refused {
            tracing::warn!(service = %key, "{}", self.headline(key));
        }
        for key in changes.added.iter().chain(&changes.removed) {
            tracing::debug!(service = %key, "{}", self.headline(key));
        }
        if !changes.is_empty() {
            self.pending.get_or_insert(start);
            // What happened before the first round is not for this agent to answer for.
            if *self.program.standing() != Standing::NotYet {
                self.triggers.extend(trigger);
            }
        }
        self.notices.refused(&changes.refused);
        self.checks.note(&changes);
        self.program.note(changes);
        if decides {
            self.want();
        }
    }

    /// What is to be programmed, as far as the node and the configuration decide it. What is in force stays when they are
    /// not known any more.
    fn want(&mut self) {
        let (Some(node), Ok(dump), true) = (self.state.node(), &self.facts.links, self.state.waiting_for().is_empty())
        else {
            return;
        };
        let config = self.state.config();
        let Some(kind) = choose::chosen(config.backend, &self.facts.probes) else { return };
        let uplinks = uplinks::select(dump, &node.internal, config.uplinks.as_deref());
        let uplinks: BTreeSet<_> = uplinks.iter().filter_map(|uplink| Interface::new(&uplink.name)).collect();
        if !uplinks.is_empty() {
            self.wanted = Some(Wanted { kind, uplinks });
        }
    }

    fn round_due(&self) -> Option<Moment> {
        let wanted = self.wanted.as_ref()?;
        self.program.due(wanted, Instant::now()).map(Moment::from_std)
    }

    /// One round of programming. The engine is asked on this thread; the runtime's other tasks go on on another one.
    fn round(&mut self) -> anyhow::Result<()> {
        let (pending, Some(wanted)) = (self.pending.take(), &self.wanted) else { return Ok(()) };
        let start = Instant::now();
        let (state, program) = (&self.state, &mut self.program);
        let keeps = |service: &ServiceKey, protocol, pod| state.keeps(service, protocol, pod);
        let round = tokio::task::block_in_place(|| program.round(wanted, &state.compiled().table, &keeps, start));
        self.metrics.programmed(wanted.kind, round.is_ok(), start.elapsed(), pending.map(|since| since.elapsed()));
        match round {
            Ok(round) => {
                let (table, eligible) = (&self.state.compiled().table, self.state.eligible());
                self.checks.programmed(table, eligible, round.applied, Instant::now());
                for trigger in self.triggers.drain(..) {
                    self.metrics.endpoints_programmed(Timestamp::now().duration_since(trigger).as_secs_f64().max(0.0));
                }
                if round.applied != Applied::Nothing {
                    tracing::debug!(backend = %wanted.kind, applied = ?round.applied, steps = round.steps, "Programmed");
                }
                if round.first {
                    tracing::info!(backend = %wanted.kind, uplinks = ?wanted.uplinks, "Engine in force");
                    let alarm = self.program.alarm().map_err(|error| anyhow::anyhow!(error))?;
                    self.alarm = alarm.map(watched).transpose().context("the socket that tells of others' changes")?;
                }
            }
            Err(error) => tracing::warn!(error = %error, "Not programmed, trying again"),
        }
        if let Some(why) = self.program.lingering() {
            tracing::warn!(error = why, "Something is left over, trying again");
        }
        Ok(())
    }

    /// Answers a request, unless its client has gone. Health checks keep coming here meanwhile.
    fn answer(&mut self, Asked { request, answer }: Asked) -> anyhow::Result<()> {
        if answer.is_closed() {
            return Ok(());
        }
        if self.checks.due().is_some() {
            self.checks.renew(&mut self.program, Instant::now());
        }
        let said = match request {
            Request::Repair {} => self.repair()?.map(Answer::Repair),
            request => {
                let (state, program, clock) = (&self.state, &mut self.program, self.clock);
                tokio::task::block_in_place(|| ask::answer(&request, state, program, clock))
            }
        };
        // A client that went meanwhile has no use for it.
        let _ = answer.send(said);
        Ok(())
    }

    /// Makes everything anew since somebody asks for it; the sentence says why it is not in force.
    fn repair(&mut self) -> anyhow::Result<Result<Repaired, String>> {
        if self.wanted.is_none() {
            let why = "nothing is to be programmed yet: the node, an uplink or a usable backend is not known; kubectl                        describe nodedatapath says which";
            return Ok(Err(why.to_owned()));
        }
        let began = Instant::now();
        tracing::info!("Everything is made anew, as was asked for");
        self.metrics.repair_asked();
        self.program.make_anew();
        self.round()?;
        Ok(match self.program.standing() {
            Standing::InStep(kind) => Ok(Repaired {
                backend: kind.to_string(),
                services: self.state.compiled().table.services.len(),
                milliseconds: ask::milliseconds(began.elapsed()),
            }),
            Standing::Failed { why, .. } => Err(format!("not in force, it is tried again: {why}")),
            Standing::NotYet => Err("nothing was programmed".to_owned()),
        })
    }

    /// Looks into what others may have done to our rules; the next round mends it.
    fn disturbed(&mut self) {
        match self.program.disturbed() {
            Ok(false) => {}
            Ok(true) => {
                self.metrics.repaired();
                self.notices.disturbed();
                tracing::warn!("Somebody else changed what this agent programmed; it is made anew");
            }
            Err(error) => {
                tracing::warn!(error = %error, "Whether others changed our rules is not known; they are made anew")
            }
        }
    }

    /// The first line of why a Service is claimed or left; a log line has no room for its frontends.
    fn headline(&self, key: &ServiceKey) -> String {
        let text = self.state.compiled().explain_claim(key);
        text.lines().next().unwrap_or_default().to_owned()
    }

    async fn look(&mut self) {
        self.facts.links = match &self.links {
            Ok(links) => links.dump().await.map_err(|error| error.to_string()),
            Err(error) => Err(error.clone()),
        };
        self.want();
    }

    fn report(&mut self) {
        let (table, eligible) = (&self.state.compiled().table, self.state.eligible());
        self.checks.observe(table, eligible, self.program.standing(), Instant::now());
        self.facts.health_checks = self.checks.left().map(str::to_owned);
        self.notices.say(&self.state, self.program.standing(), Instant::now());
        self.metrics.observe(&self.state);
        self.synced.send_replace(self.state.waiting_for().is_empty());
        self.facts.lingering = self.program.lingering().map(str::to_owned);
        let report = report::report(&self.state, &self.facts, self.program.standing());
        self.reports.send_if_modified(|last| {
            let new = *last != report;
            *last = report;
            new
        });
    }
}

/// When that happened which made somebody write this slice, if the slice says so.
fn trigger(seen: &Seen) -> Option<Timestamp> {
    let Seen::Put(_, Object::EndpointSlice(slice)) = seen else { return None };
    slice.annotations().get(TRIGGERED)?.parse().ok()
}

/// What the loop does next.
enum Step {
    Take(Seen),
    Alarm,
    Program,
    Renew,
    Answer(Asked),
    Moved,
    Tick,
    Report,
}

#[expect(
    deprecated,
    reason = "the successor is unsafe to call, for descriptors that may be closed meanwhile; an owned one cannot be"
)]
fn watched(alarm: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(alarm, Interest::READABLE)
}

/// Waits until the alarm rings; it may ring again at once if it did so in the meantime.
async fn readable(alarm: Option<&AsyncFd<OwnedFd>>) {
    match alarm {
        Some(alarm) => match alarm.readable().await {
            // Before it is looked into, so that what comes while it is looked into rings again.
            Ok(mut guard) => guard.clear_ready(),
            Err(_) => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

async fn until(due: Option<Moment>) {
    match due {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
