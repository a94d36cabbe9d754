use super::*;
use crate::health::answer::Checked;
use crate::health::snapshot::Snapshot;
use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use portreeve_runtime::metrics::Metrics;
use portreeve_table::{PerFamily, ServiceKey};
use std::sync::Arc;
use tower::ServiceExt as _;

async fn ask(at: &str, method: Method, path: &str) -> (Response<()>, String) {
    let checked = Checked {
        service: ServiceKey::new("shop", "web"),
        ready: PerFamily { v4: 1, v6: 0 },
        programmed: true,
        draining: false,
    };
    let snapshot = Snapshot { ports: [(31239, Arc::new(checked))].into_iter().collect(), ..Snapshot::default() };
    let published = Published::default();
    published.store(Arc::new(snapshot));
    let router = router(published, AgentMetrics::register(&Metrics::new("1")));
    let mut request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    request.extensions_mut().insert(Asked(at.parse().unwrap()));
    let (head, body) = router.oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (Response::from_parts(head, ()), String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn the_address_that_was_asked_names_the_service_whatever_path_and_method() {
    for (method, path) in [(Method::GET, "/"), (Method::GET, "/healthz?x=1"), (Method::POST, "/a/b")] {
        let (head, body) = ask("198.51.100.254:31239", method, path).await;
        assert_eq!(head.status(), 200);
        assert!(body.contains("\"name\": \"web\""), "{body}");
    }
    let (head, body) = ask("[::ffff:198.51.100.254]:31239", Method::HEAD, "/").await;
    assert_eq!((head.status().as_u16(), body.as_str()), (200, ""));
    let (head, _) = ask("[2001:db8::1]:31239", Method::GET, "/").await;
    assert_eq!(head.status(), 503, "a listener of a family knows the Pods of that family");
    let (head, _) = ask("127.0.0.1:40000", Method::GET, "/").await;
    assert_eq!(head.status(), 404);
}

#[tokio::test]
async fn every_answer_has_kube_proxys_headers_and_ends_its_connection() {
    let (head, _) = ask("198.51.100.254:31239", Method::GET, "/").await;
    let headers: Vec<_> = head.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(
        headers,
        [
            ("content-type", "application/json"),
            ("x-content-type-options", "nosniff"),
            ("x-load-balancing-endpoint-weight", "1"),
            ("connection", "close"),
            ("content-length", "152"),
        ]
    );
}
