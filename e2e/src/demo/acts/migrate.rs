//! Six Services with legacy annotations: the safe ones are done, the traffic-changing ones wait for exactly the plan that
//! was shown, the one that nobody can read is left alone; afterwards the client's address is really kept; and back.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use portreeve_crds::names::legacy::{EXTERNAL_TRAFFIC_BETA as TRAFFIC, HEALTH_CHECK_NODE_PORT_BETA as HEALTH_CHECK};
use serde_json::Value;

use super::super::backend::{Backend, namespace, node_port, seen_address};
use super::super::kubectl::Kubectl;
use super::super::wait::until;
use super::super::{Measured, Stage};
use super::annotated;

const NAMESPACE: &str = "demo-migrate";
const MIGRATION: &str = "demo";
/// In the API server's node port range, outside the band that it hands out by itself (KEP-3668).
const ASKED_PORT: &str = "30017";
const LB: &str = "loadBalancerClass: testbed.portreeve.io/forwarder";

pub(super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    namespace(stage, NAMESPACE).await?;
    Backend { namespace: NAMESPACE, name: "nodeport", app: "nodeport", replicas: 1, nodes: &["n1"], pod_spec: "" }
        .deploy(stage)
        .await?;
    Backend { namespace: NAMESPACE, name: "lb", app: "lb", replicas: 1, nodes: &["n2"], pod_spec: "" }
        .deploy(stage)
        .await?;
    stage.kubectl.create(&six_services()).await?.ok()?;
    let before = seen(stage).await?;
    measured.note("pod_saw_before", before.to_string());
    ensure!(before != stage.cluster.clients()[0].ip(), "the annotation still works? the Pod saw the client");

    let plugin = stage.kubectl.with_program(stage.plugin.clone());
    let plan = plan(&plugin, measured).await?;
    for service in ["safe-local", "nodeport", "typo"] {
        ensure!(annotation(stage, service, TRAFFIC).await?.is_some(), "planning touched {service}");
    }
    let wrong = format!("sha256:{}", "0".repeat(64));
    let refused = plugin.run(&["migrate", "approve", MIGRATION, "--hash", &wrong]).await?;
    measured.note("wrong_hash", refused.stderr.lines().next().unwrap_or_default());
    refused.refused_with(&["Nothing was approved"])?;

    // The default window of 30 s suits people who watch graphs; here the test itself watches.
    let window = r#"{"spec":{"verify":{"windowSeconds":2}}}"#;
    stage.kubectl.run(&["patch", "trafficmigration", MIGRATION, "--type=merge", "-p", window]).await?.ok()?;
    let said = plugin.run(&["migrate", "apply", MIGRATION]).await?.ok()?;
    measured.note("after_apply", said.stdout);
    let states = states(&plugin).await?;
    ensure!(count(&states, "Done") == 3 && count(&states, "AwaitingApproval") == 2, "states after apply: {states:?}");
    ensure!(policy(stage, "nodeport").await? == "Cluster", "traffic was changed without approval");
    ensure!(annotation(stage, "safe-local", TRAFFIC).await?.is_none(), "safe-local still carries the annotation");

    let hash = plan["status"]["planHash"].as_str().context("the plan has no hash")?;
    let said = plugin.run(&["migrate", "approve", MIGRATION, "--hash", hash]).await?.ok()?;
    measured.note("after_approve", said.stdout);
    migrated(stage, measured).await?;
    let after = until("the client's address at the Pod", Duration::from_secs(15), || async {
        let after = seen(stage).await?;
        ensure!(after == stage.cluster.clients()[0].ip(), "the Pod still sees {after}");
        Ok(after)
    });
    measured.note("pod_saw_after", after.await?.0.to_string());

    plugin.run(&["migrate", "rollback", MIGRATION]).await?.ok()?;
    rolled_back(stage, measured).await
}

fn six_services() -> String {
    let local = "externalTrafficPolicy: Local";
    [
        annotated(NAMESPACE, "safe-local", "LoadBalancer", &format!("{LB}\n  {local}"), &[(TRAFFIC, "OnlyLocal")]),
        annotated(NAMESPACE, "safe-global", "NodePort", "sessionAffinity: None", &[(TRAFFIC, "Global")]),
        annotated(NAMESPACE, "plain", "ClusterIP", "sessionAffinity: None", &[(TRAFFIC, "OnlyLocal")]),
        annotated(NAMESPACE, "nodeport", "NodePort", "sessionAffinity: None", &[(TRAFFIC, "OnlyLocal")]),
        annotated(NAMESPACE, "lb", "LoadBalancer", LB, &[(TRAFFIC, "OnlyLocal"), (HEALTH_CHECK, ASKED_PORT)]),
        annotated(NAMESPACE, "typo", "NodePort", "sessionAffinity: None", &[(TRAFFIC, "onlylocal")]),
    ]
    .join("---\n")
}

