//! What a client meets at a Service with `externalTrafficPolicy`, on three real nodes: Kubernetes' own truth table and its
//! scenarios, by kube-proxy alone and with the agents ahead of it, on both families. Whatever is not told apart below must be
//! the same in each. Needs root; one cluster for each mode of kube-proxy, one after the other.
//!
//! SCTP is not among it: the test server needs sockets of it, which many kernels lack. Tests of the engines send its packets.
//!
//! What was seen is printed, and kept in `target/data-path`. `PORTREEVE_SCENARIO=udp` plays the scenarios whose name has it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "data_path/mod.rs"]
mod parts;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt as _;
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use portreeve_e2e::node::config::ProxyMode;
use tokio::sync::{Mutex, OnceCell};

use self::parts::force::Variant;
use self::parts::report::Report;
use self::parts::scene::{Scenario, Scene, ingress, placed};
use self::parts::world::{Made, World, kept, until};
use self::parts::{affinity, ending, flip, left, objects, ports, ranges, truth, udp, vanish};

const SCENARIOS: [Scenario; 16] = [
    truth::TRUTH,
    ending::LAST,
    ending::BESIDE,
    ending::ALL,
    vanish::VANISH,
    ranges::RANGES,
    affinity::AFFINITY,
    udp::UDP,
    flip::FLIP,
    ports::NAMED,
    ports::HALF,
    ports::PROXY,
    ports::EXTERNAL,
    ports::HAIRPIN,
    left::OTHER,
    left::NOWHERE,
];
/// Until every Pod of a variant runs.
const PODS_WITHIN: Duration = Duration::from_secs(120);
/// Clusters stand one at a time.
static TURN: Mutex<()> = Mutex::const_new(());
static MADE: OnceCell<Made> = OnceCell::const_new();

#[tokio::test(flavor = "multi_thread")]
async fn beside_kube_proxy_in_iptables_mode_clients_meet_what_kubernetes_promises() {
    beside(ProxyMode::Iptables).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_kube_proxy_in_nftables_mode_clients_meet_what_kubernetes_promises() {
    beside(ProxyMode::Nftables).await;
}

async fn beside(mode: ProxyMode) {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root");
        eprintln!("skipped: needs root");
        return;
    }
    let _turn = TURN.lock().await;
    let made = MADE.get_or_init(async || tokio::task::spawn_blocking(Made::ready).await.unwrap().unwrap()).await;
    let world = World::up(made, mode).await.unwrap();
    let report = Report::default();
    let played = play_all(&world, &report).await;
    let title = format!("kube-proxy in {mode:?} mode");
    let table = report.table(&title, &Variant::ALL.map(Variant::title));
    eprintln!("\n{table}");
    std::fs::create_dir_all(kept()).unwrap();
    std::fs::write(kept().join(format!("{mode:?}.md").to_lowercase()), table).unwrap();
    let logs = world.cluster.log_dir();
    world.cluster.down().await.unwrap();
    played.unwrap();
    let wrong = report.wrong();
    assert!(wrong.is_empty(), "logs in {}; {} of {}:\n{}", logs.display(), wrong.len(), report.len(), wrong.join("\n"));
    assert!(report.len() > 0, "nothing was looked at");
}

async fn play_all(world: &World, report: &Report) -> Result<()> {
    for variant in Variant::ALL {
        let began = Instant::now();
        raise(world, variant).await.with_context(|| format!("setting the stage for {}", variant.title()))?;
        eprintln!("{:>7.1}s  {}: set", began.elapsed().as_secs_f64(), variant.title());
        play(world, variant, report).await;
        eprintln!("{:>7.1}s  {}: played", began.elapsed().as_secs_f64(), variant.title());
    }
    Ok(())
}

fn chosen() -> Vec<&'static Scenario> {
    let only = std::env::var("PORTREEVE_SCENARIO").unwrap_or_default();
    SCENARIOS.iter().filter(|scenario| scenario.name.to_lowercase().contains(&only.to_lowercase())).collect()
}

/// All scenarios of a variant at a time: they share nothing but the nodes.
async fn play(world: &World, variant: Variant, report: &Report) {
    join_all(chosen().into_iter().map(|scenario| async move {
        let scene = Scene::new(world, variant, scenario.name, report);
        let began = Instant::now();
        let played = std::panic::AssertUnwindSafe((scenario.play)(&scene)).catch_unwind().await;
        let said = match played {
            Ok(Ok(())) => "played to its end".to_owned(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "panicked".to_owned(),
        };
        scene.record("the scenario", &said, "played to its end");
        eprintln!("{:>7.1}s  {}: {}", began.elapsed().as_secs_f64(), variant.title(), scenario.name);
    }))
    .await;
}

/// Sets everything that the scenarios of a variant need, and waits until it stands.
async fn raise(world: &World, variant: Variant) -> Result<()> {
    let namespace = variant.namespace();
    world.cluster.kubectl(&["create", "namespace", namespace]).await?;
    let client = || world.client.clone();
    until("the namespace's service account", Duration::from_secs(30), async || {
        let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(client(), namespace);
        Ok(accounts.get("default").await.map(drop)?)
    })
    .await?;
    variant.ask(world).await?;
    let all = chosen().into_iter().flat_map(|scenario| (scenario.objects)(variant.numbers())).collect();
    world.apply(namespace, "scenarios", all).await?;
    let services: Api<Service> = Api::namespaced(client(), namespace);
    for service in services.list(&ListParams::default()).await? {
        if service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer") {
            let proxied = service.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(objects::PROXIED));
            let name = service.metadata.name.as_deref().context("a Service has a name")?;
            let patch = ingress(placed(&service)?.number, if proxied { "Proxy" } else { "VIP" });
            services.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        }
    }
    let pods: Api<Pod> = Api::namespaced(client(), namespace);
    until("every Pod to be ready", PODS_WITHIN, async || {
        for pod in pods.list(&ListParams::default()).await? {
            let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
            let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
            ensure!(ready, "{} is not", pod.metadata.name.unwrap_or_default());
        }
        Ok(())
    })
    .await?;
    variant.settled(world).await
}
