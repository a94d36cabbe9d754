//! kube-proxy as one more party: random Services are written to a real API server, and the same packets meet the oracle, our
//! engines, and a kube-proxy with nothing of ours. For a Service whose directive is to do as kube-proxy does, all do the
//! same, but for what [`quirks`] lists. Needs root.
//!
//! `PORTREEVE_FUZZ_PACKETS` and `PORTREEVE_FUZZ_SEED` say how many packets and which.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "agreement/objects.rs"]
mod objects;
#[path = "agreement/parties.rs"]
mod parties;
#[path = "agreement/quirks.rs"]
mod quirks;
#[path = "agreement/reading.rs"]
mod reading;
#[path = "agreement/shots.rs"]
mod shots;
mod support;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use objects::{NAMESPACE, NODE, World};
use parties::{Ours, Proxy};
use portreeve_agreement::{Bindings, Dice, Fate, Field, Shot};
use portreeve_e2e::assets::{Assets, Binary};
use portreeve_e2e::control_plane::{ControlPlane, ControlPlaneOptions};
use portreeve_e2e::node::config::ProxyMode;
use portreeve_e2e::{kubeconfig, progress::Progress, run_dir::RunDir};
use portreeve_netfilter::{iptables, nftables};
use portreeve_table::{Engine, ForwardingTable, Memory, Reason, oracle};
use quirks::Quirk;
use reading::Objects;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::env;
use std::time::Instant;
use support::Http;
use tokio::sync::Mutex;

/// Packets of a run that nobody asked for.
const PACKETS: usize = 8_000;
/// Its seed: one that meets every quirk so early.
const SEED: usize = 1;
/// With any seed so many packets meet every quirk.
const ENOUGH: usize = 40_000;
/// So many are sent while one table is in force.
const SHOTS: u32 = 500;
/// Tables of a world.
const PHASES: usize = 4;
/// Packets that are on their way at once.
const VOLLEY: usize = 100;
/// Writes that are on their way at once.
const WRITES: usize = 16;

