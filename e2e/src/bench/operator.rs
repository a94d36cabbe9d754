//! The operator meets 10,000 Services: how long until each is reported on, what it weighs, and that it then is quiet.

use std::collections::BTreeMap;
use std::net::SocketAddr;
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
const POLL: Duration = Duration::from_millis(500);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let usual = report(bench, "usual", world::LOCAL).await?;
    world::forget(bench, world::namespaces()).await?;
    world::all_local(bench).await?;
    let floor = floor(bench).await?;
    let all = report(bench, "all-local", world::SERVICES).await?;
    let again = report(bench, "restart", world::SERVICES).await?;
    let floor_note = "peer: the same 20,000 writes (create, then status) by a client that does nothing else";
    let all_row = Row::new("operator-report-all", "the same, when all 10,000 Services are Local", "s", &[all.seconds])
        .beside(floor_note, &[floor]);
    let close = all_row.ratio.is_some_and(|ratio| ratio <= 1.25);
    let most = usual.most_mebibytes.max(all.most_mebibytes).max(again.most_mebibytes);
    let written = usual.written + all.written + again.written;
    Ok(vec![
        Row::new(
            "operator-report",
            "10,000 Services (2,000 of them Local), 50,000 endpoints: start to all reported",
            "s",
            &[usual.seconds],
        )
        .goal("< 20 s", usual.seconds < 20.0),
        all_row.goal("≤ 1.25 of the floor", close),
        Row::new("operator-restart", "the same, with all reports there: start to all looked at", "s", &[again.seconds])
            .goal("< 20 s", again.seconds < 20.0),
        Row::new("operator-rss", "operator's highest resident memory in these runs", "MiB", &[most])
            .goal("< 150 MiB", most < 150.0),
        Row::new("operator-quiet", "writes of reports in 30 s without change, after each", "writes", &[written])
            .goal("none", written == 0.0),
    ])
}

/// What one start of the operator took.
struct Reported {
    seconds: f64,
    most_mebibytes: f64,
    /// Reports written in the time in which nothing changed.
    written: f64,
}

/// Starts an operator, waits until it has looked at `wanted` Services and all reports stand, then for what it does when
/// nothing happens.
async fn report(bench: &Bench, name: &str, wanted: usize) -> Result<Reported> {
    let began = Instant::now();
    let (spec, admin) = handover::spec(bench, name)?;
    let mut operator = spec.spawn()?;
    let step = bench.progress.step(format!("the operator looks at 10,000 Services and reports on {wanted} ({name})"));
    let seconds = loop {
        let looked_at = looked_at(admin).await;
        step.note(&format!("{looked_at} of {wanted}"));
        if looked_at >= wanted && reported(bench).await? == wanted {
            break began.elapsed().as_secs_f64();
        }
        operator.require_running()?;
        ensure!(began.elapsed() < WITHIN, "{looked_at} of {wanted} Services looked at after {WITHIN:?}");
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
    let most_mebibytes = mebibytes(operator.pid(), "VmHWM")?;
    let now = mebibytes(operator.pid(), "VmRSS")?;
    operator.terminate(Duration::from_secs(10))?;
    bench.progress.say(&format!("operator: {cpu:.1} s of CPU, {now} MiB resident when quiet"));
    Ok(Reported { seconds, most_mebibytes, written: f64::from(u32::try_from(written).unwrap_or(u32::MAX)) })
}

/// Successful looks of the controller at a Service, as its metrics tell; 0 while it does not answer.
async fn looked_at(admin: SocketAddr) -> usize {
    const COUNT: &str = "controller_runtime_reconcile_total{controller=\"servicetraffic\",result=\"success\"} ";
    let Ok(target) = crate::http::Target::parse(&format!("http://{admin}/metrics")) else { return 0 };
    let answer = crate::http::get(&target, Duration::from_secs(2)).await;
    answer.body.lines().find_map(|line| line.strip_prefix(COUNT)?.trim().parse().ok()).unwrap_or(0)
}

/// ServiceTraffics whose status tells of their Service.
async fn reported(bench: &Bench) -> Result<usize> {
    let all = Api::<ServiceTraffic>::all(bench.client.clone()).list(&ListParams::default()).await?;
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
        &bench.client,
        (0..world::SERVICES).map(|n| {
            let request =
                Request::patch(format!("{path}/s-{n}/status")).header("content-type", "application/merge-patch+json");
            (request, json!({"status": status()}))
        }),
    )
    .await?;
    let took = began.elapsed().as_secs_f64();
    step.done();
    world::forget(bench, std::iter::once(NAMESPACE.to_owned())).await.context("removing them again")?;
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
