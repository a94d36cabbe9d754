//! The admin server: `/metrics`, `/livez`, `/readyz`, `/healthz`, in plain HTTP.
//!
//! The probes answer as kube-apiserver's do: `ok`, or 500 with the failing checks; `?verbose` lists every check, and
//! `/readyz/NAME` asks for one. `/healthz` is the older name of `/livez`, unless the process has a use of its own for it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use http::{HeaderMap, StatusCode, header};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::{Format, Metrics};
use crate::serve::{self, Limits};

/// What a probe asks. It is called at every probe and must answer from memory.
pub trait Check: Send + Sync {
    /// `Ok`, or the reason in words.
    ///
    /// # Errors
    /// When the checked part is not well.
    fn check(&self) -> Result<(), String>;
}

impl<F: Fn() -> Result<(), String> + Send + Sync> Check for F {
    fn check(&self) -> Result<(), String> {
        self()
    }
}

/// True is well.
impl Check for watch::Receiver<bool> {
    fn check(&self) -> Result<(), String> {
        if *self.borrow() { Ok(()) } else { Err("not yet".to_owned()) }
    }
}

/// Well as long as the token stands: `Shutdown::leaving` as a readiness check.
impl Check for CancellationToken {
    fn check(&self) -> Result<(), String> {
        if self.is_cancelled() { Err("shutting down".to_owned()) } else { Ok(()) }
    }
}

type Checks = Arc<RwLock<BTreeMap<&'static str, Arc<dyn Check>>>>;

/// The named checks of liveness and readiness; clones share them.
#[derive(Clone, Default)]
pub struct Health {
    live: Checks,
    ready: Checks,
}

impl Health {
    /// No checks: live and ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check without which the process should be restarted.
    pub fn live(&self, name: &'static str, check: impl Check + 'static) {
        self.live.write().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(check));
    }

    /// Adds a check without which the process should get no traffic.
    pub fn ready(&self, name: &'static str, check: impl Check + 'static) {
        self.ready.write().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(check));
    }

    /// The names of the readiness checks that fail now.
    #[must_use]
    pub fn not_ready(&self) -> Vec<&'static str> {
        let checks = self.ready.read().unwrap_or_else(PoisonError::into_inner);
        checks.iter().filter(|(_, check)| check.check().is_err()).map(|(name, _)| *name).collect()
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").field("not_ready", &self.not_ready()).finish()
    }
}

/// The routes of the admin server.
pub fn router(metrics: Metrics, health: &Health) -> Router {
    without_healthz(metrics, health).merge(probes("/healthz", &health.live))
}

/// The same with a `/healthz` that says what this process means by it.
pub fn router_with(metrics: Metrics, health: &Health, healthz: MethodRouter) -> Router {
    without_healthz(metrics, health).route("/healthz", healthz)
}

fn without_healthz(metrics: Metrics, health: &Health) -> Router {
    Router::new()
        .route("/metrics", get(scrape).with_state(metrics))
        .merge(probes("/livez", &health.live))
        .merge(probes("/readyz", &health.ready))
}

fn probes(path: &'static str, checks: &Checks) -> Router {
    let one = format!("{path}/{{name}}");
    Router::new()
        .route(path, get(all))
        .route(&one, get(single))
        .with_state(Probe { name: path.trim_start_matches('/'), checks: Arc::clone(checks) })
}

/// Serves the admin routes until `stop` falls. Bind the listener first, so that a taken address fails the start.
pub async fn serve(listener: TcpListener, metrics: Metrics, health: &Health, stop: CancellationToken) {
    serve_router(listener, router(metrics, health), stop).await;
}

/// Serves these admin routes until `stop` falls.
pub async fn serve_router(listener: TcpListener, router: Router, stop: CancellationToken) {
    let limits = Limits { max_connections: 64, ..Limits::default() };
    serve::plain(listener, router, limits, stop).await;
}

#[derive(Clone)]
struct Probe {
    name: &'static str,
    checks: Checks,
}

async fn scrape(State(metrics): State<Metrics>, headers: HeaderMap) -> Response {
    let format = Format::accepted(headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()));
    match metrics.encode(format) {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("metrics: {error}\n")).into_response(),
    }
}

async fn all(State(probe): State<Probe>, Query(query): Query<BTreeMap<String, String>>) -> Response {
    let checks = probe.checks.read().unwrap_or_else(PoisonError::into_inner).clone();
    let (mut text, mut failed) = (String::new(), Vec::new());
    for (name, check) in &checks {
        let line = match check.check() {
            Ok(()) => format!("[+]{name} ok"),
            Err(reason) => {
                failed.push(*name);
                format!("[-]{name} failed: {reason}")
            }
        };
        writeln!(text, "{line}").expect("invariant: writing to a String cannot fail");
    }
    if failed.is_empty() {
        let verbose = query.contains_key("verbose");
        let text = if verbose { format!("{text}{} check passed\n", probe.name) } else { "ok".to_owned() };
        return text.into_response();
    }
    let text = format!("{text}{} check failed: {}\n", probe.name, failed.join(","));
    (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
}

async fn single(State(probe): State<Probe>, Path(name): Path<String>) -> Response {
    let check = probe.checks.read().unwrap_or_else(PoisonError::into_inner).get(name.as_str()).cloned();
    match check.map(|check| check.check()) {
        Some(Ok(())) => "ok".into_response(),
        Some(Err(reason)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{reason}\n")).into_response(),
        None => (StatusCode::NOT_FOUND, "no such check\n").into_response(),
    }
}

#[cfg(test)]
mod tests;
