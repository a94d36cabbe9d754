//! The operator meets 10,000 Services: how long until each is reported on, what it weighs, and that it then is quiet.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::Request;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt as _};
use portreeve_crds::ServiceTraffic;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::programs::{cpu_seconds, mebibytes};
use super::{Bench, Row, handover, world};

const WITHIN: Duration = Duration::from_secs(300);
const QUIET: Duration = Duration::from_secs(30);
/// Requests of the floor under way at once.
const POLL: Duration = Duration::from_millis(500);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let floor = floor(bench).await?;
    let began = Instant::now();
    let mut operator = handover::spec(bench, "at-scale")?.spawn()?;
    let step = bench.progress.step("the operator lists and reports on 10,000 Services");
    let took = loop {
        let reported = reported(bench).await?;
        step.note(&format!("{reported} of {}", world::SERVICES));
        if reported == world::SERVICES {
            break began.elapsed().as_secs_f64();
        }
        operator.require_running()?;
        ensure!(began.elapsed() < WITHIN, "{reported} of {} Services reported after {WITHIN:?}", world::SERVICES);
        sleep(POLL).await;
    };
    step.done();
    let cpu = cpu_seconds(operator.pid())?;
    let before = versions(bench).await?;
    let step = bench.progress.step(format!("no writes without change, for {} s", QUIET.as_secs()));
    sleep(QUIET).await;
    step.done();
    let after = versions(bench).await?;
    let written = after.iter().filter(|(key, version)| before.get(*key) != Some(*version)).count();
    let most = mebibytes(operator.pid(), "VmHWM")?;
    let now = mebibytes(operator.pid(), "VmRSS")?;
    operator.terminate(Duration::from_secs(10))?;
    bench.progress.say(&format!("operator: {cpu:.1} s of CPU to report, {now} MiB resident when quiet"));
    let written = f64::from(u32::try_from(written).unwrap_or(u32::MAX));
    let floor_note = "peer: the same 20,000 writes (create, then status) by a client that does nothing else";
    Ok(vec![
        Row::new("operator-report", "10,000 Services, 50,000 endpoints: start to all reported", "s", &[took])
            .beside(floor_note, &[floor])
            .goal("< 20 s", took < 20.0),
        Row::new("operator-rss", "operator's highest resident memory meanwhile", "MiB", &[most])
            .goal("< 150 MiB", most < 150.0),
        Row::new("operator-quiet", "writes of reports in 30 s without change", "writes", &[written])
            .goal("none", written == 0.0),
    ])
}

/// ServiceTraffics whose status tells of their Service.
async fn reported(bench: &Bench) -> Result<usize> {
    let api: Api<ServiceTraffic> = Api::all(bench.client.clone());
    // Counting by page is cheap beside what is measured; a watch would decode every status.
    let heads = api.list_metadata(&ListParams::default().limit(1)).await?;
    let remaining = heads.metadata.remaining_item_count.unwrap_or(0);
    let some = usize::try_from(remaining)? + heads.items.len();
    if some < world::SERVICES {
        return Ok(some.saturating_sub(1));
    }
    let all = api.list(&ListParams::default()).await?;
    Ok(all.items.iter().filter(|found| found.status.as_ref().is_some_and(|status| status.ready_pods.is_some())).count())
}

async fn versions(bench: &Bench) -> Result<BTreeMap<String, String>> {
    let api: Api<ServiceTraffic> = Api::all(bench.client.clone());
    let all = api.list_metadata(&ListParams::default()).await?;
    let key = |found: &PartialObjectMeta<ServiceTraffic>| {
        format!("{}/{}", found.namespace().unwrap_or_default(), found.name_any())
    };
    Ok(all.items.iter().map(|found| (key(found), found.resource_version().unwrap_or_default())).collect())
}

/// Seconds that the API server needs for as many writes of the same size, made as fast as it takes them.
async fn floor(bench: &Bench) -> Result<f64> {
    const NAMESPACE: &str = "floor";
    world::create(
        bench,
        std::iter::once(("/api/v1/namespaces".to_owned(), world::named("Namespace", "v1", NAMESPACE))),
    )
    .await?;
    let step = bench.progress.step("the same writes without an operator");
    let path = format!("/apis/portreeve.io/v1alpha1/namespaces/{NAMESPACE}/servicetraffics");
    let began = Instant::now();
    let object = |n: usize| json!({"apiVersion": "portreeve.io/v1alpha1", "kind": "ServiceTraffic", "metadata": {"name": format!("s-{n}")}, "spec": {}});
    world::create(bench, (0..world::SERVICES).map(|n| (path.clone(), object(n)))).await?;
    world::write_all(
        bench,
        (0..world::SERVICES).map(|n| {
            let request =
                Request::patch(format!("{path}/s-{n}/status")).header("content-type", "application/merge-patch+json");
            (request, json!({"status": status()}))
        }),
    )
    .await?;
    let took = began.elapsed().as_secs_f64();
    step.done();
    let delete = Request::delete(path).body(Vec::new())?;
    bench.client.request_text(delete).await.context("removing them again")?;
    Ok(took)
}

/// A status of the size that ours has.
fn status() -> Value {
    let condition = |kind: &str| {
        json!({"type": kind, "status": "True", "reason": "Measured", "message": "A sentence about what was found.",
            "lastTransitionTime": "2026-11-21T00:00:00Z", "observedGeneration": 1})
    };
    let node = |n: usize| json!({"node": format!("node-{n:03}"), "pods": 1, "sharePermille": 200});
    let conditions = ["LocalReady", "Balanced", "Ready"].map(condition);
    json!({
        "observedGeneration": 1, "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 10_001,
        "readyPods": 5, "activeNodes": 5,
        "imbalance": {"ratioPermille": 1000, "usablePermille": 1000, "hottest": {"node": "node-000", "sharePermille": 200},
            "suggestedReplicas": [], "nodes": (0..5).map(node).collect::<Vec<_>>()},
        "conditions": conditions,
    })
}
