mod packets;

use super::*;
use portreeve_runtime::metrics::Metrics;
use portreeve_table::{
    BackendKind, ClaimedMode, Engine, EngineError, Goal, Integrity, Interface, OnNoLocal, Op, PerFamily, ServiceEntry,
    ServiceKey, SourceFilter,
};
use std::sync::Mutex;

/// What the engine was asked for, and whether it refuses to.
#[derive(Default)]
struct Asked {
    for_listeners: Vec<usize>,
    refuses: bool,
}

struct Steers(Arc<Mutex<Asked>>);

impl Engine for Steers {
    fn apply(&mut self, _: Goal<'_>, _: &[Op]) -> Result<Applied, EngineError> {
        Ok(Applied::Nothing)
    }

    fn integrity(&mut self) -> Result<Integrity, EngineError> {
        Ok(Integrity::Intact)
    }

    fn steer_health_checks(&mut self, listeners: &[SocketAddr]) -> Result<(), EngineError> {
        let mut asked = self.0.lock().unwrap();
        asked.for_listeners.push(listeners.len());
        if asked.refuses { Err("the kernel refuses it".into()) } else { Ok(()) }
    }

    fn remove(&mut self) -> Result<(), EngineError> {
        Ok(())
    }
}

fn entry(port: Option<u16>, ready: usize, mode: ClaimedMode) -> ServiceEntry {
    ServiceEntry {
        created: 0,
        mode,
        on_no_local: OnNoLocal::Drop,
        sources: PerFamily::from_fn(|_| SourceFilter::Open),
        affinity_seconds: None,
        health_check_node_port: port,
        local_ready: PerFamily { v4: ready, v6: 0 },
        ports: Vec::new(),
    }
}

fn table<const N: usize>(services: [(&str, ServiceEntry); N]) -> ForwardingTable {
    let services = services.map(|(name, entry)| (ServiceKey::new("shop", name), Arc::new(entry)));
    ForwardingTable { services: services.into(), ..ForwardingTable::default() }
}

fn web(ready: usize) -> ForwardingTable {
    table([("web", entry(Some(31239), ready, ClaimedMode::Local))])
}

/// Health checks with a listener, and an engine that has a table in force.
fn world() -> (HealthChecks, Program, Arc<Mutex<Asked>>) {
    let asked = Arc::<Mutex<Asked>>::default();
    let engine = Arc::clone(&asked);
    let open = move |_| -> Result<Box<dyn Engine>, EngineError> { Ok(Box::new(Steers(Arc::clone(&engine)))) };
    let mut program = Program::new([BackendKind::Nftables], Box::new(open));
    let uplinks = [Interface::new("eth0").unwrap()].into();
    let wanted = crate::program::Wanted { kind: BackendKind::Nftables, uplinks };
    program.round(&wanted, &ForwardingTable::default(), &|_, _, _| true, Instant::now()).unwrap();
    let mut checks = HealthChecks::silent(AgentMetrics::register(&Metrics::new("1")));
    checks.listeners = vec!["127.0.0.1:40000".parse().unwrap()];
    (checks, program, asked)
}

/// A round that put `table` in force, which differs from the one before in all that it has.
fn programmed(checks: &mut HealthChecks, table: &ForwardingTable, eligible: bool, applied: Applied, now: Instant) {
    let had = checks.ports.keys().cloned();
    checks.note(&Changes { updated: table.services.keys().cloned().chain(had).collect(), ..Changes::default() });
    checks.programmed(table, eligible, applied, now);
}

fn told(checks: &HealthChecks) -> Vec<(u16, usize, bool)> {
    let snapshot = checks.published.load();
    let ports: BTreeMap<_, _> = snapshot.ports.iter().collect();
    ports.iter().map(|(port, checked)| (**port, checked.ready.v4, checked.programmed)).collect()
}

#[test]
fn the_lease_is_held_from_the_first_service_with_a_health_check_on() {
    let (mut checks, mut program, asked) = world();
    let now = Instant::now();
    let without =
        table([("a", entry(None, 1, ClaimedMode::Local)), ("b", entry(Some(31240), 1, ClaimedMode::Observe))]);
    programmed(&mut checks, &without, true, Applied::Replaced, now);
    assert_eq!((checks.due(), told(&checks)), (None, vec![]), "nothing to answer for");
    programmed(&mut checks, &web(1), true, Applied::Changed(1), now);
    assert_eq!(checks.due(), Some(now));
    checks.renew(&mut program, now);
    assert_eq!(checks.due(), Some(now + RENEW));
    programmed(&mut checks, &web(2), true, Applied::Changed(1), now);
    assert_eq!(checks.due(), Some(now + RENEW), "a change of elements leaves it in force");
    programmed(&mut checks, &web(2), true, Applied::Replaced, now);
    assert_eq!(checks.due(), Some(now), "made anew, the engine has forgotten it");
    checks.renew(&mut program, now);
    checks.end(&mut program);
    assert_eq!(asked.lock().unwrap().for_listeners, [1, 1, 0]);
    assert!(checks.stop.is_cancelled());
}

