//! The health check node port tells what is programmed; a Pod that ends takes its node out at once; and an agent that hangs
//! gives the port back to kube-proxy.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::super::super::backend::namespace;
use super::super::super::wait::until;
use super::super::super::{Measured, Stage};
use super::super::service;
use super::{WITHIN, Way, crash};

const NAMESPACE: &str = "demo-health";
const NAME: &str = "checked";
const LINES: &str = "externalTrafficPolicy: Local\n  loadBalancerClass: testbed.portreeve.io/forwarder";
const ON_N1: &str = r#""nodeSelector": {"kubernetes.io/hostname": "n1"},"#;

/// What a node answered.
#[derive(Debug, PartialEq, Eq)]
struct Checked {
    status: u16,
    weight: String,
    /// By us rather than kube-proxy, which knows nothing of the field.
    programmed: Option<bool>,
    draining: Option<bool>,
}

impl Checked {
    fn is(&self, status: u16, weight: &str, by_us: bool) -> bool {
        self.status == status && self.weight == weight && self.programmed == by_us.then_some(true)
    }

    fn shown(&self) -> String {
        let by = if self.programmed.is_some() { "the agent" } else { "kube-proxy" };
        format!("{} weight {} by {by}", self.status, self.weight)
    }
}

pub(in super::super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    namespace(stage, NAMESPACE).await?;
    stage.kubectl.apply(&super::lingering(NAMESPACE, NAME, 1, ON_N1)).await?.ok()?;
    stage.cluster.await_deployment(NAMESPACE, NAME).await?;
    stage.kubectl.apply(&service(NAMESPACE, NAME, "LoadBalancer", LINES)).await?.ok()?;
    let port = stage.kubectl.jsonpath(&["-n", NAMESPACE, "service", NAME], "{.spec.healthCheckNodePort}").await?;
    for (node, status, weight) in [("n1", 200, "1"), ("n3", 503, "0")] {
        let (seen, _) = answers(stage, node, &port, |seen| seen.is(status, weight, false)).await?;
        measured.note(&format!("before_{node}"), seen.shown());
    }
    for way in Way::ALL {
        super::wish(stage, way, NAMESPACE, "Drop").await?;
        for (node, status, weight) in [("n1", 200, "1"), ("n3", 503, "0")] {
            let (seen, _) = answers(stage, node, &port, |seen| seen.is(status, weight, by_us(way))).await?;
            measured.note(&format!("{}_{node}", way.word()), seen.shown());
        }
        if by_us(way) {
            hang(stage, way, &port, measured).await?;
        }
        drain(stage, way, &port, measured).await?;
    }
    stage.kubectl.run(&["delete", "namespace", NAMESPACE, "--wait=false"]).await?.ok()?;
    Ok(())
}

/// The engine of iptables leaves health check node ports to kube-proxy, and the node's report says so.
const fn by_us(way: Way) -> bool {
    matches!(way, Way::Nftables)
}

/// An agent that hangs gives the port to kube-proxy, and takes it again.
async fn hang(stage: &Stage, way: Way, port: &str, measured: &mut Measured) -> Result<()> {
    let node = stage.cluster.node("n1")?;
    let agent = crash::agent(node).await?;
    for (signal, by_us, name) in [("-STOP", false, "kube_proxy_again"), ("-CONT", true, "the_agent_again")] {
        let began = Instant::now();
        let sent = node.exec(&["kill", signal, &agent]).await?;
        ensure!(sent.status.success(), "kill {signal}: {}", String::from_utf8_lossy(&sent.stderr));
        answers(stage, "n1", port, |seen| seen.is(200, "1", by_us)).await?;
        measured.time(&format!("{}_seconds_until_{name}", way.word()), began.elapsed());
    }
    Ok(())
}

/// The last Pod ends: 503 at once, and new clients are still served.
async fn drain(stage: &Stage, way: Way, port: &str, measured: &mut Measured) -> Result<()> {
    let began = Instant::now();
    let scale = |replicas: &'static str| ["-n", NAMESPACE, "scale", "deployment", NAME, replicas];
    stage.kubectl.run(&scale("--replicas=0")).await?.ok()?;
    let wanted = |seen: &Checked| seen.is(503, "0", by_us(way)) && seen.draining == by_us(way).then_some(true);
    let (seen, _) = answers(stage, "n1", port, wanted).await?;
    measured.time(&format!("{}_seconds_until_drained", way.word()), began.elapsed());
    let node_port = super::node_port(stage, NAMESPACE, NAME).await?;
    let url = format!("http://{}:{node_port}/hostname", stage.cluster.node("n1")?.ip());
    let served = stage.cluster.clients()[0].http_get(&url, Duration::from_secs(2)).await?;
    ensure!(served.is_ok(), "a draining Pod should serve: {:?} {:?}", served.status, served.error);
    measured.note(&format!("{}_draining", way.word()), format!("{}, and a new client is served", seen.shown()));
    stage.kubectl.run(&scale("--replicas=1")).await?.ok()?;
    stage.cluster.await_deployment(NAMESPACE, NAME).await?;
    answers(stage, "n1", port, |seen| seen.is(200, "1", by_us(way))).await?;
    Ok(())
}

/// Asks until the answer is as wanted.
async fn answers(
    stage: &Stage,
    node: &str,
    port: &str,
    wanted: impl Fn(&Checked) -> bool,
) -> Result<(Checked, Duration)> {
    let url = format!("http://{}:{port}/healthz", stage.cluster.node(node)?.ip());
    until(&format!("the health check of {node}"), WITHIN, || async {
        let answer = stage.cluster.clients()[0].http_get(&url, Duration::from_secs(1)).await?;
        let status = answer.status.with_context(|| format!("no answer: {:?}", answer.error))?;
        let body: Value = serde_json::from_str(&answer.body).with_context(|| format!("body '{}'", answer.body))?;
        let weight = answer.header("x-load-balancing-endpoint-weight").unwrap_or("none").to_owned();
        let (programmed, draining) = (body["programmed"].as_bool(), body["draining"].as_bool());
        let seen = Checked { status, weight, programmed, draining };
        ensure!(wanted(&seen), "{seen:?}");
        Ok(seen)
    })
    .await
}