/// One control plane at a time.
static TURN: Mutex<()> = Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kube_proxy_in_iptables_mode_does_with_any_first_packet_what_the_oracle_says() {
    agree(ProxyMode::Iptables).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kube_proxy_in_nftables_mode_does_with_any_first_packet_what_the_oracle_says() {
    agree(ProxyMode::Nftables).await;
}

async fn agree(mode: ProxyMode) {
    if !nix::unistd::geteuid().is_root() {
        assert!(env::var_os("CI").is_none(), "this test needs root");
        eprintln!("skipped: needs root");
        return;
    }
    let _turn = TURN.lock().await;
    let number = |name, default| env::var(name).map_or(default, |text| text.parse().unwrap());
    let (packets, seed) = (number("PORTREEVE_FUZZ_PACKETS", PACKETS), number("PORTREEVE_FUZZ_SEED", SEED));
    let (began, mut trial) = (Instant::now(), Trial::start(mode).await);
    let (mut dice, mut worlds) = (Dice::new(seed as u64), 0);
    while trial.tally.packets < packets {
        let mut world = World::draw(&mut dice);
        trial.replace(&world).await;
        for phase in 0..PHASES {
            if phase > 0 {
                let changed = world.change(&mut dice);
                trial.write(changed.iter().map(|name| world.slices[name].clone()).collect()).await;
            }
            trial.phase(&mut dice).await.unwrap_or_else(|what| {
                panic!("{mode:?}, seed {seed}, world {worlds}, phase {phase}: {what}");
            });
        }
        worlds += 1;
    }
    eprintln!("{mode:?}, seed {seed}: {worlds} worlds in {:?}: {:?}", began.elapsed(), trial.tally);
    if packets < ENOUGH && (packets, seed) != (PACKETS, SEED) {
        return;
    }
    for quirk in Quirk::of(mode) {
        let met = trial.tally.quirks.contains_key(quirk);
        assert!(met, "no packet met {quirk:?} any more, which was known because {}", quirk.why());
    }
}

/// Counts of a run.
#[derive(Clone, Debug, Default)]
struct Tally {
    packets: usize,
    /// Changes of tables.
    tables: usize,
    /// Of the oracle's verdicts on what came to each party.
    reasons: BTreeMap<(&'static str, Reason), usize>,
    quirks: BTreeMap<Quirk, usize>,
    /// By party.
    fates: BTreeMap<(&'static str, &'static str), usize>,
    /// What both sides leave to somebody else, and is not compared.
    from_pods: usize,
}

struct Trial {
    mode: ProxyMode,
    http: Http,
    ours: [Ours; 2],
    proxy: Proxy,
    tally: Tally,
    /// Of the next packet.
    number: u32,
    // In this order: the processes end before their files go.
    _plane: ControlPlane,
    _run: RunDir,
}

impl Trial {
    async fn start(mode: ProxyMode) -> Self {
        let need = [Binary::Etcd, Binary::KubeApiserver, Binary::KubeProxy];
        let assets =
            tokio::task::spawn_blocking(move || Assets::for_api(&need, Progress::Shown)).await.unwrap().unwrap();
        let run = RunDir::create(&format!("agreement-{mode:?}").to_lowercase()).unwrap();
        let mut options = ControlPlaneOptions::new(assets, run.path());
        (options.with_controller_manager, options.with_scheduler) = (false, false);
        let plane = ControlPlane::start(options).await.unwrap();
        let http = Http::new(kubeconfig::client(plane.kubeconfig()).await.unwrap());
        http.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})).await.ok();
        let (node, status) = objects::node();
        http.create(&node).await.ok();
        http.merge(&format!("/api/v1/nodes/{NODE}/status"), &status).await.ok();
        let ours = [
            Ours::new("nftables", || Box::new(nftables::Programmed::open().unwrap())),
            Ours::new("iptables", || -> Box<dyn Engine> {
                Box::new(iptables::Programmed::open(&env::var_os("PATH").unwrap()).unwrap())
            }),
        ];
        let proxy = Proxy::start(&plane, mode, &run);
        Self { mode, http, ours, proxy, tally: Tally::default(), number: 1, _plane: plane, _run: run }
    }

    /// Writes a world in place of the one before.
    async fn replace(&self, world: &World) {
        for kind in ["/api/v1/namespaces/shop/services", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"] {
            self.http.delete(kind).await.ok();
        }
        let create = |object: Value| async move { self.http.create(&object).await.ok() };
        stream::iter(world.services.values().cloned())
            .for_each_concurrent(WRITES, |it| async { drop(create(it).await) })
            .await;
        let balance = |(name, status): (String, Value)| async move {
            self.http.merge(&format!("/api/v1/namespaces/{NAMESPACE}/services/{name}/status"), &status).await.ok()
        };
        let balancers = stream::iter(world.ingress.clone());
        balancers.for_each_concurrent(WRITES, |it| async { drop(balance(it).await) }).await;
        stream::iter(world.slices.values().cloned())
            .for_each_concurrent(WRITES, |it| async { drop(create(it).await) })
            .await;
    }

    /// Writes slices that are there already.
    async fn write(&self, slices: Vec<Value>) {
        let put = |slice: Value| async move { drop(self.http.replace(&slice).await.ok()) };
        stream::iter(slices).for_each_concurrent(WRITES, put).await;
    }

    /// Puts what was written in force everywhere, and sends packets.
    async fn phase(&mut self, dice: &mut Dice) -> Result<(), String> {
        self.proxy.follow(&self.http).await;
        let objects = Objects::read(&self.http, NODE).await;
        let (ours, theirs) = (objects.table(&[]), objects.table(Quirk::of(self.mode)));
        let each: Vec<_> = Quirk::of(self.mode).iter().map(|quirk| (*quirk, objects.table(&[*quirk]))).collect();
        self.tally.tables += 1;
        for party in &mut self.ours {
            party.apply(&ours);
            party.field.forget_flows();
        }
        self.proxy.field.forget_flows();
        let shots = shots::draw(dice, &ours, self.number, SHOTS);
        self.number += SHOTS;
        let mut bound: [Bindings; 3] = Default::default();
        for volley in shots.chunks(VOLLEY) {
            for (party, bound) in self.ours.iter_mut().zip(&mut bound) {
                let Ours { name, field, .. } = party;
                judge(name, field, volley, &ours, bound, true, &mut self.tally)
                    .map_err(|what| about(&objects, what))?;
            }
            judge("kube-proxy", &mut self.proxy.field, volley, &theirs, &mut bound[2], false, &mut self.tally)
                .map_err(|what| about(&objects, what))?;
            self.count(volley, &ours, &each);
        }
        Ok(())
    }

    fn count(&mut self, volley: &[Shot], ours: &ForwardingTable, each: &[(Quirk, ForwardingTable)]) {
        self.tally.packets += volley.len();
        for packet in volley.iter().map(shots::packet) {
            let verdict = oracle(ours, &packet, &Memory::default());
            if verdict.because.iter().any(|because| because.reason == Reason::FromCluster) {
                self.tally.from_pods += 1;
                continue;
            }
            for (quirk, table) in each {
                if oracle(table, &packet, &Memory::default()).action != verdict.action {
                    *self.tally.quirks.entry(*quirk).or_default() += 1;
                }
            }
        }
    }
}