async fn plan(plugin: &Kubectl, measured: &mut Measured) -> Result<Value> {
    let plan = plugin.run(&["migrate", "plan", MIGRATION, "--namespace", NAMESPACE]).await?.ok()?;
    measured.note("plan", plan.stdout);
    let said = plugin.run(&["migrate", "status", MIGRATION, "-o", "json"]).await?.ok()?;
    let plan: Value = serde_json::from_str(&said.stdout)?;
    let counts = &plan["status"]["counts"];
    let found =
        [&counts["safe"], &counts["needsApproval"], &counts["invalid"]].map(|number| number.as_i64().unwrap_or(-1));
    measured.note("safe_needs_approval_invalid", found.map(|number| number.to_string()).join("/"));
    ensure!(found == [3, 2, 1], "decisions: {counts}");
    Ok(plan)
}

/// What the Pod behind the node port of the node that it runs on sees as its client.
async fn seen(stage: &Stage) -> Result<IpAddr> {
    let port = node_port(stage, NAMESPACE, "nodeport").await?;
    seen_address(stage, &format!("http://{}:{port}/clientip", stage.cluster.node("n1")?.ip())).await
}

async fn migrated(stage: &Stage, measured: &mut Measured) -> Result<()> {
    for service in ["nodeport", "lb"] {
        ensure!(policy(stage, service).await? == "Local", "{service} was not migrated");
        ensure!(annotation(stage, service, TRAFFIC).await?.is_none(), "{service} still carries the annotation");
    }
    let port = stage.kubectl.jsonpath(&["-n", NAMESPACE, "service", "lb"], "{.spec.healthCheckNodePort}").await?;
    measured.note("health_check_node_port_asked_and_got", format!("{ASKED_PORT}/{port}"));
    ensure!(port == ASKED_PORT, "the health check node port is {port}");
    let typo = annotation(stage, "typo", TRAFFIC).await?;
    ensure!(typo.as_deref() == Some("onlylocal"), "the unreadable annotation was touched: {typo:?}");
    Ok(())
}

async fn rolled_back(stage: &Stage, measured: &mut Measured) -> Result<()> {
    let mut back = Vec::new();
    for (service, field, value) in [
        ("safe-local", "Local", "OnlyLocal"),
        ("safe-global", "Cluster", "Global"),
        ("plain", "", "OnlyLocal"),
        ("nodeport", "Cluster", "OnlyLocal"),
        ("lb", "Cluster", "OnlyLocal"),
    ] {
        let (now, annotation) = (policy(stage, service).await?, annotation(stage, service, TRAFFIC).await?);
        ensure!(
            now == field && annotation.as_deref() == Some(value),
            "{service} after the rollback: '{now}', {annotation:?}"
        );
        back.push(service);
    }
    measured.note("rolled_back", back.join(" "));
    Ok(())
}

async fn policy(stage: &Stage, service: &str) -> Result<String> {
    stage.kubectl.jsonpath(&["-n", NAMESPACE, "service", service], "{.spec.externalTrafficPolicy}").await
}

async fn annotation(stage: &Stage, service: &str, key: &str) -> Result<Option<String>> {
    let path = format!("{{.metadata.annotations.{}}}", key.replace('.', "\\."));
    let value = stage.kubectl.jsonpath(&["-n", NAMESPACE, "service", service], &path).await?;
    Ok((!value.is_empty()).then_some(value))
}

/// State of each item, as the plugin tells scripts.
async fn states(plugin: &Kubectl) -> Result<Vec<String>> {
    let said = plugin.run(&["migrate", "status", MIGRATION, "-o", "json"]).await?.ok()?;
    let shown: Value = serde_json::from_str(&said.stdout)?;
    let items = shown["items"].as_array().context("no items")?;
    Ok(items.iter().map(|item| item["status"]["state"].as_str().unwrap_or_default().to_owned()).collect())
}

fn count(states: &[String], wanted: &str) -> usize {
    states.iter().filter(|state| *state == wanted).count()
}
