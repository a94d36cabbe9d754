use http::Request;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::*;

async fn get_from(router: &Router, path: &str) -> (StatusCode, String) {
    let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(bytes.to_vec()).unwrap())
}

fn sick() -> Result<(), String> {
    Err("cache is empty".to_owned())
}

#[tokio::test]
async fn a_failing_check_makes_the_probe_fail_and_is_named() {
    let health = Health::new();
    health.ready("caches", sick);
    health.ready("certificate", || Ok(()));
    let router = router(Metrics::new("1"), &health);
    let (status, text) = get_from(&router, "/readyz").await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(text, "[-]caches failed: cache is empty\n[+]certificate ok\nreadyz check failed: caches\n");
    assert_eq!(get_from(&router, "/livez").await, (StatusCode::OK, "ok".to_owned()));
    assert_eq!(health.not_ready(), ["caches"]);
}

#[tokio::test]
async fn a_single_check_can_be_asked_for_by_name() {
    let health = Health::new();
    health.ready("caches", sick);
    health.ready("certificate", || Ok(()));
    let router = router(Metrics::new("1"), &health);
    assert_eq!(get_from(&router, "/readyz/certificate").await, (StatusCode::OK, "ok".to_owned()));
    assert_eq!(get_from(&router, "/readyz/caches").await.0, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(get_from(&router, "/readyz/nothing").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn verbose_lists_checks_that_pass_and_healthz_is_livez() {
    let health = Health::new();
    health.live("loop", || Ok(()));
    let router = router(Metrics::new("1"), &health);
    let (_, live) = get_from(&router, "/livez?verbose").await;
    assert_eq!(live, "[+]loop ok\nlivez check passed\n");
    assert_eq!(get_from(&router, "/healthz?verbose").await.1, "[+]loop ok\nhealthz check passed\n");
}

#[tokio::test]
async fn readiness_follows_channels_and_the_shutdown() {
    let (filled, watched) = watch::channel(false);
    let leaving = CancellationToken::new();
    let health = Health::new();
    health.ready("caches", watched);
    health.ready("shutdown", leaving.clone());
    assert_eq!(health.not_ready(), ["caches"]);
    filled.send(true).unwrap();
    assert!(health.not_ready().is_empty());
    leaving.cancel();
    assert_eq!(health.not_ready(), ["shutdown"]);
}

#[tokio::test]
async fn metrics_are_served_in_the_format_asked_for() {
    let router = router(Metrics::new("9.9"), &Health::new());
    for (accept, end) in [("*/*", false), ("application/openmetrics-text; version=1.0.0", true)] {
        let request = Request::get("/metrics").header(header::ACCEPT, accept).body(axum::body::Body::empty());
        let response = router.clone().oneshot(request.unwrap()).await.unwrap();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.contains("portreeve_build_info{version=\"9.9\"} 1"), "{text}");
        assert_eq!(text.ends_with("# EOF\n"), end);
    }
}

#[tokio::test]
async fn a_process_may_mean_something_of_its_own_by_healthz() {
    let health = Health::new();
    health.live("loop", sick);
    let older = router(Metrics::new("1"), &health);
    assert_eq!(get_from(&older, "/healthz").await.0, StatusCode::INTERNAL_SERVER_ERROR);
    let own = router_with(Metrics::new("1"), &health, get(|| async { "the node is well" }));
    assert_eq!(get_from(&own, "/healthz").await, (StatusCode::OK, "the node is well".to_owned()));
    assert_eq!(get_from(&own, "/livez").await.0, StatusCode::INTERNAL_SERVER_ERROR);
}