#[test]
fn what_an_engine_refuses_is_kube_proxys_and_the_report_says_so() {
    let (mut checks, mut program, asked) = world();
    asked.lock().unwrap().refuses = true;
    let now = Instant::now();
    programmed(&mut checks, &web(1), true, Applied::Replaced, now);
    checks.renew(&mut program, now);
    assert_eq!(checks.left(), Some("the kernel refuses it"));
    assert_eq!(checks.due(), Some(now + RETRY));
    asked.lock().unwrap().refuses = false;
    checks.renew(&mut program, now + RETRY);
    assert_eq!(checks.left(), None);
    programmed(&mut checks, &table([]), true, Applied::Changed(1), now);
    assert_eq!(checks.due(), None);
}

#[test]
fn while_rounds_fail_what_has_changed_is_not_programmed_and_ready_pods_are_told_as_they_are() {
    let (mut checks, ..) = world();
    let now = Instant::now();
    let both = |one: usize, other: Option<usize>| {
        let mut table = web(one);
        let other = other
            .map(|ready| (ServiceKey::new("shop", "api"), Arc::new(entry(Some(31240), ready, ClaimedMode::Local))));
        table.services.extend(other);
        table
    };
    programmed(&mut checks, &both(1, Some(2)), true, Applied::Replaced, now);
    let failed = Standing::Failed { why: "no memory".into(), failures: 1, again: now, meanwhile: Meanwhile::Unknown };
    checks.observe(&both(0, Some(2)), true, &failed, now);
    assert_eq!(told(&checks), [(31239, 0, false), (31240, 2, true)]);
    checks.observe(&both(1, None), true, &failed, now + RENEW);
    assert_eq!(told(&checks), [(31239, 1, true), (31240, 2, false)], "it is gone, and its rules are not");
    assert_eq!(checks.published.load().behind, Some(now));
    programmed(&mut checks, &both(1, None), false, Applied::Changed(1), now);
    let snapshot = checks.published.load();
    assert_eq!((snapshot.behind, snapshot.eligible), (None, false));
}

#[test]
fn an_engine_that_serves_until_its_successor_does_has_been_told() {
    let (mut checks, ..) = world();
    let now = Instant::now();
    programmed(&mut checks, &web(0), true, Applied::Replaced, now);
    checks.note(&Changes { updated: web(1).services.keys().cloned().collect(), ..Changes::default() });
    let meanwhile = Meanwhile::Former(BackendKind::Nftables);
    let failed = Standing::Failed { why: "no memory".into(), failures: 1, again: now, meanwhile };
    checks.observe(&web(1), true, &failed, now);
    assert_eq!(told(&checks), [(31239, 1, true)]);
}

#[test]
fn a_port_goes_from_one_service_to_another_and_what_has_not_changed_costs_nothing() {
    let (mut checks, ..) = world();
    let now = Instant::now();
    let mut all = table([
        ("web", entry(Some(31239), 1, ClaimedMode::Local)),
        ("shop", entry(Some(31240), 1, ClaimedMode::Local)),
    ]);
    programmed(&mut checks, &all, true, Applied::Replaced, now);
    let port = |checks: &HealthChecks, port| checks.published.load().ports.get(&port).cloned();
    let before = [port(&checks, 31239), port(&checks, 31240)].map(Option::unwrap);
    let shop = ServiceKey::new("shop", "shop");
    all.services.insert(shop.clone(), Arc::new(entry(Some(31240), 2, ClaimedMode::Local)));
    checks.note(&Changes { updated: [shop].into(), ..Changes::default() });
    checks.programmed(&all, true, Applied::Changed(1), now);
    assert_eq!(told(&checks), [(31239, 1, true), (31240, 2, true)]);
    assert!(Arc::ptr_eq(&before[0], &port(&checks, 31239).unwrap()), "the same as before, not its like");

    let other = table([("api", entry(Some(31239), 3, ClaimedMode::Local))]);
    let (added, gone) = ([ServiceKey::new("shop", "api")].into(), ["web", "shop"]);
    let removed = gone.map(|name| ServiceKey::new("shop", name)).into();
    checks.note(&Changes { added, removed, ..Changes::default() });
    checks.programmed(&other, true, Applied::Changed(1), now);
    assert_eq!(told(&checks), [(31239, 3, true)]);
    assert_eq!(*port(&checks, 31239).unwrap().service.name, *"api");
}
