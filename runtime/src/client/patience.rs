//! Counts every attempt, and tries again when the server asks for it.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use kube::client::Body;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tower::{BoxError, Layer, Service, ServiceExt as _};

use crate::metrics::{ClientMetrics, Code, Verb};

/// How long to wait for answers, and how often to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Time to the head of an answer. Bodies may take longer: a watch is one long body.
    pub answer: Duration,
    /// Attempts in all.
    pub attempts: u32,
    /// First pause without `Retry-After`; it doubles.
    pub first_pause: Duration,
    /// Longest pause, also when the server asks for more.
    pub longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            attempts: 4,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(10),
        }
    }
}

impl Patience {
    /// The pause before attempt `next` (the second is 2), or `None` to give the answer to the caller.
    ///
    /// 429 means that the server did not begin (RFC 6585 §4), so anything may be sent again; after 503 only what can be
    /// sent twice without harm. `jitter`, from 0 to 1, adds up to a half, so that clients do not come back together.
    fn pause(
        &self,
        method: &Method,
        status: StatusCode,
        asked: Option<Duration>,
        next: u32,
        jitter: f64,
    ) -> Option<Duration> {
        let again = match status {
            StatusCode::TOO_MANY_REQUESTS => true,
            StatusCode::SERVICE_UNAVAILABLE => method.is_idempotent(),
            _ => false,
        };
        if !again || next > self.attempts {
            return None;
        }
        let doubled = self.first_pause.saturating_mul(2u32.saturating_pow(next.saturating_sub(2)));
        let base = asked.unwrap_or(doubled).min(self.longest_pause);
        Some(base + base.mul_f64(jitter.clamp(0.0, 1.0) / 2.0))
    }
}

/// `Retry-After` in seconds, the only form that kube-apiserver sends.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

/// No answer began within the patience.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the API server did not answer within {0:?}")]
pub struct RequestTimedOut(pub Duration);

/// Wraps a client's service in [`PatientService`].
#[derive(Clone, Debug)]
pub struct PatienceLayer {
    patience: Patience,
    metrics: ClientMetrics,
}

impl PatienceLayer {
    /// Counts in `metrics`.
    #[must_use]
    pub fn new(patience: Patience, metrics: ClientMetrics) -> Self {
        Self { patience, metrics }
    }
}

impl<S> Layer<S> for PatienceLayer {
    type Service = PatientService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        PatientService { inner: Arc::new(Mutex::new(inner)), patience: self.patience, metrics: self.metrics.clone() }
    }
}

/// A service that counts, waits and tries again. The lock is held only while a request is handed over, not while it runs.
#[derive(Debug)]
pub struct PatientService<S> {
    inner: Arc<Mutex<S>>,
    patience: Patience,
    metrics: ClientMetrics,
}

impl<S, B> Service<Request<Body>> for PatientService<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (inner, patience, metrics) = (Arc::clone(&self.inner), self.patience, self.metrics.clone());
        Box::pin(async move {
            let method = request.method().clone();
            let mut request = request;
            let mut attempt = 1;
            loop {
                let spare = copy(&request);
                let began = Instant::now();
                let answered = tokio::time::timeout(patience.answer, hand_over(&inner, request)).await;
                let code = match &answered {
                    Ok(Ok(response)) => Code::from(response.status()),
                    Ok(Err(_)) | Err(_) => Code::NoAnswer,
                };
                metrics.end(Verb::from(&method), code, began.elapsed().as_secs_f64());
                let response = answered.map_err(|_| RequestTimedOut(patience.answer))??;
                let asked = retry_after(response.headers());
                let pause = patience.pause(&method, response.status(), asked, attempt + 1, rand::random());
                match (pause, spare) {
                    (Some(pause), Some(spare)) => {
                        tokio::time::sleep(pause).await;
                        request = spare;
                        attempt += 1;
                    }
                    _ => return Ok(response),
                }
            }
        })
    }
}

async fn hand_over<S>(inner: &Mutex<S>, request: Request<Body>) -> Result<S::Response, BoxError>
where
    S: Service<Request<Body>>,
    S::Error: Into<BoxError>,
{
    let running = {
        let mut service = inner.lock().await;
        service.ready().await.map_err(Into::into)?.call(request)
    };
    running.await.map_err(Into::into)
}

/// `None` when the body is a stream, which cannot be sent twice.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let body = request.body().try_clone()?;
    let mut copy = Request::new(body);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

#[cfg(test)]
mod tests;
