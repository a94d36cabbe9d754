//! What is turned away before it is decided, and what happens when deciding fails.

use crate::support::{Webhook, World, review};
use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use k8s_openapi::api::core::v1::{Pod, Service};
use portreeve_policy::spread::{Injection, OwnerFacts, SkipReason};
use portreeve_policy::{ClusterFacts, NamespaceFacts, Outcome, PolicySet, Review};
use portreeve_webhook::cache::Index;
use portreeve_webhook::engine::Engine;
use portreeve_webhook::http::BODY_LIMIT;
use rstest::rstest;
use serde_json::{Value, json};

const PATH: &str = "/validate/services";

/// A review whose JSON is exactly `size` bytes long.
fn review_of_size(size: usize) -> Vec<u8> {
    let mut review = review("service-create-clean");
    review["request"]["object"]["metadata"]["annotations"]["padding"] = json!("");
    let padding = size - review.to_string().len();
    review["request"]["object"]["metadata"]["annotations"]["padding"] = json!("x".repeat(padding));
    review.to_string().into_bytes()
}

#[tokio::test]
async fn a_body_of_seven_mebibytes_is_read_and_one_byte_more_is_not() {
    assert_eq!(BODY_LIMIT, 7_340_032);
    let webhook = Webhook::new(&World::default());
    let largest = review_of_size(BODY_LIMIT);
    assert_eq!(largest.len(), BODY_LIMIT);
    assert_eq!(webhook.post(PATH, largest).await.0, StatusCode::OK);
    let (status, text) = webhook.post(PATH, review_of_size(BODY_LIMIT + 1)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(String::from_utf8(text).unwrap(), "the body must not be larger than 7340032 bytes\n");
}

#[tokio::test]
async fn the_limit_holds_for_a_body_that_does_not_tell_its_length() {
    let webhook = Webhook::new(&World::default());
    for (size, status) in [(BODY_LIMIT, StatusCode::OK), (BODY_LIMIT + 1, StatusCode::PAYLOAD_TOO_LARGE)] {
        let chunks: Vec<Result<Vec<u8>, std::io::Error>> =
            review_of_size(size).chunks(100_000).map(|chunk| Ok(chunk.to_vec())).collect();
        let body = Body::from_stream(futures::stream::iter(chunks));
        assert_eq!(webhook.post(PATH, body).await.0, status, "{size} bytes");
    }
}

#[rstest]
#[case::json(Some("application/json"), StatusCode::OK)]
#[case::with_charset(Some("Application/JSON; charset=utf-8"), StatusCode::OK)]
#[case::absent(None, StatusCode::UNSUPPORTED_MEDIA_TYPE)]
#[case::form(Some("application/x-www-form-urlencoded"), StatusCode::UNSUPPORTED_MEDIA_TYPE)]
#[case::lookalike(Some("application/json-patch+json"), StatusCode::UNSUPPORTED_MEDIA_TYPE)]
#[tokio::test]
async fn only_json_is_read(#[case] content_type: Option<&str>, #[case] status: StatusCode) {
    let mut request = Request::post(PATH);
    if let Some(value) = content_type {
        request = request.header(header::CONTENT_TYPE, value);
    }
    let request = request.body(Body::from(review("service-create-clean").to_string())).unwrap();
    assert_eq!(Webhook::new(&World::default()).send(request).await.status(), status);
}

#[tokio::test]
async fn other_paths_and_methods_are_not_served() {
    let webhook = Webhook::new(&World::default());
    let request = |method: Method, path: &str| Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    assert_eq!(webhook.send(request(Method::GET, PATH)).await.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(webhook.send(request(Method::POST, "/validate/pods")).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(webhook.send(request(Method::GET, "/metrics")).await.status(), StatusCode::NOT_FOUND);
}

/// Bodies that are no review: what the answer says, and the uid that could still be read.
#[rstest]
#[case::empty("", "", "cannot be read: EOF")]
#[case::cut_off(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1""#, "", "EOF")]
#[case::no_object("[]", "", "cannot be read")]
#[case::beta(
    r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview","request":{"uid":"u1","kind":{"version":"v1","kind":"Service"},"operation":"CREATE"}}"#,
    "u1",
    "must be an AdmissionReview of admission.k8s.io/v1"
)]
#[case::no_request(r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#, "", "has no request")]
#[case::no_operation(
    r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1","kind":{"version":"v1","kind":"Service"}}}"#,
    "u1",
    "missing field `operation`"
)]
#[case::no_service(
    r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1","kind":{"version":"v1","kind":"Service"},"namespace":"shop","operation":"CREATE","object":null}}"#,
    "u1",
    "request.object is missing"
)]
#[case::no_namespace(
    r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1","kind":{"version":"v1","kind":"Service"},"operation":"CREATE","object":{"metadata":{}}}}"#,
    "u1",
    "request.namespace is missing"
)]
#[case::mistyped_field(
    r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1","kind":{"version":"v1","kind":"Service"},"namespace":"shop","operation":"CREATE","object":{"metadata":{},"spec":{"externalIPs":7}}}}"#,
    "u1",
    "invalid type: integer `7`"
)]
#[case::update_of_nothing(
    r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1","kind":{"version":"v1","kind":"Service"},"namespace":"shop","operation":"UPDATE","object":{"metadata":{}}}}"#,
    "u1",
    "request.oldObject is missing"
)]
#[tokio::test]
async fn a_malformed_review_is_answered_400_with_the_reason(
    #[case] body: &'static str,
    #[case] uid: &str,
    #[case] reason: &str,
) {
    let webhook = Webhook::new(&World::default());
    let (status, answer) = webhook.post(PATH, body).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["response"]["uid"], uid);
    assert_eq!(answer["response"]["allowed"], false);
    let message = answer["response"]["status"]["message"].as_str().unwrap();
    assert!(message.contains(reason), "{message}");
    assert!(
        webhook
            .metrics()
            .contains("portreeve_admission_failures_total{webhook=\"/validate/services\",reason=\"malformed\"} 1")
    );
}

