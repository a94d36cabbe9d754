//! One Pod on one node, two on another: the prediction in `kubectl get`, and the requests that each Pod really got.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::super::backend::{Backend, namespace, vip};
use super::super::wait::until;
use super::super::{Measured, Stage};
use super::service;

const NAMESPACE: &str = "demo-imbalance";
const REQUESTS: usize = 3600;
const CONCURRENCY: usize = 8;
/// Permille. The forwarder chooses nodes by a hash of the flow, kube-proxy Pods at random: five standard deviations of a
/// fair coin thrown 3,600 times are 42 ‰.
const TOLERANCE: i64 = 45;
/// A limit, so that there is something to be within and counts to suggest.
const POLICY: &str = "apiVersion: portreeve.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: even, namespace: demo-imbalance}\nspec:\n  \
    enforcement: {mode: Warn}\n  imbalance: {maxRatioPermille: 1200}\n";
const LINE: &str = "externalTrafficPolicy: Local\n  loadBalancerClass: testbed.portreeve.io/forwarder";

pub(super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    namespace(stage, NAMESPACE).await?;
    for (name, replicas, nodes) in [("one", 1, ["n1"]), ("two", 2, ["n2"])] {
        Backend { namespace: NAMESPACE, name, app: "web", replicas, nodes: &nodes, pod_spec: "" }.deploy(stage).await?;
    }
    stage.kubectl.apply(POLICY).await?.ok()?;
    stage.kubectl.apply(&service(NAMESPACE, "web", "LoadBalancer", LINE)).await?.ok()?;
    let address = vip(stage, NAMESPACE, "web").await?;
    let (predicted, _) = until("the prediction", Duration::from_secs(20), || async {
        let path = "{.status.imbalance.ratioPermille} {.status.imbalance.usablePermille}";
        let now = stage.kubectl.jsonpath(&["-n", NAMESPACE, "servicetraffic", "web"], path).await?;
        ensure!(now == "1500 666", "ServiceTraffic says '{now}'");
        Ok(now)
    })
    .await?;
    measured.note("predicted_ratio_and_usable_permille", predicted);
    let path = "{.status.imbalance.suggestedReplicas}";
    measured
        .note("suggested_replicas", stage.kubectl.jsonpath(&["-n", NAMESPACE, "servicetraffic", "web"], path).await?);
    let table = stage.kubectl.run(&["-n", NAMESPACE, "get", "servicetraffic", "web"]).await?.ok()?;
    measured.note("kubectl_get", table.stdout);
    until("the load balancer to find n1 and n2 healthy", Duration::from_secs(30), || async {
        let healthy = stage.cluster.lb().healthy_nodes(&format!("{NAMESPACE}/web"));
        ensure!(healthy == ["n1", "n2"], "healthy: {healthy:?}");
        Ok(())
    })
    .await?;
    let shares = count(stage, &format!("http://{address}/hostname")).await?;
    measured.note("requests", REQUESTS);
    measured
        .note("counted_permille", shares.values().map(|(_, share)| share.to_string()).collect::<Vec<_>>().join("/"));
    measured.note("by_pod", bars(&shares));
    ensure!(shares.len() == 3, "{} Pods answered", shares.len());
    for (pod, (set, share)) in &shares {
        let wanted = if set == "one" { 500 } else { 250 };
        ensure!((share - wanted).abs() <= TOLERANCE, "{pod} got {share} ‰, predicted {wanted} ‰ ± {TOLERANCE}");
    }
    stage.kubectl.run(&["delete", "namespace", NAMESPACE, "--wait=false"]).await?.ok()?;
    Ok(())
}

/// Each Pod with its Deployment and its share of the requests, in permille.
async fn count(stage: &Stage, url: &str) -> Result<BTreeMap<String, (String, i64)>> {
    let outcomes = stage.cluster.clients()[0].http_burst(url, REQUESTS, CONCURRENCY).await?;
    let mut by_pod: BTreeMap<String, i64> = BTreeMap::new();
    for outcome in outcomes {
        ensure!(outcome.is_ok(), "a request failed: {:?} {:?}", outcome.status, outcome.error);
        *by_pod.entry(outcome.body.trim().to_owned()).or_default() += 1;
    }
    let all = i64::try_from(REQUESTS)?;
    let set = |pod: &str| pod.split('-').next().unwrap_or_default().to_owned();
    Ok(by_pod
        .into_iter()
        .map(|(pod, count)| {
            let set = set(&pod);
            (pod, (set, count * 1000 / all))
        })
        .collect())
}

fn bars(shares: &BTreeMap<String, (String, i64)>) -> String {
    let cells = |share: i64| "█".repeat(usize::try_from(share / 20).unwrap_or(0));
    shares
        .iter()
        .map(|(pod, (_, share))| format!("{pod:<24} {} {}.{} %\n", cells(*share), share / 10, share % 10))
        .collect()
}
