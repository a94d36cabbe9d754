//! Admission through the API server: without a webhook, with one that echoes, with another that echoes (the noise), and
//! with ours, in slices of one second that take turns.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use http::Request;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::programs::{cpu_seconds, free_address, mebibytes};
use super::row::median;
use super::{Bench, Row, world};
use crate::pki::{Authority, Subject};
use crate::process::{Child, Spec};

/// Slices of each kind.
const ROUNDS: usize = 30;
/// 100 writes a second for a second.
const PER_SLICE: usize = 100;
const EVERY: Duration = Duration::from_millis(10);
/// How long the API server may take to notice a webhook configuration.
const NOTICED_WITHIN: Duration = Duration::from_secs(30);
const SYNCED_WITHIN: Duration = Duration::from_secs(120);

/// One way of admission. Each has a namespace of its own, by whose name its webhook is asked.
struct Way {
    name: &'static str,
    /// Median latency of each slice, in milliseconds.
    medians: Vec<f64>,
}

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let certificates = Certificates::write(&bench.run.state())?;
    let echo = start_echo(bench, &certificates, "echo")?;
    let noise = start_echo(bench, &certificates, "noise")?;
    let ours = start_ours(bench, &certificates).await?;
    for (name, server) in [("echo", &echo), ("noise", &noise), ("ours", &ours)] {
        register(bench, &certificates, name, server.address).await?;
    }
    let mut ways = ["none", "echo", "noise", "ours"].map(|name| Way { name, medians: Vec::new() });
    let namespaces =
        ways.iter().map(|way| ("/api/v1/namespaces".to_owned(), world::named("Namespace", "v1", way.name)));
    world::create(bench, namespaces).await?;
    answered_by_ours(bench).await?;

    let step = bench.progress.step("admission through the API server, 100 writes a second");
    for round in 0..ROUNDS {
        step.note(&format!("round {} of {ROUNDS}", round + 1));
        // Each kind comes after each other kind equally often.
        for turn in 0..ways.len() {
            let way = (turn + round) % ways.len();
            let sample = slice(bench, ways[way].name).await?;
            ways[way].medians.push(sample);
        }
    }
    step.done();
    let weight = mebibytes(ours.process.pid(), "VmRSS")?;
    let cpu = cpu_seconds(ours.process.pid())?;
    bench.progress.say(&format!("webhook: {weight} MiB resident, {cpu:.1} s of CPU in all"));
    drop((echo, noise, ours));
    bench.plane.kubectl(&["delete", "mutatingwebhookconfigurations,validatingwebhookconfigurations", "--all"]).await?;
    Ok(rows(&ways, weight))
}

fn rows(ways: &[Way; 4], weight: f64) -> Vec<Row> {
    let [none, echo, noise, ours] = ways;
    let unit = "ms";
    let row = |id, name: &str, note: &str, way: &Way, peer: &Way| {
        let row = Row::new(id, name, unit, &way.medians).beside(note, &peer.medians);
        let within = row.peer.is_some_and(|peer| row.ours - peer < 0.5);
        (row, within)
    };
    let (ours_row, within) =
        row("api-ours", "write of a Service, 100/s, median: our webhook", "peer: echo", ours, echo);
    let (noise_row, _) =
        row("api-noise", "write of a Service, 100/s, median: a second echo", "peer: echo; the noise", noise, echo);
    let (none_row, _) = row("api-none", "write of a Service, 100/s, median: no webhook", "peer: echo", none, echo);
    let limit = 64.0;
    vec![
        none_row,
        noise_row,
        ours_row.goal("within 0.5 ms of the echo", within),
        Row::new("webhook-rss", "webhook's resident memory with 10,000 Services cached", "MiB", &[weight])
            .goal("< 64 MiB", weight < limit),
    ]
}

/// Keys of all three servers, by one authority.
struct Certificates {
    bundle: String,
    dir: std::path::PathBuf,
}

impl Certificates {
    fn write(state: &Path) -> Result<Self> {
        let authority = Authority::new("bench")?;
        let address = "127.0.0.1".parse()?;
        let pair = authority.issue(&Subject::server("bench", &["localhost"], &[address]))?;
        let dir = state.join("webhook-tls");
        std::fs::create_dir_all(&dir)?;
        std::fs::write(dir.join("tls.crt"), pair.certificate)?;
        std::fs::write(dir.join("tls.key"), pair.key)?;
        Ok(Self { bundle: authority.certificate().to_owned(), dir })
    }
}

