//! A cluster of 10,000 Services and 50,000 endpoints for the benches, filled page by page as a watch would fill it.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use portreeve_crds::{ClusterTrafficPolicy, TrafficPolicy};
use portreeve_webhook::cache::{Cached, Index};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::path::Path;

pub(crate) const NAMESPACES: usize = 20;
pub(crate) const SERVICES: usize = 10_000;
pub(crate) const ENDPOINTS_EACH: usize = 5;
const NODES: usize = 200;
/// As the watches ask for.
const PAGE: usize = 200;

/// The whole cluster. The namespace `shop` and its Service `web`, which the recorded reviews speak of, are part of it.
pub(crate) fn index() -> Result<Index> {
    let mut index = Index::new();
    fill::<ClusterTrafficPolicy>(&mut index, 8, cluster_policy)?;
    fill::<TrafficPolicy>(&mut index, NAMESPACES, namespace_policy)?;
    fill::<PartialObjectMeta<Namespace>>(
        &mut index,
        NAMESPACES,
        |n| json!({"metadata": {"name": namespace(n), "labels": {"env": "prod"}}}),
    )?;
    fill::<PartialObjectMeta<Node>>(
        &mut index,
        NODES,
        |n| json!({"metadata": {"name": node(n), "labels": {"topology.kubernetes.io/zone": format!("zone-{}", n % 3)}}}),
    )?;
    fill::<Service>(&mut index, SERVICES, service)?;
    fill::<EndpointSlice>(&mut index, SERVICES, slice)?;
    Ok(index)
}

/// A recorded review.
pub(crate) fn review(name: &str) -> Result<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/{name}.json"));
    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let review: Value = serde_json::from_slice(&text).with_context(|| path.display().to_string())?;
    // The API server sends no white space.
    Ok(review.to_string().into_bytes())
}

/// Writes a result to `target/bench/NAME.json`.
pub(crate) fn write(name: &str, result: &Value) -> Result<()> {
    let target =
        Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("invariant: it lies in the target directory")?;
    let directory = target.join("bench");
    std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let path = directory.join(format!("{name}.json"));
    std::fs::write(&path, format!("{result:#}\n")).with_context(|| path.display().to_string())
}

/// The value below which `permille` of the sorted samples lie.
pub(crate) fn quantile(sorted: &[f64], permille: usize) -> f64 {
    sorted[(sorted.len() - 1) * permille / 1000]
}

/// Median of the rounds, and the distance from their least to their greatest.
pub(crate) fn summary(mut rounds: Vec<f64>) -> (f64, f64) {
    rounds.sort_by(f64::total_cmp);
    (quantile(&rounds, 500), rounds[rounds.len() - 1] - rounds[0])
}

/// Two digits after the point are more than a shared machine can promise.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

fn fill<K: Cached + DeserializeOwned>(index: &mut Index, count: usize, make: impl Fn(usize) -> Value) -> Result<()> {
    index.apply::<K>(Event::Init);
    for from in (0..count).step_by(PAGE) {
        let page: Vec<Value> = (from..count.min(from + PAGE)).map(&make).collect();
        for object in serde_json::from_str::<Vec<K>>(&Value::from(page).to_string())? {
            index.apply(Event::InitApply(object));
        }
    }
    index.apply::<K>(Event::InitDone);
    Ok(())
}

fn namespace(n: usize) -> String {
    if n.is_multiple_of(NAMESPACES) { "shop".to_owned() } else { format!("team-{}", n % NAMESPACES) }
}

fn name(n: usize) -> String {
    if n == 0 { "web".to_owned() } else { format!("service-{n}") }
}

fn node(n: usize) -> String {
    format!("node-{:03}.example", n % NODES)
}

fn cluster_policy(n: usize) -> Value {
    let selector = json!({"matchExpressions": [{"key": "env", "operator": "In", "values": ["prod", "stage"]}]});
    json!({
        "apiVersion": "portreeve.io/v1alpha1", "kind": "ClusterTrafficPolicy",
        "metadata": {"name": format!("policy-{n}"), "creationTimestamp": "2026-11-20T09:00:00Z"},
        "spec": {
            "priority": n, "enforcement": {"mode": "Enforce"}, "match": {"namespaceSelector": selector},
            "defaults": {"rules": [{"id": "ETP013", "action": "Warn"}], "spread": {"mode": "Inject"}, "imbalance": {"maxRatioPermille": 1500}},
        },
    })
}

fn namespace_policy(n: usize) -> Value {
    json!({
        "apiVersion": "portreeve.io/v1alpha1", "kind": "TrafficPolicy",
        "metadata": {"name": "strict", "namespace": namespace(n), "creationTimestamp": "2026-11-20T09:00:00Z"},
        "spec": {"enforcement": {"mode": "Enforce"}, "rules": [{"id": "ETP003", "action": "Deny"}]},
    })
}

fn metadata(n: usize, name: &str, labels: Value) -> Value {
    json!({
        "name": name, "namespace": namespace(n), "uid": format!("7d1f4c0e-3b52-4a8e-9c6d-{n:012x}"), "resourceVersion": n.to_string(),
        "creationTimestamp": "2026-11-20T09:00:00Z", "labels": labels, "annotations": {"example/owner": "somebody"},
        "managedFields": [{"manager": "kubectl", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:ports": {}, "f:selector": {}, "f:type": {}}}}],
    })
}

fn service(n: usize) -> Value {
    let name = name(n);
    json!({
        "metadata": metadata(n, &name, json!({"app": name, "tier": "web"})),
        "spec": {
            "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30_000 + n % 2000,
            "clusterIP": format!("10.96.{}.{}", n / 250, n % 250), "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 30_000}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.7"}]}},
    })
}

fn slice(n: usize) -> Value {
    let name = name(n);
    let endpoint = |i: usize| {
        json!({
            "addresses": [format!("10.{}.{}.{}", 1 + i, n / 250, n % 250)], "nodeName": node(n * 7 + i * 31), "zone": "zone-1",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": namespace(n), "name": format!("{name}-7d9f8b5c4d-{i:05}"), "uid": "u"},
        })
    };
    json!({
        "metadata": metadata(n, &format!("{name}-x7k2p"), json!({"kubernetes.io/service-name": name})),
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": (0..ENDPOINTS_EACH).map(endpoint).collect::<Vec<_>>(),
    })
}
