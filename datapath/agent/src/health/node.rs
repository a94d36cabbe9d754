//! `/healthz` of the node: whether load balancers should send it new connections at all (KEP-3836).
//!
//! In the fields of kube-proxy's answer at its port 10256, so that whoever reads that one can read this. `/livez` beside it is
//! about this process alone: a node that is about to go needs no restart of its agent.

use super::Published;
use super::snapshot::Snapshot;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get};
use http::{StatusCode, header};
use jiff::Timestamp;
use std::time::{Duration, Instant};

/// How long the kernel may be behind before the node is not healthy: two of kube-proxy's `syncPeriod`s, as there.
const PATIENCE: Duration = Duration::from_secs(60);

/// The route.
pub(crate) fn healthz(published: Published) -> MethodRouter {
    get(async move || response(&published.load(), Instant::now(), Timestamp::now()))
}

fn response(snapshot: &Snapshot, now: Instant, time: Timestamp) -> Response {
    let (status, body) = answer(snapshot, now, time);
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, headers, body).into_response()
}

/// Status and body. Healthy while it starts, like kube-proxy; then the last update counts as of now.
fn answer(snapshot: &Snapshot, now: Instant, time: Timestamp) -> (StatusCode, String) {
    let healthy = snapshot.behind.is_none_or(|since| now.saturating_duration_since(since) < PATIENCE);
    let ok = healthy && snapshot.eligible;
    let age = snapshot.updated.filter(|_| !ok).map(|updated| now.saturating_duration_since(updated));
    let updated = age.and_then(|age| time.checked_sub(age).ok()).unwrap_or(time);
    let eligible = snapshot.eligible;
    let body = serde_json::json!({
        "lastUpdated": updated.to_string(),
        "currentTime": time.to_string(),
        "nodeEligible": eligible,
        "healthy": healthy,
    });
    (if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, body.to_string())
}

#[cfg(test)]
mod tests;
