//! The acts, in the order in which they are played.

mod data_path;
mod failover;
mod hole;
mod imbalance;
mod legacy;
mod metrics;
mod migrate;
mod nodes;
mod reject;
mod source_ip;
mod spread;
mod webhook_down;

use std::time::Instant;

use anyhow::{Result, ensure};
use futures::FutureExt as _;
use futures::future::BoxFuture;

use self::data_path::{balance, crash, drain, explain, flush, health, local, no_local, takeover, uninstall};
use super::report::{ActReport, Measured, Report};
use super::{Stage, install, say};

type Play = for<'a> fn(&'a Stage, &'a mut Measured) -> BoxFuture<'a, Result<()>>;

pub(super) struct Act {
    id: &'static str,
    title: &'static str,
    play: Play,
}

macro_rules! act {
    ($id:literal, $title:literal, $play:path) => {
        Act { id: $id, title: $title, play: |stage, measured| $play(stage, measured).boxed() }
    };
}

/// The act on which those after it build.
const INSTALL: &str = "install";

/// The first act shows Kubernetes alone; all after the second build on the installation.
const ACTS: [Act; 22] = [
    act!("source-ip", "Cluster hides the client, Local keeps it, a node without Pods does not answer", source_ip::play),
    act!(
        "install",
        "Portreeve from its own chart and image: operator, webhook, an agent on every node",
        install::install
    ),
    act!(
        "reject",
        "a ClusterIP Service with externalTrafficPolicy is turned away with a sentence that helps",
        reject::play
    ),
    act!("hole", "the one hole left open, ClusterIP with externalIPs: a warning, refused under Enforce", hole::play),
    act!("legacy", "an OnlyLocal annotation, dead since 1.8, is noticed", legacy::play),
    act!("migrate", "six legacy Services: planned, approved, migrated, rolled back", migrate::play),
    act!("spread", "Pods behind Local Services are spread by injection; the scheduler proves it", spread::play),
    act!("imbalance", "one Pod here, two there: predicted in kubectl get, counted in requests", imbalance::play),
    act!(
        "local",
        "the Pod of the node that the packet came to sees the client; kube-proxy has no part in it",
        local::play
    ),
    act!(
        "no-local",
        "a node without Pods: silence, a refusal or kube-proxy's decision, as the policy says",
        no_local::play
    ),
    act!("explain", "what explain says of a packet and what becomes of it agree", explain::play),
    act!("takeover", "from kube-proxy to the agents and back, with connections open", takeover::play),
    act!("flush", "another party takes the agent's rules away: made good, with clients coming", flush::play),
    act!("crash", "an agent is killed and comes back, with clients coming", crash::play),
    act!(
        "health",
        "the health check node port tells what is programmed, drains at once, and survives its agent",
        health::play
    ),
    act!("drain", "rolling updates behind the load balancer that checks health: no request lost", drain::play),
    act!(
        "balance",
        "new flows counted by Pod, as many as were sent; what a kernel lost is told by diff and mended by it",
        balance::play
    ),
    act!("failover", "the leader is killed, the other replica acts", failover::play),
    act!("webhook-down", "the webhook is gone, writes go on", webhook_down::play),
    act!("metrics", "every reconcile and review shows in metrics", metrics::play),
    act!("nodes", "every node's agent reports", nodes::play),
    act!(
        "uninstall",
        "uninstalled and installed again, with connections open: nothing is left, kube-proxy serves, and back",
        uninstall::play
    ),
];

/// The acts of these ids and the installation; every act if there are none.
pub(super) fn chosen(only: &[String]) -> Result<Vec<&'static Act>> {
    for id in only {
        let ids: Vec<&str> = ACTS.iter().map(|act| act.id).collect();
        ensure!(ids.contains(&id.as_str()), "there is no act {id}; there are: {}", ids.join(", "));
    }
    Ok(ACTS.iter().filter(|act| only.is_empty() || act.id == INSTALL || only.iter().any(|id| id == act.id)).collect())
}

/// Plays these acts; without the installation the ones that need it are not tried.
pub(super) async fn play_all(stage: &Stage, chosen: &[&Act]) -> Report {
    let mut acts: Vec<ActReport> = Vec::new();
    for (number, act) in chosen.iter().enumerate() {
        say(&format!("\nAct {}  {}: {}", number + 1, act.id, act.title));
        let began = Instant::now();
        let mut measured = Measured::default();
        let result = (act.play)(stage, &mut measured).await;
        let error = result.err().map(|error| format!("{error:#}"));
        if let Some(error) = &error {
            say(&format!("        FAILED: {error}"));
        }
        let uninstalled = act.id == INSTALL && error.is_some();
        acts.push(ActReport {
            id: act.id,
            title: act.title,
            passed: error.is_none(),
            measured: measured.take(),
            seconds: began.elapsed().as_secs_f64(),
            error,
        });
        if uninstalled {
            let rest = chosen[number + 1..].iter();
            acts.extend(rest.map(|act| ActReport {
                id: act.id,
                title: act.title,
                passed: false,
                measured: std::collections::BTreeMap::new(),
                seconds: 0.0,
                error: Some("not played: Portreeve was not installed".to_owned()),
            }));
            break;
        }
    }
    Report { passed: acts.iter().all(|act| act.passed), acts }
}

/// A Service that selects `app=NAME`, with one more line of spec.
pub(super) fn service(namespace: &str, name: &str, kind: &str, line: &str) -> String {
    annotated(namespace, name, kind, line, &[])
}

/// A Service that selects `app=NAME`, with one more line of spec and annotations.
fn annotated(namespace: &str, name: &str, kind: &str, line: &str, annotations: &[(&str, &str)]) -> String {
    let annotations: Vec<String> = annotations.iter().map(|(key, value)| format!("{key}: \"{value}\"")).collect();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  annotations: {{{}}}\nspec:\n  type: {kind}\n  {line}\n  \
         selector: {{app: {name}}}\n  ports: [{{port: 80, targetPort: 8080}}]\n",
        annotations.join(", ")
    )
}
