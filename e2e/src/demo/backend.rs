//! Workloads of the acts: Kubernetes' own test server, which tells who asked and who answered.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Stage;
use super::wait::until;
use crate::image::catalogue::AGNHOST;

/// A Deployment of the test server.
pub(crate) struct Backend<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
    /// Value of the label `app`, which Services select.
    pub(crate) app: &'a str,
    pub(crate) replicas: u32,
    /// Nodes that its Pods may run on; empty means any.
    pub(crate) nodes: &'a [&'a str],
    /// More of the Pod's spec, as JSON members, each followed by a comma.
    pub(crate) pod_spec: &'a str,
}

impl Backend<'_> {
    /// The manifest, as JSON.
    fn manifest(&self) -> String {
        let Self { namespace, name, app, replicas, nodes, pod_spec } = self;
        let affinity = if nodes.is_empty() {
            String::new()
        } else {
            let values = nodes.iter().map(|node| format!("\"{node}\"")).collect::<Vec<_>>().join(",");
            format!(
                r#""affinity": {{"nodeAffinity": {{"requiredDuringSchedulingIgnoredDuringExecution": {{"nodeSelectorTerms": [{{"matchExpressions": [{{"key": "kubernetes.io/hostname", "operator": "In", "values": [{values}]}}]}}]}}}}}},"#
            )
        };
        format!(
            r#"{{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {{"name": "{name}", "namespace": "{namespace}"}},
"spec": {{"replicas": {replicas}, "selector": {{"matchLabels": {{"app": "{app}", "set": "{name}"}}}},
"template": {{"metadata": {{"labels": {{"app": "{app}", "set": "{name}"}}}},
"spec": {{{affinity}{pod_spec}"terminationGracePeriodSeconds": 1,
"containers": [{{"name": "server", "image": "{AGNHOST}", "args": ["netexec", "--http-port=8080"],
"readinessProbe": {{"httpGet": {{"path": "/healthz", "port": 8080}}, "periodSeconds": 1}}}}]}}}}}}}}"#
        )
    }

    /// Creates it and waits until every Pod is ready.
    pub(crate) async fn deploy(&self, stage: &Stage) -> Result<()> {
        stage.kubectl.apply(&self.manifest()).await?.ok()?;
        stage.cluster.await_deployment(self.namespace, self.name).await
    }
}

/// Makes a namespace for an act.
pub(crate) async fn namespace(stage: &Stage, name: &str) -> Result<()> {
    stage.kubectl.run(&["create", "namespace", name]).await?.ok()?;
    // Pods can be created only once the namespace has its service account.
    until("the namespace's service account", Duration::from_secs(30), || async {
        stage.kubectl.jsonpath(&["-n", name, "serviceaccount", "default"], "{.metadata.name}").await
    })
    .await?;
    Ok(())
}

/// Node port of the first port of a Service.
pub(crate) async fn node_port(stage: &Stage, namespace: &str, service: &str) -> Result<u16> {
    let port = stage.kubectl.jsonpath(&["-n", namespace, "service", service], "{.spec.ports[0].nodePort}").await?;
    port.parse().with_context(|| format!("node port '{port}' of {namespace}/{service}"))
}

/// The load balancer's first address, once it has one.
pub(crate) async fn vip(stage: &Stage, namespace: &str, service: &str) -> Result<IpAddr> {
    let (address, _) = until("the load balancer's address", Duration::from_secs(20), || async {
        let text = stage
            .kubectl
            .jsonpath(&["-n", namespace, "service", service], "{.status.loadBalancer.ingress[0].ip}")
            .await?;
        text.parse::<IpAddr>().with_context(|| format!("status.loadBalancer has '{text}'"))
    })
    .await?;
    Ok(address)
}

/// The address that the backend behind `url` saw as its client's, asked from the first outside client.
pub(crate) async fn seen_address(stage: &Stage, url: &str) -> Result<IpAddr> {
    let client = stage.cluster.clients().first().context("invariant: the demo has outside clients")?;
    let (address, _) = until(&format!("an answer from {url}"), Duration::from_secs(15), || async {
        let outcome = client.http_get(url, Duration::from_secs(2)).await?;
        ensure!(outcome.is_ok(), "{:?} {:?}", outcome.status, outcome.error);
        let text = outcome.body.rsplit_once(':').map_or(outcome.body.as_str(), |(address, _)| address);
        let address = text.trim_matches(['[', ']']).parse::<IpAddr>();
        address.with_context(|| format!("/clientip said '{}'", outcome.body))
    })
    .await?;
    Ok(address)
}

/// Ready Pods of `app` by node.
pub(crate) async fn placement(
    stage: &Stage,
    namespace: &str,
    app: &str,
) -> Result<std::collections::BTreeMap<String, u32>> {
    let selector = format!("app={app}");
    let nodes = stage
        .kubectl
        .jsonpath(
            &["-n", namespace, "pods", "-l", &selector, "--field-selector=status.phase=Running"],
            "{.items[*].spec.nodeName}",
        )
        .await?;
    let mut by_node = std::collections::BTreeMap::new();
    for node in nodes.split_whitespace() {
        *by_node.entry(node.to_owned()).or_insert(0) += 1;
    }
    Ok(by_node)
}
