//! 10,000 Services and 50,000 endpoints in a real etcd; some of the Services, or all, take external traffic.

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use http::Request;
use http::request::Builder;
use serde_json::{Value, json};

use super::Bench;

pub(super) const CRDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/manifests");
pub(super) const SERVICES: usize = 10_000;
pub(super) const ENDPOINTS_EACH: usize = 5;
/// Services that are reported on in the usual world: with externalTrafficPolicy Local. The others are of type ClusterIP.
pub(super) const LOCAL: usize = SERVICES / 5;
const NAMESPACES: usize = 20;
const NODES: usize = 200;
/// Requests under way at once; the API server lets 200 writes in.
const AT_ONCE: usize = 32;

/// Creates namespaces, Nodes, Services (the first [`LOCAL`] with externalTrafficPolicy Local), and an EndpointSlice for
/// each.
pub(super) async fn fill(bench: &Bench) -> Result<()> {
    let step = bench.progress.step(format!("create {SERVICES} Services and {} endpoints", SERVICES * ENDPOINTS_EACH));
    let names = namespaces().map(|name| ("/api/v1/namespaces".to_owned(), named("Namespace", "v1", &name)));
    create(bench, names).await?;
    create(bench, (0..NODES).map(|n| ("/api/v1/nodes".to_owned(), named("Node", "v1", &node(n))))).await?;
    create(bench, (0..SERVICES).map(|n| (format!("/api/v1/namespaces/{}/services", namespace(n)), service(n)))).await?;
    let slices = |n| format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", namespace(n));
    create(bench, (0..SERVICES).map(|n| (slices(n), slice(n)))).await?;
    step.done();
    Ok(())
}

/// Turns every other Service into one with externalTrafficPolicy Local.
pub(super) async fn all_local(bench: &Bench) -> Result<()> {
    let step = bench.progress.step(format!("give the other {} Services externalTrafficPolicy Local", SERVICES - LOCAL));
    let requests = (LOCAL..SERVICES).map(|n| {
        let path = format!("/api/v1/namespaces/{}/services/service-{n}", namespace(n));
        (Request::patch(path).header("content-type", "application/merge-patch+json"), json!({"spec": local()}))
    });
    write_all(&bench.client, requests).await?;
    step.done();
    Ok(())
}

/// Deletes every report.
pub(super) async fn forget(bench: &Bench, namespaces: impl Iterator<Item = String>) -> Result<()> {
    for namespace in namespaces {
        let path = format!("/apis/portreeve.io/v1alpha1/namespaces/{namespace}/servicetraffics");
        bench.client.request_text(Request::delete(&path).body(Vec::new())?).await.context(path)?;
    }
    Ok(())
}

/// The namespaces of the Services.
pub(super) fn namespaces() -> impl Iterator<Item = String> {
    (0..NAMESPACES).map(namespace)
}

/// Posts each body to its path.
pub(super) async fn create(bench: &Bench, objects: impl Iterator<Item = (String, Value)>) -> Result<()> {
    let requests = objects.map(|(path, body)| (Request::post(path).header("content-type", "application/json"), body));
    write_all(&bench.client, requests).await
}

/// Sends every request with its body.
pub(super) async fn write_all(client: &kube::Client, requests: impl Iterator<Item = (Builder, Value)>) -> Result<()> {
    futures::stream::iter(requests)
        .map(|(request, body)| {
            let client = client.clone();
            async move {
                let request = request.body(serde_json::to_vec(&body)?)?;
                let what = format!("{} {}", request.method(), request.uri());
                client.request_text(request).await.context(what)?;
                anyhow::Ok(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

pub(super) fn named(kind: &str, version: &str, name: &str) -> Value {
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}})
}

fn namespace(n: usize) -> String {
    format!("team-{}", n % NAMESPACES)
}

fn node(n: usize) -> String {
    format!("node-{:03}", n % NODES)
}

/// Without node ports of their own: 10,000 health check node ports leave no room for them.
fn local() -> Value {
    json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "allocateLoadBalancerNodePorts": false})
}

fn service(n: usize) -> Value {
    let name = format!("service-{n}");
    let mut spec = if n < LOCAL { local() } else { json!({}) };
    spec["selector"] = json!({"app": name});
    spec["ports"] = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec})
}

fn slice(n: usize) -> Value {
    let name = format!("service-{n}");
    let endpoint = |i: usize| {
        json!({
            "addresses": [format!("10.{}.{}.{}", 1 + i, n / 250, n % 250)], "nodeName": node(n * 7 + i * i * 31),
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "namespace": namespace(n), "name": format!("{name}-7d9f8b5c4d-{i:05}")},
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{name}-x7k2p"), "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": (0..ENDPOINTS_EACH).map(endpoint).collect::<Vec<_>>(),
    })
}
