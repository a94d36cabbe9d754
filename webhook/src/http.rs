//! The three paths that the API server calls: limits and headers around [`Reviewer::answer`].

use crate::cache::Cache;
use crate::metrics::{AdmissionMetrics, Failure};
use crate::review::{Hook, Refusal, Reviewer};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use portreeve_runtime::metrics::{Label, WebhookMetrics};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Largest body that is read: two objects of the API server's own limit of 3 MiB, and room for the rest of a review.
pub const BODY_LIMIT: usize = 7 * 1024 * 1024;

/// Time for a body to arrive. The API server gives a webhook 2 s for everything.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// What a request needs.
#[derive(Debug)]
pub struct App {
    /// Decides.
    pub reviewer: Reviewer,
    /// The world to decide in.
    pub cache: Arc<Cache>,
    /// Our own counters.
    pub metrics: AdmissionMetrics,
    /// `controller_runtime_webhook_*`.
    pub requests: WebhookMetrics,
}

/// The routes of the webhook server.
pub fn router(app: Arc<App>) -> Router {
    let route = |router: Router, hook: Hook| {
        let app = Arc::clone(&app);
        router.route(hook.path(), post(move |request| serve(State(app), hook, request)))
    };
    Hook::ALL.into_iter().fold(Router::new(), route)
}

async fn serve(State(app): State<Arc<App>>, hook: Hook, request: Request) -> Response {
    let begun = Instant::now();
    let under_way = app.requests.begin(Label(hook.path()));
    let response = match admit(&app, request).await {
        Ok(body) => decide(&app, hook, &body),
        Err((failure, text)) => {
            app.metrics.failed(hook, failure);
            (status(failure), text).into_response()
        }
    };
    drop(under_way);
    app.requests.end(Label(hook.path()), response.status(), begun.elapsed().as_secs_f64());
    response
}

/// The body of a request that may be decided.
async fn admit(app: &App, request: Request) -> Result<Bytes, (Failure, String)> {
    if !is_json(request.headers()) {
        return Err((Failure::ContentType, "the Content-Type must be application/json\n".to_owned()));
    }
    app.cache.filled().map_err(|missing| (Failure::NotReady, format!("the caches are not filled: {missing}\n")))?;
    let body = tokio::time::timeout(BODY_TIMEOUT, read(request.into_body())).await;
    body.unwrap_or_else(|_| Err((Failure::BodyTimeout, "the body did not arrive in time\n".to_owned())))
}

async fn read(body: Body) -> Result<Bytes, (Failure, String)> {
    match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err((Failure::BodyTooLarge, format!("the body must not be larger than {BODY_LIMIT} bytes\n")))
        }
        Err(error) => Err((Failure::BodyBroken, format!("the body could not be read: {error}\n"))),
    }
}

fn decide(app: &App, hook: Hook, body: &[u8]) -> Response {
    let begun = Instant::now();
    let outcome = app.reviewer.answer(hook, body, &app.cache.load());
    app.metrics.decided(hook, &outcome, begun.elapsed().as_secs_f64());
    let (status, body) = match outcome {
        Ok(reply) => (StatusCode::OK, reply.body),
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.status()).expect("invariant: a refusal's status is 400 or 500");
            match &refusal {
                Refusal::Malformed { .. } => tracing::debug!(hook = hook.path(), %refusal, "Review was refused unread"),
                Refusal::Panicked { uid } | Refusal::Unwritable { uid, .. } => {
                    tracing::error!(hook = hook.path(), uid, %refusal, "Review got no decision");
                }
            }
            (status, refusal.body())
        }
    };
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

const fn status(failure: Failure) -> StatusCode {
    match failure {
        Failure::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
        Failure::BodyBroken | Failure::Malformed => StatusCode::BAD_REQUEST,
        Failure::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Failure::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Failure::NotReady => StatusCode::SERVICE_UNAVAILABLE,
        Failure::Panic | Failure::Unwritable => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
