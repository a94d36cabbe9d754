//! An agent that is killed again and again, while endpoints come and go, leaves in the end exactly the rules that a fresh one
//! makes, and those are what the API says. Needs root.
//!
//! `PORTREEVE_CHANGES` and `PORTREEVE_FUZZ_SEED` say how many endpoints change, and which; 50000 is the full size.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "agent_killed/listing.rs"]
mod listing;
#[path = "agent_killed/node.rs"]
mod node;
mod support;
#[path = "agent_killed/world.rs"]
mod world;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::{Node as NodeObject, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use node::Node;
use portreeve_agreement::Dice;
use portreeve_agreement::namespace::Namespace;
use portreeve_crds::ServiceTraffic;
use portreeve_e2e::assets::{Assets, Binary};
use portreeve_e2e::control_plane::{ControlPlane, ControlPlaneOptions};
use portreeve_e2e::{kubeconfig, progress::Progress, run_dir::RunDir};
use portreeve_ingest as ingest;
use portreeve_netfilter::{iptables, nftables};
use portreeve_table::{Compiled, Engine, ForwardingTable, Goal, Input, Interface, Names, ServiceKey, compile, diff};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::time::{Duration, Instant};
use support::{Http, site::workspace};
use tokio::sync::Mutex;
use tokio::time::sleep;
use world::{NAMESPACE, NODE, SERVICES};

/// Changes of a run that nobody asked for.
const CHANGES: usize = 5_000;
const SEED: usize = 1;
/// Endpoints that change with one write.
const PER_WRITE: usize = 10;
/// Points at which the agent is killed, at least once; fewer in a run that is shorter than so many writes for each.
const KILLS: usize = 36;
const LONG_ENOUGH: usize = 40;
/// Writes that are on their way at once, of different slices.
const WRITES: usize = 8;
/// How long an agent may take to follow.
const PATIENCE: Duration = Duration::from_secs(60);

/// One control plane at a time.
static TURN: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_nftables_an_agent_that_was_killed_leaves_the_rules_of_a_fresh_one() {
    killed("Nftables", || Box::new(nftables::Programmed::open().unwrap())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_iptables_an_agent_that_was_killed_leaves_the_rules_of_a_fresh_one() {
    killed("Iptables", || Box::new(iptables::Programmed::open(&env::var_os("PATH").unwrap()).unwrap())).await;
}

async fn killed(backend: &'static str, open: fn() -> Box<dyn Engine>) {
    if !nix::unistd::geteuid().is_root() {
        assert!(env::var_os("CI").is_none(), "this test needs root");
        eprintln!("skipped: needs root");
        return;
    }
    let _turn = TURN.lock().await;
    let number = |name, default| env::var(name).map_or(default, |text| text.parse().unwrap());
    let (changes, seed) = (number("PORTREEVE_CHANGES", CHANGES), number("PORTREEVE_FUZZ_SEED", SEED));
    let run = RunDir::create(&format!("agent-killed-{backend}").to_lowercase()).unwrap();
    let plane = control_plane(&run).await;
    let http = Http::new(kubeconfig::client(plane.kubeconfig()).await.unwrap());
    let mut dice = Dice::new(seed as u64);
    let mut slices = world::slices(&mut dice);
    prepare(&http, backend, &slices, &mut dice).await;

    let mut node = Node::new("killed", &plane, &run);
    node.start();
    let writes = changes / PER_WRITE;
    let mut kills = BTreeSet::new();
    while kills.len() < KILLS.min(writes / LONG_ENOUGH) {
        kills.insert(1 + dice.below(writes - 1));
    }
    let (began, mut early, mut written) = (Instant::now(), 0, 0);
    while written < writes {
        // Up to the next kill, a few slices at a time, none of them twice.
        let next = kills.range(written + 1..).next().map_or(writes, |kill| *kill);
        let mut batch = BTreeMap::new();
        while written < next && batch.len() < WRITES {
            let at = dice.below(slices.len());
            if batch.contains_key(&at) {
                break;
            }
            slices[at].change(&mut dice, PER_WRITE);
            batch.insert(at, slices[at].object());
            written += 1;
        }
        let put = async |slice: Value| drop(http.replace(&slice).await.ok());
        stream::iter(batch.into_values()).for_each_concurrent(WRITES, put).await;
        if kills.contains(&written) {
            early += usize::from(!node.kill());
            node.start();
            // Some die again while they start or make their first round, some live on while more is written, and some are
            // let be until they have begun to follow.
            match dice.below(4) {
                0 => {
                    sleep(Duration::from_millis(100 + u64::try_from(dice.below(900)).unwrap())).await;
                    early += usize::from(!node.kill());
                    node.start();
                }
                1 => {}
                _ => in_force(&mut node).await,
            }
        }
    }
    let (took, last) = (began.elapsed(), Instant::now());

    let table = compiled(&http).await.table;
    let expected = rules(backend, open, table.clone());
    follows("the agent that was killed", &mut node, backend, &expected).await;
    let settled = last.elapsed();
    let (lives, lines) = (node.lives, expected.len());
    drop(node);
    let mut fresh = Node::new("fresh", &plane, &run);
    fresh.start();
    follows("a fresh agent", &mut fresh, backend, &expected).await;
    let endpoints: usize = slices.iter().map(|slice| slice.object()["endpoints"].as_array().unwrap().len()).sum();
    eprintln!(
        "{backend}, seed {seed}: {changes} endpoint changes in {writes} writes within {took:?}, {lives} lives, {early} of \
         them ended before their first round did; {SERVICES} Services, {endpoints} endpoints at last, {} Services claimed; \
         {lines} lines of rules, alike {settled:?} after the last write",
        table.services.len(),
    );
    assert!(
        lives > kills.len() && early > 0 && lives - early > lives / 4,
        "{lives} lives, {early} of them ended early"
    );
    assert_eq!(table.services.len(), usize::from(SERVICES), "every Service is claimed");
}

async fn control_plane(run: &RunDir) -> ControlPlane {
    let need = [Binary::Etcd, Binary::KubeApiserver, Binary::Kubectl];
    let assets = tokio::task::spawn_blocking(move || Assets::for_api(&need, Progress::Shown)).await.unwrap().unwrap();
    let mut options = ControlPlaneOptions::new(assets, run.path());
    (options.with_controller_manager, options.with_scheduler) = (false, false);
    let plane = ControlPlane::start(options).await.unwrap();
    plane.kubectl(&["apply", "-f", workspace().join("crds/manifests").to_str().unwrap()]).await.unwrap();
    let ours = "--selector=app.kubernetes.io/part-of=portreeve";
    plane.kubectl(&["wait", "crd", ours, "--for=condition=Established", "--timeout=60s"]).await.unwrap();
    plane
}

/// Writes everything that is there before the first agent.
async fn prepare(http: &Http, backend: &str, slices: &[world::Slice], dice: &mut Dice) {
    http.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})).await.ok();
    let (node, status) = world::node();
    http.create(&node).await.ok();
    http.merge(&format!("/api/v1/nodes/{NODE}/status"), &status).await.ok();
    let (objects, statuses) = world::objects(backend, dice);
    let all = objects.into_iter().chain(slices.iter().map(world::Slice::object));
    let create = async |object: Value| drop(http.create(&object).await.ok());
    stream::iter(all).for_each_concurrent(WRITES, create).await;
    let patch = async |(path, status): (String, Value)| drop(http.merge(&path, &status).await.ok());
    stream::iter(statuses).for_each_concurrent(WRITES, patch).await;
}

