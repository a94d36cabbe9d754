//! The agent's life: start, one loop that owns the state, orderly end.

use crate::args::Args;
use crate::links::Links;
use crate::metrics::AgentMetrics;
use crate::publish;
use crate::report::{self, Facts, Report};
use crate::state::State;
use crate::watch::{self, Seen};
use anyhow::Context as _;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use portreeve_ebpf::Ebpf;
use portreeve_netfilter::{Iptables, Nftables};
use portreeve_runtime::admin::{self, Health};
use portreeve_runtime::client;
use portreeve_runtime::metrics::Metrics;
use portreeve_runtime::shutdown::{Ended, Plan, Shutdown};
use portreeve_table::{Backend, Capabilities, Probe, ServiceKey};
use std::time::{Duration, Instant};
use std::{env, fs, mem};
use tokio::net::TcpListener;
use tokio::sync::watch as channel;
use tokio::time::{Instant as Moment, MissedTickBehavior, interval, sleep_until};

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How often the interfaces are looked at although nothing was said of them: a socket may lose messages.
const LOOK: Duration = Duration::from_secs(30);
/// How long news may gather before they are reported.
const GATHER: Duration = Duration::from_millis(200);

/// Runs the agent until a signal ends it.
///
/// # Errors
/// When it cannot start: no admin address, no client, no capabilities to read.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let metrics = Metrics::new(VERSION);
    let own = AgentMetrics::register(&metrics);
    let shutdown = Shutdown::on_signals(Plan::default()).context("signal handlers")?;
    let (synced, is_synced) = channel::channel(false);
    let health = Health::new();
    health.ready("synced", is_synced);
    health.ready("shutdown", shutdown.leaving());
    let listener =
        TcpListener::bind(args.admin_address).await.with_context(|| format!("admin address {}", args.admin_address))?;
    let (admin_metrics, admin_health, admin_stop) = (metrics.clone(), health.clone(), shutdown.stop());
    shutdown.spawn(async move { admin::serve(listener, admin_metrics, &admin_health, admin_stop).await });

    let client = client::connect(&args.client, "agent", VERSION, metrics.client.clone()).await?;
    let (reports, reported) = channel::channel(None);
    shutdown.spawn(publish::run(client.clone(), reported, own.clone(), shutdown.stop()));
    let (links, changes) = open_links();
    let agent = Agent {
        state: State::default(),
        facts: Facts { kernel: kernel()?, probes: probes().await?, links: Err("not read yet".to_owned()) },
        links,
        metrics: own,
        reports,
        synced,
    };
    let seen = watch::all(&client, &args.node_name);
    let stop = shutdown.stop();
    tokio::select! {
        outcome = agent.watch(seen, changes) => outcome?,
        () = stop.cancelled() => {}
    }
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
        let path = env::var_os("PATH").unwrap_or_default();
        let engines: [Box<dyn Backend>; 3] = [Box::new(Ebpf), Box::new(Nftables), Box::new(Iptables::in_path(path))];
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

struct Agent {
    state: State,
    facts: Facts,
    links: Result<Links, String>,
    metrics: AgentMetrics,
    reports: channel::Sender<Option<Report>>,
    synced: channel::Sender<bool>,
}

impl Agent {
    /// The one loop: takes what is seen at once, and reports when the news have had time to gather.
    async fn watch(
        mut self,
        mut seen: impl Stream<Item = Seen> + Unpin,
        changes: impl Stream<Item = ()> + Unpin,
    ) -> anyhow::Result<()> {
        let mut changes = changes.fuse();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // News gather until a fixed time after the first of them, so that a steady stream cannot put the report off.
        let (mut due, mut moved) = (None, false);
        loop {
            let news = tokio::select! {
                one = seen.next() => {
                    self.take(one.context("the watches ended")?);
                    true
                }
                Some(()) = changes.next() => {
                    moved = true;
                    true
                }
                _ = look.tick() => {
                    self.state.tidy();
                    moved = true;
                    true
                }
                () = until(due) => false,
            };
            if news {
                due.get_or_insert_with(|| Moment::now() + GATHER);
                continue;
            }
            if mem::take(&mut moved) {
                self.look().await;
            }
            self.report();
            due = None;
        }
    }

    fn take(&mut self, seen: Seen) {
        if let Seen::Failed(kind, error) = &seen {
            self.metrics.watch_failed(*kind);
            tracing::warn!(kind = kind.as_str(), error = %error, "Watch failed, trying again");
        }
        let start = Instant::now();
        let changes = self.state.take(seen);
        self.metrics.compiled(start.elapsed().as_secs_f64());
        for key in &changes.refused {
            tracing::warn!(service = %key, "{}", self.headline(key));
        }
        for key in changes.added.iter().chain(&changes.removed) {
            tracing::debug!(service = %key, "{}", self.headline(key));
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
    }

    fn report(&self) {
        self.metrics.observe(&self.state);
        self.synced.send_replace(self.state.waiting_for().is_empty());
        let report = report::report(&self.state, &self.facts);
        self.reports.send_if_modified(|last| {
            let new = *last != report;
            *last = report;
            new
        });
    }
}

async fn until(due: Option<Moment>) {
    match due {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