struct Server {
    process: Child,
    address: SocketAddr,
}

fn start_echo(bench: &Bench, certificates: &Certificates, name: &str) -> Result<Server> {
    let address = free_address()?;
    let log = bench.run.log().join(format!("{name}.log"));
    let spec = Spec::new(name, &bench.programs.echo, log).arg(address.to_string()).arg(&certificates.dir);
    Ok(Server { process: spec.spawn()?, address })
}

async fn start_ours(bench: &Bench, certificates: &Certificates) -> Result<Server> {
    let (address, admin) = (free_address()?, free_address()?);
    let spec = Spec::new("webhook", &bench.programs.webhook, bench.run.log().join("webhook.log"))
        .args(["--listen", &address.to_string(), "--admin-address", &admin.to_string(), "--cert-dir"])
        .arg(&certificates.dir)
        .arg("--kubeconfig")
        .arg(bench.plane.kubeconfig());
    let mut server = Server { process: spec.spawn()?, address };
    let step = bench.progress.step("our webhook lists 10,000 Services");
    let began = Instant::now();
    while !ready(admin).await {
        server.process.require_running()?;
        ensure!(began.elapsed() < SYNCED_WITHIN, "the webhook is not ready after {SYNCED_WITHIN:?}");
        sleep(Duration::from_millis(50)).await;
    }
    step.done();
    Ok(server)
}

/// Whether the admin server says 200 at `/readyz`.
async fn ready(admin: SocketAddr) -> bool {
    let Ok(target) = crate::http::Target::parse(&format!("http://{admin}/readyz")) else { return false };
    crate::http::get(&target, Duration::from_secs(1)).await.is_ok()
}

/// Both phases, as our own operator registers them, for one namespace.
async fn register(bench: &Bench, certificates: &Certificates, name: &str, address: SocketAddr) -> Result<()> {
    use base64::Engine as _;
    let bundle = base64::engine::general_purpose::STANDARD.encode(&certificates.bundle);
    for (kind, phase, path) in [
        ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", "mutate"),
        ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", "validate"),
    ] {
        let webhook = json!({
            "name": format!("{path}.{name}.bench.portreeve.io"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Fail", "timeoutSeconds": 2,
            "clientConfig": {"url": format!("https://{address}/{path}/services"), "caBundle": bundle},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["services"]}],
        });
        let body = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": format!("bench-{name}")},
            "webhooks": [webhook],
        });
        world::create(bench, std::iter::once((format!("/apis/admissionregistration.k8s.io/v1/{phase}"), body))).await?;
    }
    Ok(())
}

/// Waits until a wrong Service is refused: then the API server asks our webhook, and so do the others' configurations.
async fn answered_by_ours(bench: &Bench) -> Result<()> {
    let began = Instant::now();
    loop {
        let wrong = json!({"type": "ClusterIP", "externalTrafficPolicy": "Local"});
        match post(bench, "ours", &wrong).await {
            Err(error) if format!("{error:#}").contains("ETP016") => return Ok(()),
            outcome => ensure!(began.elapsed() < NOTICED_WITHIN, "our webhook is not asked: {outcome:?}"),
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Median latency in milliseconds of a second of writes, one at a time, evenly paced.
async fn slice(bench: &Bench, namespace: &str) -> Result<f64> {
    let mut clock = interval(EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"});
    let mut samples = Vec::with_capacity(PER_SLICE);
    for _ in 0..PER_SLICE {
        clock.tick().await;
        let began = Instant::now();
        post(bench, namespace, &spec).await?;
        samples.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(median(&mut samples))
}

/// A server-side dry run: everything but the write to etcd, whose time would only blur the difference.
async fn post(bench: &Bench, namespace: &str, spec: &Value) -> Result<()> {
    let mut body = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    });
    for (key, value) in spec.as_object().context("invariant: a spec is an object")? {
        body["spec"][key] = value.clone();
    }
    let path = format!("/api/v1/namespaces/{namespace}/services?dryRun=All");
    let request = Request::post(path).header("content-type", "application/json").body(serde_json::to_vec(&body)?)?;
    bench.client.request_text(request).await?;
    Ok(())
}
