//! Puts the parts together and keeps them running until a signal.

use crate::args::Args;
use crate::cache::{self, Cache, Index, WatchMetrics};
use crate::engine::PolicyEngine;
use crate::http::{App, router};
use crate::metrics::AdmissionMetrics;
use crate::review::Reviewer;
use crate::tls;
use portreeve_runtime::admin::{self, Health};
use portreeve_runtime::client::{ClientError, connect};
use portreeve_runtime::metrics::Metrics;
use portreeve_runtime::serve::Limits;
use portreeve_runtime::shutdown::{Ended, Plan, Shutdown};
use portreeve_runtime::tls::{CertificateSlot, TlsError, serve, server_config};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why the webhook could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No way to the API server.
    #[error("the API server cannot be reached: {0}")]
    Client(#[from] ClientError),
    /// An address is taken, or not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The file with the clients' authority cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No signals.
    #[error("cannot handle signals: {0}")]
    Signals(#[source] std::io::Error),
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// When something cannot be started. Once it runs, whatever fails is tried again, counted and shown by `/readyz`.
pub async fn run(args: Args) -> Result<(), RunError> {
    let Args { listen, namespace, cert_dir, client_ca, drain_delay, max_connections, log: _, admin, client } = args;
    let plan = Plan { delay: Duration::from_secs(drain_delay), ..Plan::default() };
    let shutdown = Shutdown::on_signals(plan).map_err(RunError::Signals)?;
    let metrics = Metrics::new(VERSION);
    let client = connect(&client, "webhook", VERSION, metrics.client.clone()).await?;

    // Nothing is decided from this first snapshot: it knows that every kind is missing.
    let cache = Arc::new(Cache::new(Index::new().snapshot()));
    let slot = CertificateSlot::new(metrics.certificate.clone());
    let health = Health::new();
    let filled = Arc::clone(&cache);
    health.ready("caches", move || filled.filled());
    health.ready("certificate", slot.clone());
    health.ready("shutdown", shutdown.leaving());

    let app = router(Arc::new(App {
        reviewer: Reviewer::new(PolicyEngine, &namespace),
        metrics: AdmissionMetrics::register(&metrics, Arc::clone(&cache)),
        requests: metrics.webhook.clone(),
        cache: Arc::clone(&cache),
    }));
    let client_ca = match client_ca {
        Some(path) => Some(tokio::fs::read(&path).await.map_err(|source| RunError::ClientCa { path, source })?),
        None => None,
    };
    let tls = server_config(slot.clone(), client_ca.as_deref())?;
    let limits = Limits { max_connections: max_connections as usize, ..Limits::default() };
    let (door, admin_door) = (bind(listen).await?, bind(admin.admin_address).await?);

    let watch_metrics = WatchMetrics::register(&metrics);
    shutdown.spawn(cache::run(client.clone(), cache, watch_metrics, shutdown.stop()));
    let certificates = metrics.certificate.clone();
    let follow = async move {
        match cert_dir {
            Some(directory) => tls::follow_directory(&directory, tls::DIRECTORY_PERIOD, slot, certificates).await,
            None => tls::follow_secret(client, &namespace, slot, certificates).await,
        }
    };
    shutdown.spawn(until(shutdown.stop(), follow));
    shutdown.spawn(serve(door, tls, app, limits, shutdown.stop()));
    // The admin server leaves last, so that the end can be watched.
    let admin_stop = CancellationToken::new();
    let admin_task = tokio::spawn({
        let stop = admin_stop.clone();
        async move { admin::serve(admin_door, metrics, &health, stop).await }
    });
    tracing::info!(%listen, "Webhook started");
    match shutdown.finished().await {
        Ended::Drained => tracing::info!("Webhook stopped"),
        Ended::Cut { left } => tracing::warn!(left, "Webhook stopped with tasks left"),
    }
    admin_stop.cancel();
    if let Err(error) = admin_task.await {
        tracing::error!(%error, "Admin server failed");
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|source| RunError::Listen { address, source })
}

async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => tracing::error!("Certificate watch ended"),
    }
}