/// 128 levels are read wherever they are; 129 are not, also in parts that are skipped.
#[rstest]
#[case::in_a_skipped_part("managedFields")]
#[case::in_a_part_that_is_read("labels")]
#[tokio::test]
async fn deep_nesting_is_refused(#[case] field: &str) {
    let webhook = Webhook::new(&World::default());
    let mut review = review("service-create-clean");
    review["request"]["object"]["metadata"][field] = json!("DEEP");
    // The review, its request, the object and its metadata are four levels themselves.
    let nested = |levels: usize| {
        let value = format!("{}{}", "[".repeat(levels - 4), "]".repeat(levels - 4));
        review.to_string().replace("\"DEEP\"", &value)
    };
    let too_deep = |answer: &[u8]| String::from_utf8_lossy(answer).contains("nested deeper than 128 levels");
    let (_, answer) = webhook.post(PATH, nested(128)).await;
    assert!(!too_deep(&answer));
    for levels in [129, 1_000_000] {
        let (status, answer) = webhook.post(PATH, nested(levels)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(too_deep(&answer), "{levels} levels");
    }
}

#[tokio::test]
async fn nothing_is_decided_before_the_caches_are_filled() {
    let webhook = Webhook::with_engine(Index::new(), portreeve_webhook::engine::PolicyEngine);
    let (status, text) = webhook.post(PATH, review("service-create-clean").to_string()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(String::from_utf8(text).unwrap().contains("not listed yet: clustertrafficpolicies, endpointslices"));
}

struct Panicking;

impl Engine for Panicking {
    fn evaluate(&self, _: &PolicySet, _: &Review<'_>) -> Outcome {
        panic!("a rule went wrong")
    }

    fn decide_injection(
        &self,
        _: &Pod,
        _: &[&Service],
        _: &NamespaceFacts,
        _: &PolicySet,
        _: ClusterFacts,
        _: &OwnerFacts,
    ) -> Injection {
        Injection::Skip(SkipReason::NotAsked)
    }
}

#[tokio::test]
async fn a_panic_is_answered_500_and_the_next_review_is_served() {
    let webhook = Webhook::with_engine(World::default().index(), Panicking);
    let service = review("service-create-clean");
    let (status, answer) = webhook.post(PATH, service.to_string()).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["response"]["uid"], service["request"]["uid"]);
    assert_eq!(answer["response"]["status"]["code"], 500);
    let metrics = webhook.metrics();
    assert!(
        metrics.contains("portreeve_admission_failures_total{webhook=\"/validate/services\",reason=\"panic\"} 1\n")
    );
    assert!(metrics.contains("controller_runtime_webhook_requests_in_flight{webhook=\"/validate/services\"} 0\n"));
    assert_eq!(webhook.decide("/mutate/pods", &review("pod-create-deployment")).await["allowed"], true);
}
