use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::metrics::{Format, Metrics};

type Answer = std::future::Ready<Result<Response<()>, BoxError>>;

struct Server<F> {
    asked: Arc<AtomicU32>,
    metrics: Metrics,
    client: PatientService<tower::util::ServiceFn<F>>,
}

/// A server that answers with `status` until it has been asked `until` times.
fn server(
    status: StatusCode,
    until: u32,
    after: Option<&'static str>,
) -> Server<impl FnMut(Request<Body>) -> Answer + Send> {
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    let service = tower::service_fn(move |_: Request<Body>| {
        let n = counter.fetch_add(1, Ordering::SeqCst) + 1;
        let mut response = Response::new(());
        if n <= until {
            *response.status_mut() = status;
            if let Some(after) = after {
                response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(after));
            }
        }
        std::future::ready(Ok(response))
    });
    let metrics = Metrics::new("1");
    let client = PatienceLayer::new(Patience::default(), metrics.client.clone()).layer(service);
    Server { asked, metrics, client }
}

fn request(method: Method) -> Request<Body> {
    Request::builder().method(method).uri("/api").body(Body::from(b"x".to_vec())).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_busy_server_is_asked_again_after_the_time_it_names() {
    let Server { asked, metrics, client: mut service } = server(StatusCode::TOO_MANY_REQUESTS, 2, Some("3"));
    let began = Instant::now();
    let response = service.call(request(Method::POST)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    assert!(began.elapsed() >= Duration::from_secs(6), "two pauses of three seconds at least");
    let text = metrics.encode(Format::Prometheus).unwrap();
    assert!(text.contains("rest_client_requests_total{code=\"429\",method=\"POST\"} 2"), "{text}");
    assert!(text.contains("rest_client_requests_total{code=\"200\",method=\"POST\"} 1"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_server_is_asked_again_only_for_what_can_be_sent_twice() {
    let Server { asked, client: mut service, .. } = server(StatusCode::SERVICE_UNAVAILABLE, 1, None);
    assert_eq!(service.call(request(Method::POST)).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let Server { asked, client: mut service, .. } = server(StatusCode::SERVICE_UNAVAILABLE, 1, None);
    assert_eq!(service.call(request(Method::GET)).await.unwrap().status(), StatusCode::OK);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn patience_ends_and_the_last_answer_reaches_the_caller() {
    let Server { asked, client: mut service, .. } = server(StatusCode::TOO_MANY_REQUESTS, u32::MAX, Some("86400"));
    let began = Instant::now();
    assert_eq!(service.call(request(Method::GET)).await.unwrap().status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(asked.load(Ordering::SeqCst), Patience::default().attempts);
    assert!(began.elapsed() <= Duration::from_secs(45), "a day is capped to ten seconds and jitter");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_given_up_and_counted() {
    let metrics = Metrics::new("1");
    let silent = tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<()>, BoxError>>());
    let mut service = PatienceLayer::new(Patience::default(), metrics.client.clone()).layer(silent);
    let error = service.call(request(Method::GET)).await.unwrap_err();
    assert!(error.is::<RequestTimedOut>());
    let text = metrics.encode(Format::Prometheus).unwrap();
    assert!(text.contains("rest_client_requests_total{code=\"<error>\",method=\"GET\"} 1"), "{text}");
}