/// Sends a volley to one party. What Pods of other nodes send is kube-proxy's own affair, and only ours must leave it alone.
fn judge(
    name: &'static str,
    field: &mut Field,
    volley: &[Shot],
    table: &ForwardingTable,
    known: &mut Bindings,
    is_ours: bool,
    tally: &mut Tally,
) -> Result<(), String> {
    let (bound, reasons, seen) = field.play(volley, |fates| {
        let (mut bound, mut reasons) = (known.clone(), Vec::new());
        for (shot, fates) in volley.iter().zip(fates) {
            let packet = shots::packet(shot);
            let from_pod = table.pod_ranges.iter().any(|range| range.contains(&packet.source.ip()));
            if is_ours || !from_pod {
                let verdict = bound.judge(table, &packet, fates);
                let verdict = verdict.map_err(|what| format!("{name}: {shot:?}\n{what}"))?;
                reasons.extend(verdict.because.into_iter().map(|because| because.reason));
            }
        }
        Ok((bound, reasons, fates.iter().map(|fates| described(fates)).collect::<Vec<_>>()))
    })?;
    *known = bound;
    for reason in reasons {
        *tally.reasons.entry((name, reason)).or_default() += 1;
    }
    for fate in seen {
        *tally.fates.entry((name, fate)).or_default() += 1;
    }
    Ok(())
}

const fn described(fates: &[Fate]) -> &'static str {
    match fates {
        [] => "dropped",
        [Fate::Delivered(_)] => "delivered",
        [Fate::Passed] => "passed on",
        [Fate::Rejected(_)] => "rejected",
        _ => "other",
    }
}

/// What is wrong, and the objects of the Service that it names.
fn about(objects: &Objects, what: String) -> String {
    let named = |name: &str| what.contains(&format!("{NAMESPACE}/{name},"));
    let mut lines = vec![what.clone()];
    for service in &objects.services {
        let name = service.metadata.name.as_deref().unwrap();
        if named(name) {
            lines.push(serde_json::to_string(service).unwrap());
            let label =
                |slice: &&EndpointSlice| slice.metadata.labels.as_ref().unwrap()["kubernetes.io/service-name"] == name;
            let slices = objects.slices.iter().filter(label);
            lines.extend(slices.map(|slice| serde_json::to_string(slice).unwrap()));
        }
    }
    lines.join("\n")
}