/// What the API says that the node does.
async fn compiled(http: &Http) -> Compiled {
    let mut names = Names::default();
    let node: NodeObject = serde_json::from_value(http.get(&format!("/api/v1/nodes/{NODE}")).await.ok()).unwrap();
    let (this_node, _) = ingest::node(&node).unwrap();
    let mut input = Input { this_node, pod_ranges: ingest::pod_ranges(&node).unwrap(), ..Input::default() };
    let key = |name: Option<String>| ServiceKey::new(NAMESPACE, &name.unwrap());
    for service in list::<Service>(http, "api/v1", "services").await {
        let read = ingest::service(&service, &mut names).unwrap();
        input.services.insert(key(service.metadata.name), read);
    }
    for traffic in list::<ServiceTraffic>(http, "apis/portreeve.io/v1alpha1", "servicetraffics").await {
        input.directives.insert(key(traffic.metadata.name), ingest::directive(&traffic.spec));
    }
    for slice in list::<EndpointSlice>(http, "apis/discovery.k8s.io/v1", "endpointslices").await {
        let (service, read) = ingest::slice(&slice, &mut names).unwrap().unwrap();
        input.slices.entry(service).or_default().insert(slice.metadata.name.unwrap().into(), read);
    }
    compile(&input)
}

async fn list<K: DeserializeOwned>(http: &Http, group: &str, kind: &str) -> Vec<K> {
    let mut body = http.get(&format!("/{group}/namespaces/{NAMESPACE}/{kind}")).await.ok();
    serde_json::from_value(body["items"].take()).unwrap()
}

/// The rules of a table that is put in force at once, without an agent.
fn rules(backend: &'static str, open: fn() -> Box<dyn Engine>, table: ForwardingTable) -> Vec<String> {
    Namespace::new().run(move || {
        let uplinks = BTreeSet::from([Interface::new("eth0").unwrap()]);
        let steps = diff(&ForwardingTable::default(), &table);
        open().apply(Goal { table: &table, uplinks: &uplinks }, &steps).unwrap();
        listing::of(backend)
    })
}

/// Waits until the first round of an agent's life has ended.
async fn in_force(node: &mut Node) {
    let began = Instant::now();
    while !node.is_in_force() {
        node.require_running();
        assert!(began.elapsed() < PATIENCE, "nothing is in force {PATIENCE:?} after the start");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until a node's rules are these.
async fn follows(who: &str, node: &mut Node, backend: &'static str, expected: &[String]) {
    let began = Instant::now();
    loop {
        let listed = node.listed(backend);
        if listed == expected {
            return;
        }
        node.require_running();
        let differs = || listing::difference(&listed, expected);
        assert!(began.elapsed() < PATIENCE, "{who} has other rules {PATIENCE:?} after the last write: {}", differs());
        sleep(Duration::from_millis(200)).await;
    }
}
