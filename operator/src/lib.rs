//! The operator: watches Services, policies and migrations, reports on them, changes what was approved, and keeps the
//! webhook registered.
//!
//! This room knows the custom resources, the policy engine and the API server. It may not decide what a rule finds, what
//! a migration means or how uneven a Service is: those answers come from `policy`. Events flow one way: watch → [`index`]
//! → pure steps → apply → status; the engine is the one owner of the index, and only `apply` and `status` steps hold a
//! client.

#![allow(
    clippy::large_enum_variant,
    reason = "events and results of steps are made once and moved once; a box would cost an allocation per listed object"
)]

pub mod admission;
mod api_error;
pub mod args;
mod assess;
mod datapath_config;
mod engine;
pub mod index;
pub mod key;
mod metrics;
mod migration;
mod notice;
mod policies;
mod queue;
pub mod rbac;
mod service_traffic;
mod watch;

use anyhow::Context as _;
use args::RunArgs;
use engine::{Engine, Settings};
use metrics::OperatorMetrics;
use notice::Notice;
use portreeve_crds::names;
use portreeve_runtime::admin::{self, Health};
use portreeve_runtime::events::Recorder;
use portreeve_runtime::lease::Elector;
use portreeve_runtime::metrics::{Label, Metrics};
use portreeve_runtime::shutdown::{Ended, Plan, Shutdown};
use portreeve_runtime::{client, telemetry};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch as channel};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watch::Watches;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Events from watches that may wait: a slow engine slows the watches down instead of filling memory.
const EVENTS_WAITING: usize = 1024;
/// Notices that may wait for the API server; more are dropped and counted.
const NOTICES_WAITING: usize = 1024;
/// An engine that has not turned for this long is stuck.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// This process's name in the election. The Pod's name alone would not do: a container that starts anew after a crash has
/// it too, and would take the dead process's lease for its own.
fn candidate(pod: &str) -> String {
    format!("{pod}_{:08x}", rand::random::<u32>())
}

/// Runs the operator until a signal ends it.
///
/// # Errors
/// When the process cannot start; once it runs, failures are retried and reported.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    let common = &args.common;
    telemetry::init(&common.log).context("cannot set up logging")?;
    let shutdown = Shutdown::on_signals(Plan::default()).context("cannot handle signals")?;
    let metrics = Metrics::new(VERSION);
    let own = OperatorMetrics::register(&metrics);
    let client = client::connect(&common.client, "operator", VERSION, metrics.client.clone()).await?;
    let (namespace, identity) = (common.pod.namespace.as_str(), common.pod.identity.clone());

    let (events_in, events) = mpsc::channel(EVENTS_WAITING);
    let (notices, mut to_tell) = mpsc::channel::<Notice>(NOTICES_WAITING);
    let (synced, unsynced) = channel::channel(vec!["all"]);
    let (heartbeat, beats) = channel::channel(Instant::now());
    let health = health(unsynced, beats, shutdown.leaving());
    let listener = TcpListener::bind(common.admin.admin_address).await.context("cannot bind the admin address")?;
    let (stop, served) = (shutdown.stop(), metrics.clone());
    drop(shutdown.spawn(async move { admin::serve(listener, served, &health, stop).await }));

    let elector = Elector::new(
        client.clone(),
        namespace,
        Label(names::OPERATOR),
        candidate(&identity),
        args.lease.timing(),
        metrics.leader.clone(),
    )
    .context("the times of the election do not fit together")?;
    let leadership = elector.leadership();

    let watching = Watches {
        client: client.clone(),
        events: events_in,
        metrics: own.clone(),
        stop: shutdown.stop(),
        tasks: tokio_util::task::TaskTracker::new(),
    };
    watching.start(namespace);

    let recorder = Arc::new(Recorder::new(client.clone(), "portreeve.io/operator", &identity, &metrics));
    let stop = shutdown.stop();
    drop(shutdown.spawn(async move {
        let tell = async {
            while let Some(Notice { regarding, reason, note }) = to_tell.recv().await {
                recorder.say(&regarding, &reason, &note).await;
            }
        };
        stop.run_until_cancelled(tell).await;
    }));

    let engine = Engine::new(Settings {
        client,
        endpoint: args.webhook.endpoint(namespace),
        node_ports: args.node_port_range.clone(),
        workers: args.workers,
        metrics,
        own,
        notices,
        synced,
        heartbeat,
    });
    // The lease is given back as soon as the end is asked for, and the engine outlives it: a term's work ends with it.
    let election = shutdown.spawn(elector.run(shutdown.leaving()));
    let engine = shutdown.spawn(engine.run(events, leadership, shutdown.stop()));
    // Neither ends by itself: a replica without them must be restarted, not look healthy. Once the end is asked for, they
    // end in any order, and the engine's end must not cut off the request that gives the lease back.
    let leaving = shutdown.leaving();
    let early = tokio::select! {
        biased;
        () = leaving.cancelled() => None,
        ended = engine => Some(ended.context("the engine failed").map(|()| "engine")?),
        ended = election => Some(ended.context("the election failed").map(|()| "election")?),
    };
    if let Some(what) = early.filter(|_| !leaving.is_cancelled()) {
        anyhow::bail!("the {what} ended without being asked to");
    }
    if let Ended::Cut { left } = shutdown.finished().await {
        tracing::warn!(left, "Left with tasks still running");
    }
    Ok(())
}

fn health(
    unsynced: channel::Receiver<Vec<&'static str>>,
    beats: channel::Receiver<Instant>,
    leaving: CancellationToken,
) -> Health {
    let health = Health::new();
    health.ready("leaving", leaving);
    health.ready("caches", move || {
        let waiting = unsynced.borrow();
        if waiting.is_empty() { Ok(()) } else { Err(format!("not listed yet: {}", waiting.join(", "))) }
    });
    health.live("engine", move || {
        let silent = beats.borrow().elapsed();
        if silent < STUCK_AFTER { Ok(()) } else { Err(format!("no turn for {} s", silent.as_secs())) }
    });
    health
}
