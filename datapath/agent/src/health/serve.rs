//! The server behind the listeners: which Service a check asks for is told by the address that it came to.

use super::Published;
use super::answer::{Answer, answer};
use crate::metrics::AgentMetrics;
use axum::Router;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use portreeve_runtime::serve::{self, Asked, Limits};
use portreeve_table::Family;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");
/// A check that takes longer has failed for any load balancer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Load balancers ask from several machines, for every Service at once.
const CONNECTIONS: usize = 1024;

/// Answers any method and path, as kube-proxy does.
pub(super) fn router(published: Published, metrics: AgentMetrics) -> Router {
    Router::new().fallback(check).with_state((published, metrics))
}

pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let limits = Limits { max_connections: CONNECTIONS, idle_timeout: PATIENCE, drain: PATIENCE, ..Limits::default() };
    serve::plain(listener, router, limits, stop).await;
}

async fn check(
    State((published, metrics)): State<(Published, AgentMetrics)>,
    Extension(Asked(at)): Extension<Asked>,
) -> Response {
    let snapshot = published.load();
    let mut response = match snapshot.ports.get(&at.port()) {
        Some(checked) => response(answer(checked, Family::of(at.ip().to_canonical()))),
        None => (StatusCode::NOT_FOUND, "no Service of this node has its health check here\n").into_response(),
    };
    metrics.answered(response.status());
    // The next check is a new connection, so that it comes to whoever is to answer then.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

fn response(Answer { status, weight, body }: Answer) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (WEIGHT, HeaderValue::from(weight)),
    ];
    (status, headers, body).into_response()
}

#[cfg(test)]
mod tests;
