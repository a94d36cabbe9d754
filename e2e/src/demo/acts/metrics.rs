//! What the daemons count, scraped as Prometheus would; and that dashboard and alerts ask only for what is there.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use portreeve_crds::names;

use super::super::wait::until;
use super::super::{Measured, Stage};

const DASHBOARD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/dashboards/portreeve.json");
const ALERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/alerts/portreeve.yaml");
const ADMIN: u16 = 8080;
const AGENT_ADMIN: u16 = 9810;

const OPERATOR: [&str; 16] = [
    "controller_runtime_reconcile_total",
    "controller_runtime_reconcile_errors_total",
    "controller_runtime_reconcile_time_seconds_bucket",
    "controller_runtime_active_workers",
    "controller_runtime_max_concurrent_reconciles",
    "workqueue_depth",
    "workqueue_adds_total",
    "workqueue_queue_duration_seconds_bucket",
    "workqueue_work_duration_seconds_bucket",
    "rest_client_requests_total",
    "rest_client_request_duration_seconds_bucket",
    "leader_election_master_status",
    "portreeve_services",
    "portreeve_policy_violations",
    "portreeve_imbalance_ratio_max_permille",
    "portreeve_build_info",
];
const WEBHOOK: [&str; 7] = [
    "controller_runtime_webhook_requests_total",
    "controller_runtime_webhook_latency_seconds_bucket",
    "controller_runtime_webhook_requests_in_flight",
    "certwatcher_read_certificate_total",
    "certwatcher_read_certificate_errors_total",
    "portreeve_admission_findings_total",
    "portreeve_certificate_expiry_seconds",
];
const AGENT: [&str; 3] = ["portreeve_agent_services", "portreeve_agent_compile_seconds_bucket", "portreeve_build_info"];

pub(super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    let mut all = BTreeSet::new();
    for (component, port, wanted) in
        [("operator", ADMIN, &OPERATOR[..]), ("webhook", ADMIN, &WEBHOOK[..]), ("agent", AGENT_ADMIN, &AGENT[..])]
    {
        let (scraped, _) = until(&format!("the {component}'s metrics"), Duration::from_secs(15), || async {
            let scraped = scrape(stage, component, port).await?;
            let missing: Vec<_> = wanted.iter().filter(|name| !scraped.names.contains(**name)).collect();
            ensure!(missing.is_empty(), "missing: {missing:?}");
            Ok(scraped)
        })
        .await?;
        measured.note(&format!("{component}_names"), scraped.names.len());
        if component == "operator" {
            measured.note("reconciles", scraped.sum("controller_runtime_reconcile_total"));
            measured.note("reconcile_errors", scraped.sum("controller_runtime_reconcile_errors_total"));
            let leaders = scraped.sum("leader_election_master_status");
            measured.note("leaders", leaders);
            ensure!(leaders == 1.0, "{leaders} operators say that they lead");
            ensure!(scraped.sum("controller_runtime_reconcile_total") > 0.0, "no reconcile was counted");
        }
        if component == "webhook" {
            let reviews = scraped.sum("controller_runtime_webhook_requests_total");
            measured.note("reviews", reviews);
            ensure!(reviews > 0.0, "no review was counted");
        }
        all.extend(scraped.names);
    }
    let asked = asked(&[DASHBOARD, ALERTS])?;
    let unknown: Vec<_> = asked.iter().filter(|name| !all.contains(*name)).collect();
    ensure!(unknown.is_empty(), "dashboard or alerts ask for metrics that nobody has: {unknown:?}");
    measured.note("names_in_dashboard_and_alerts", asked.len());
    Ok(())
}

#[derive(Default)]
struct Scraped {
    names: BTreeSet<String>,
    samples: Vec<(String, f64)>,
}

impl Scraped {
    fn sum(&self, name: &str) -> f64 {
        self.samples.iter().filter(|(known, _)| known == name).map(|(_, value)| value).sum()
    }
}

/// Every sample of every Pod of `component`.
async fn scrape(stage: &Stage, component: &str, port: u16) -> Result<Scraped> {
    let selector = format!("app.kubernetes.io/component={component}");
    let running = "--field-selector=status.phase=Running";
    let pods = stage
        .kubectl
        .jsonpath(&["-n", names::NAMESPACE, "pods", "-l", &selector, running], "{.items[*].metadata.name}")
        .await?;
    let mut scraped = Scraped::default();
    for pod in pods.split_whitespace() {
        let path = format!("/api/v1/namespaces/{}/pods/{pod}:{port}/proxy/metrics", names::NAMESPACE);
        let text = stage.kubectl.run(&["get", "--raw", &path]).await?.ok()?.stdout;
        for line in text.lines() {
            // `# TYPE name kind` stands also for families that have no sample yet.
            if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                scraped.names.extend(series(name, kind));
            } else if let Some((name, value)) = sample(line) {
                scraped.samples.push((name.to_owned(), value));
            }
        }
    }
    Ok(scraped)
}

/// Names of the series of a family (OpenMetrics: a counter's sample ends in `_total`, a histogram's in `_bucket`).
fn series(name: &str, kind: &str) -> Vec<String> {
    match kind {
        "counter" => vec![format!("{}_total", name.trim_end_matches("_total"))],
        "histogram" => ["_bucket", "_sum", "_count"].iter().map(|end| format!("{name}{end}")).collect(),
        _ => vec![name.to_owned()],
    }
}

fn sample(line: &str) -> Option<(&str, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    Some((series.split('{').next()?, value.parse().ok()?))
}

/// Names of metrics in the expressions of `files`.
fn asked(files: &[&str]) -> Result<BTreeSet<String>> {
    let families =
        ["portreeve_", "controller_runtime_", "workqueue_", "rest_client_", "leader_election_", "certwatcher_"];
    let mut names = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(file)?;
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        names.extend(words.filter(|word| families.iter().any(|family| word.starts_with(family))).map(str::to_owned));
    }
    ensure!(!names.is_empty(), "neither the dashboard nor the alerts ask for anything");
    Ok(names)
}
