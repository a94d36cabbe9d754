//! A webhook without a cluster: the real router over a snapshot made from objects.

use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use portreeve_crds::{ClusterTrafficPolicy, TrafficPolicy};
use portreeve_runtime::metrics::{Format, Metrics};
use portreeve_webhook::cache::{Cache, Cached, Index};
use portreeve_webhook::engine::{Engine, PolicyEngine};
use portreeve_webhook::http::{App, router};
use portreeve_webhook::metrics::AdmissionMetrics;
use portreeve_webhook::review::Reviewer;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;
use tower::ServiceExt as _;

/// The cluster that a test decides in.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) cluster_policies: Vec<Value>,
    pub(crate) policies: Vec<Value>,
    pub(crate) services: Vec<Value>,
    pub(crate) slices: Vec<Value>,
}

impl World {
    /// A world with one cluster policy whose `defaults` are `body`.
    pub(crate) fn with_defaults(body: Value) -> Self {
        let policy = json!({
            "apiVersion": "portreeve.io/v1alpha1", "kind": "ClusterTrafficPolicy", "metadata": {"name": "baseline"},
            "spec": {"enforcement": {"mode": "Enforce"}, "defaults": body},
        });
        Self { cluster_policies: vec![policy], ..Self::default() }
    }

    /// A world in which the Service `web` asks for its Pods to be spread.
    pub(crate) fn spreading() -> Self {
        let mut world = Self::with_defaults(json!({"spread": {"mode": "Inject"}}));
        world.services.push(review("service-create-clean")["request"]["object"].clone());
        world
    }

    pub(crate) fn index(&self) -> Index {
        let node = |n: u32| json!({"metadata": {"name": format!("node-{n}")}});
        let mut index = Index::new();
        list::<ClusterTrafficPolicy>(&mut index, &self.cluster_policies);
        list::<TrafficPolicy>(&mut index, &self.policies);
        list::<Service>(&mut index, &self.services);
        list::<EndpointSlice>(&mut index, &self.slices);
        list::<PartialObjectMeta<Namespace>>(&mut index, &[json!({"metadata": {"name": "shop"}})]);
        list::<PartialObjectMeta<Node>>(&mut index, &(1..=3).map(node).collect::<Vec<_>>());
        index
    }
}

fn list<K: Cached + DeserializeOwned>(index: &mut Index, objects: &[Value]) {
    index.apply::<K>(Event::Init);
    for object in objects {
        index.apply(Event::InitApply(serde_json::from_value::<K>(object.clone()).unwrap()));
    }
    index.apply::<K>(Event::InitDone);
}

/// A webhook under test.
pub(crate) struct Webhook {
    router: Router,
    metrics: Metrics,
}

impl Webhook {
    pub(crate) fn new(world: &World) -> Self {
        Self::with_engine(world.index(), PolicyEngine)
    }

    pub(crate) fn with_engine(mut index: Index, engine: impl Engine) -> Self {
        let metrics = Metrics::new("test");
        let cache = Arc::new(Cache::new(index.snapshot()));
        let app = App {
            reviewer: Reviewer::new(engine, "portreeve-system"),
            metrics: AdmissionMetrics::register(&metrics, Arc::clone(&cache)),
            requests: metrics.webhook.clone(),
            cache,
        };
        Self { router: router(Arc::new(app)), metrics }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// Posts a body as JSON; returns the status and the answer's body.
    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> (StatusCode, Vec<u8>) {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json").body(body.into());
        let response = self.send(request.unwrap()).await;
        let status = response.status();
        (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    /// Posts a review that must be decided; returns `response` of the answer, after checks that hold for all answers.
    pub(crate) async fn decide(&self, path: &str, review: &Value) -> Value {
        let (status, body) = self.post(path, review.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer["kind"], "AdmissionReview");
        let response = answer["response"].clone();
        assert_eq!(response["uid"], review["request"]["uid"]);
        for warning in warnings(&response) {
            assert!(warning.chars().count() <= 120, "{warning}");
        }
        response
    }

    pub(crate) fn metrics(&self) -> String {
        self.metrics.encode(Format::Prometheus).unwrap()
    }
}

/// A recorded review of `tests/data`.
pub(crate) fn review(name: &str) -> Value {
    let path = format!("{}/tests/data/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))).unwrap()
}

pub(crate) fn warnings(response: &Value) -> Vec<String> {
    response.get("warnings").map(|list| serde_json::from_value(list.clone()).unwrap()).unwrap_or_default()
}

/// The rules that the warnings name, in order.
pub(crate) fn warned_rules(response: &Value) -> Vec<String> {
    warnings(response).iter().map(|warning| warning[1..7].to_owned()).collect()
}

/// The reviewed object with the answer's patch applied, as the API server applies it.
pub(crate) fn patched(review: &Value, response: &Value) -> Value {
    let mut object = review["request"]["object"].clone();
    if let Some(patch) = response.get("patch") {
        assert_eq!(response["patchType"], "JSONPatch");
        let patch = STANDARD.decode(patch.as_str().unwrap()).unwrap();
        json_patch::patch(&mut object, &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap()).unwrap();
    }
    object
}
