use super::*;
use portreeve_table::{Directive, Event, Index, Mode, OnNoLocal};
use std::sync::{Arc, Mutex};

/// What a kernel would hold, and what it is told to do next.
#[derive(Default)]
pub(crate) struct Kernel {
    table: Option<(BackendKind, ForwardingTable)>,
    refuses: Option<BackendKind>,
    refuses_all: bool,
    yields: Option<BackendKind>,
    tampered: bool,
    flows_stay: bool,
    rules_stay: bool,
    sweeps: usize,
    ends: usize,
    /// New flows that each Pod of each Service was given, since its entry was made.
    pub(crate) flows: BTreeMap<ServiceKey, Vec<PodFlows>>,
    log: Vec<String>,
}

/// An engine that takes steps as the trait says, on a table instead of rules.
struct OnTable {
    kind: BackendKind,
    kernel: Arc<Mutex<Kernel>>,
    knows: bool,
    goal: ForwardingTable,
}

impl Kernel {
    /// Takes a Service away behind the engine's back.
    pub(crate) fn lose(&mut self, service: &ServiceKey) {
        self.table.as_mut().unwrap().1.services.remove(service);
    }
}

impl Engine for OnTable {
    fn apply(&mut self, goal: Goal<'_>, steps: &[Op]) -> Result<Applied, EngineError> {
        let mut kernel = self.kernel.lock().unwrap();
        if kernel.yields == Some(self.kind) {
            return Err(Yields("another decides before".to_owned()).into());
        }
        if kernel.refuses_all || kernel.refuses == Some(self.kind) {
            self.knows = false;
            return Err("no memory".into());
        }
        self.goal = goal.table.clone();
        kernel.log.push(format!("{} {}", self.kind, if self.knows { steps.len().to_string() } else { "anew".into() }));
        if !self.knows {
            kernel.table = Some((self.kind, goal.table.clone()));
            kernel.flows.clear();
            self.knows = true;
            return Ok(Applied::Replaced);
        }
        let (_, table) = kernel.table.as_mut().unwrap();
        portreeve_table::apply(table, steps);
        Ok(Applied::Changed(steps.len()))
    }

    fn integrity(&mut self) -> Result<Integrity, EngineError> {
        if std::mem::take(&mut self.kernel.lock().unwrap().tampered) {
            self.knows = false;
            return Ok(Integrity::Lost);
        }
        Ok(Integrity::Intact)
    }

    fn end_flows(&mut self, _: &ForwardingTable) -> Result<(), EngineError> {
        let mut kernel = self.kernel.lock().unwrap();
        kernel.ends += 1;
        if kernel.flows_stay { Err("connections cannot be listed".into()) } else { Ok(()) }
    }

    fn sweep(&mut self, _: &ForwardingTable, _: Keeps<'_>) -> Result<usize, EngineError> {
        self.kernel.lock().unwrap().sweeps += 1;
        Ok(0)
    }

    fn flows(&mut self, service: &ServiceKey) -> Result<Vec<PodFlows>, EngineError> {
        Ok(self.kernel.lock().unwrap().flows.get(service).cloned().unwrap_or_default())
    }

    fn read_back(&mut self) -> Result<Vec<Difference>, EngineError> {
        let kernel = self.kernel.lock().unwrap();
        let (_, there) = kernel.table.as_ref().ok_or("the table is gone")?;
        let lost = portreeve_table::diff(there, &self.goal).into_iter();
        Ok(lost
            .map(|step| match step {
                Op::Add(key, _) => Difference { service: Some(key), what: "it is missing".to_owned() },
                other => Difference { service: None, what: other.to_string() },
            })
            .collect())
    }

    fn remove(&mut self) -> Result<(), EngineError> {
        if self.kernel.lock().unwrap().rules_stay {
            return Err("no such program".into());
        }
        self.kernel.lock().unwrap().log.push(format!("{} removed", self.kind));
        Ok(())
    }
}

pub(crate) fn program(kernel: &Arc<Mutex<Kernel>>) -> Program {
    let kernel = Arc::clone(kernel);
    let open = move |kind| -> Result<Box<dyn Engine>, EngineError> {
        Ok(Box::new(OnTable { kind, kernel: Arc::clone(&kernel), knows: false, goal: ForwardingTable::default() }))
    };
    Program::new([BackendKind::Nftables, BackendKind::Iptables], Box::new(open))
}

pub(crate) const KEEP_ALL: Keeps<'static> = &|_, _, _| true;

pub(crate) fn wanted(kind: BackendKind) -> Wanted {
    Wanted { kind, uplinks: [Interface::new("eth0").unwrap()].into() }
}

/// A Service `number`, claimed.
fn claimed(index: &mut Index, number: u16) -> Changes {
    let key = ServiceKey::new("shop", &format!("web-{number}"));
    let service = serde_json::from_value(serde_json::json!({
        "metadata": {"name": key.name, "namespace": key.namespace},
        "spec": {"type": "NodePort", "externalTrafficPolicy": "Local", "clusterIP": "10.96.0.1",
                 "ports": [{"port": 80, "nodePort": 30_000 + number}]},
    }));
    let input = portreeve_ingest::service(&service.unwrap(), &mut portreeve_table::Names::default()).unwrap();
    let mut changes = index.apply(Event::Service(key.clone(), input));
    let directive = Directive { mode: Mode::Local, on_no_local: OnNoLocal::Drop, source_ranges_on_node_ports: false };
    changes.merge(index.apply(Event::Directive(key, directive)));
    changes
}

fn log(kernel: &Arc<Mutex<Kernel>>) -> Vec<String> {
    std::mem::take(&mut kernel.lock().unwrap().log)
}

#[test]
fn the_first_round_tells_all_and_later_ones_what_was_touched() {
    let (kernel, mut index, now) = (Arc::default(), Index::default(), Instant::now());
    let (mut program, nft) = (program(&kernel), wanted(BackendKind::Nftables));
    claimed(&mut index, 1);
    let round = program.round(&nft, &index.compiled().table, KEEP_ALL, now).unwrap();
    assert_eq!((round.applied, round.first), (Applied::Replaced, true));
    assert_eq!(program.due(&nft, now), None);
    program.note(claimed(&mut index, 2));
    assert_eq!(program.due(&nft, now), Some(now));
    let round = program.round(&nft, &index.compiled().table, KEEP_ALL, now).unwrap();
    assert_eq!((round.applied, round.steps, round.first), (Applied::Changed(1), 1, false));
    assert_eq!(log(&kernel), ["nftables anew", "iptables removed", "nftables 1"]);
}

#[test]
fn another_engine_is_in_force_before_the_former_is_cleared_away() {
    let (kernel, index, now) = (Arc::default(), Index::default(), Instant::now());
    let mut program = program(&kernel);
    program.round(&wanted(BackendKind::Nftables), &index.compiled().table, KEEP_ALL, now).unwrap();
    log(&kernel);
    let iptables = wanted(BackendKind::Iptables);
    assert_eq!(program.due(&iptables, now), Some(now));
    program.round(&iptables, &index.compiled().table, KEEP_ALL, now).unwrap();
    assert_eq!(log(&kernel), ["iptables anew", "nftables removed"]);
    program.remove().unwrap();
    assert_eq!(log(&kernel), ["nftables removed", "iptables removed"]);
}

#[test]
fn a_failure_is_told_waited_for_longer_each_time_and_made_good_from_the_whole_table() {
    let (kernel, mut index, start) = (Arc::<Mutex<Kernel>>::default(), Index::default(), Instant::now());
    let (mut program, nft) = (program(&kernel), wanted(BackendKind::Nftables));
    program.round(&nft, &index.compiled().table, KEEP_ALL, start).unwrap();
    kernel.lock().unwrap().refuses = Some(BackendKind::Nftables);
    program.note(claimed(&mut index, 1));
    let mut now = start;
    let waits: Vec<u128> = (0..12)
        .map(|_| {
            let error = program.round(&nft, &index.compiled().table, KEEP_ALL, now).unwrap_err();
            assert_eq!(error.to_string(), "nftables: no memory");
            let again = program.due(&nft, now).unwrap();
            let wait = again - now;
            now = again;
            wait.as_millis()
        })
        .collect();
    assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000, 30_000]);
    kernel.lock().unwrap().refuses = None;
    log(&kernel);
    assert_eq!(program.round(&nft, &index.compiled().table, KEEP_ALL, now).unwrap().applied, Applied::Replaced);
    assert_eq!(log(&kernel), ["nftables anew"]);
    assert_eq!(program.standing(), &Standing::InStep(BackendKind::Nftables));
    assert_eq!(kernel.lock().unwrap().table, Some((BackendKind::Nftables, index.compiled().table.clone())));
}

#[test]
fn an_engine_whose_successor_fails_serves_on_and_is_told_the_news() {
    let (kernel, mut index, now) = (Arc::<Mutex<Kernel>>::default(), Index::default(), Instant::now());
    let (mut program, nft) = (program(&kernel), wanted(BackendKind::Nftables));
    program.round(&nft, &index.compiled().table, KEEP_ALL, now).unwrap();
    kernel.lock().unwrap().refuses = Some(BackendKind::Iptables);
    let iptables = wanted(BackendKind::Iptables);
    program.round(&iptables, &index.compiled().table, KEEP_ALL, now).unwrap_err();
    assert!(program.due(&iptables, now).unwrap() > now, "nothing is new");
    program.note(claimed(&mut index, 1));
    assert_eq!(program.due(&iptables, now), Some(now));
    program.round(&iptables, &index.compiled().table, KEEP_ALL, now).unwrap_err();
    let in_force = kernel.lock().unwrap().table.clone();
    assert_eq!(in_force, Some((BackendKind::Nftables, index.compiled().table.clone())));
    assert!(program.due(&iptables, now).unwrap() > now);
    let former = Meanwhile::Former(BackendKind::Nftables);
    assert!(matches!(program.standing(), Standing::Failed { meanwhile, .. } if *meanwhile == former));
}

#[test]
fn an_engine_that_fails_does_not_keep_its_successor_away_and_another_wish_is_tried_at_once() {
    let (kernel, mut index, now) = (Arc::<Mutex<Kernel>>::default(), Index::default(), Instant::now());
    let mut program = program(&kernel);
    let [iptables, nft] = [BackendKind::Iptables, BackendKind::Nftables].map(wanted);
    program.round(&iptables, &index.compiled().table, KEEP_ALL, now).unwrap();
    kernel.lock().unwrap().refuses = Some(BackendKind::Iptables);
    program.note(claimed(&mut index, 1));
    program.round(&iptables, &index.compiled().table, KEEP_ALL, now).unwrap_err();
    assert!(program.due(&iptables, now).unwrap() > now);
    assert_eq!(program.due(&nft, now), Some(now));
    program.round(&nft, &index.compiled().table, KEEP_ALL, now).unwrap();
    let in_force = kernel.lock().unwrap().table.clone();
    assert_eq!(in_force, Some((BackendKind::Nftables, index.compiled().table.clone())));

    kernel.lock().unwrap().refuses = Some(BackendKind::Nftables);
    program.note(claimed(&mut index, 2));
    program.round(&nft, &index.compiled().table, KEEP_ALL, now).unwrap_err();
    kernel.lock().unwrap().refuses_all = true;
    let both = program.round(&iptables, &index.compiled().table, KEEP_ALL, now).unwrap_err().to_string();
    assert_eq!(both, "iptables: no memory; meanwhile nftables serves by an old table: no memory");
}

#[test]
fn an_engine_that_yields_leaves_nothing_in_force_and_comes_back_when_it_may() {
    let (kernel, mut index, now) = (Arc::<Mutex<Kernel>>::default(), Index::default(), Instant::now());
    let mut program = program(&kernel);
    let [iptables, nft] = [BackendKind::Iptables, BackendKind::Nftables].map(wanted);
    claimed(&mut index, 1);
    program.round(&nft, &index.compiled().table, KEEP_ALL, now).unwrap();
    kernel.lock().unwrap().yields = Some(BackendKind::Iptables);
    log(&kernel);
    program.round(&iptables, &index.compiled().table, KEEP_ALL, now).unwrap_err();
    assert_eq!(log(&kernel), ["nftables removed"]);
    let Standing::Failed { meanwhile, again, .. } = program.standing().clone() else { panic!("it failed") };
    assert_eq!(meanwhile, Meanwhile::Nothing);
    program.round(&iptables, &index.compiled().table, KEEP_ALL, again).unwrap_err();
    assert_eq!(log(&kernel), [""; 0], "what is gone need not be cleared again");
    kernel.lock().unwrap().yields = None;
    program.round(&iptables, &index.compiled().table, KEEP_ALL, again).unwrap();
    assert_eq!(log(&kernel), ["iptables anew", "nftables removed"]);
}

#[test]
fn what_an_earlier_agent_left_goes_when_the_engine_yields() {
    let (kernel, index, now) = (Arc::<Mutex<Kernel>>::default(), Index::default(), Instant::now());
    let mut program = program(&kernel);
    kernel.lock().unwrap().yields = Some(BackendKind::Iptables);
    kernel.lock().unwrap().rules_stay = true;
    let iptables = wanted(BackendKind::Iptables);
    program.round(&iptables, &index.compiled().table, KEEP_ALL, now).unwrap_err();
    assert!(matches!(program.standing(), Standing::Failed { meanwhile: Meanwhile::Unknown, .. }));
    assert_eq!(program.lingering(), Some("what nftables programmed before cannot be removed: no such program"));
    kernel.lock().unwrap().rules_stay = false;
    program.round(&iptables, &index.compiled().table, KEEP_ALL, now + MAX_WAIT).unwrap_err();
    assert!(matches!(program.standing(), Standing::Failed { meanwhile: Meanwhile::Nothing, .. }));
    assert_eq!((log(&kernel), program.lingering()), (vec!["nftables removed".to_owned()], None));
}

#[test]
fn flows_that_do_not_end_are_told_and_tried_again_and_the_table_is_in_force_all_the_same() {
    let (kernel, index, now) = (Arc::<Mutex<Kernel>>::default(), Index::default(), Instant::now());
    let (mut program, nft) = (program(&kernel), wanted(BackendKind::Nftables));
    kernel.lock().unwrap().flows_stay = true;
    program.round(&nft, &index.compiled().table, KEEP_ALL, now).unwrap();
    assert_eq!(program.standing(), &Standing::InStep(BackendKind::Nftables));
    assert_eq!(program.lingering(), Some("connections cannot be listed"));
    let again = program.due(&nft, now).unwrap();
    assert_eq!(again - now, LINGER);
    kernel.lock().unwrap().flows_stay = false;
    program.round(&nft, &index.compiled().table, KEEP_ALL, again).unwrap();
    assert_eq!((program.lingering(), program.due(&nft, again)), (None, None));
    assert_eq!(kernel.lock().unwrap().sweeps, 1, "an engine is swept once");
}

#[test]
fn flows_of_a_pod_that_goes_end_at_once_and_those_of_pods_that_follow_close_behind_together() {
    let (kernel, mut index, start) = (Arc::<Mutex<Kernel>>::default(), Index::default(), Instant::now());
    let (mut program, nft) = (program(&kernel), wanted(BackendKind::Nftables));
    let at = |milliseconds| start + Duration::from_millis(milliseconds);
    index.apply(Event::ThisNode(portreeve_table::ThisNode { name: "n1".into(), addresses: Vec::new() }));
    claimed(&mut index, 1);
    let mut pods = |program: &mut Program, count: u8, now| {
        let slice = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web-1"}},
            "addressType": "IPv4", "ports": [{"port": 8080}],
            "endpoints": (0..count).map(|pod| serde_json::json!({"addresses": [format!("10.1.0.{pod}")], "nodeName": "n1"}))
                .collect::<Vec<_>>(),
        }));
        let (service, slice) =
            portreeve_ingest::slice(&slice.unwrap(), &mut portreeve_table::Names::default()).unwrap().unwrap();
        program.note(index.apply(Event::Slice { service, name: "web-1".into(), slice }));
        program.round(&nft, &index.compiled().table, KEEP_ALL, now).unwrap();
        (std::mem::take(&mut kernel.lock().unwrap().ends), program.due(&nft, now))
    };
    assert_eq!(pods(&mut program, 5, at(0)), (1, None), "whoever starts looks");
    assert_eq!(pods(&mut program, 6, at(600)), (0, None), "nobody went");
    assert_eq!(pods(&mut program, 5, at(700)), (1, None));
    assert_eq!(pods(&mut program, 4, at(800)), (0, Some(at(1200))));
    assert_eq!(pods(&mut program, 3, at(900)), (0, Some(at(1200))));
    assert_eq!(pods(&mut program, 3, at(1200)), (1, None));
}

#[test]
fn rules_of_another_engine_that_stay_are_told_and_tried_again_and_the_table_is_in_force_all_the_same() {
    let (kernel, index, now) = (Arc::<Mutex<Kernel>>::default(), Index::default(), Instant::now());
    let (mut program, nft) = (program(&kernel), wanted(BackendKind::Nftables));
    kernel.lock().unwrap().rules_stay = true;
    assert!(program.round(&nft, &index.compiled().table, KEEP_ALL, now).unwrap().first);
    assert_eq!(program.standing(), &Standing::InStep(BackendKind::Nftables));
    assert_eq!(program.lingering(), Some("what iptables programmed before cannot be removed: no such program"));
    let again = program.due(&nft, now).unwrap();
    assert_eq!(again - now, MAX_WAIT);
    kernel.lock().unwrap().rules_stay = false;
    program.round(&nft, &index.compiled().table, KEEP_ALL, again).unwrap();
    assert_eq!((program.lingering(), program.due(&nft, again)), (None, None));
    assert_eq!(log(&kernel), ["nftables anew", "nftables 0", "iptables removed"]);
}

#[test]
fn what_somebody_else_changed_is_mended_in_the_next_round() {
    let (kernel, index, now) = (Arc::<Mutex<Kernel>>::default(), Index::default(), Instant::now());
    let (mut program, nft) = (program(&kernel), wanted(BackendKind::Nftables));
    assert!(!program.disturbed().unwrap(), "nothing is programmed yet");
    program.round(&nft, &index.compiled().table, KEEP_ALL, now).unwrap();
    assert!(!program.disturbed().unwrap());
    assert_eq!(program.due(&nft, now), None);
    kernel.lock().unwrap().tampered = true;
    assert!(program.disturbed().unwrap());
    assert_eq!(program.due(&nft, now), Some(now));
    assert_eq!(program.round(&nft, &index.compiled().table, KEEP_ALL, now).unwrap().applied, Applied::Replaced);
}

#[test]
fn what_is_made_anew_is_made_by_a_fresh_engine_and_what_fails_leaves_the_one_that_serves() {
    let (kernel, mut index, start) = (Arc::<Mutex<Kernel>>::default(), Index::default(), Instant::now());
    let (mut program, nft) = (program(&kernel), wanted(BackendKind::Nftables));
    claimed(&mut index, 1);
    program.round(&nft, &index.compiled().table, KEEP_ALL, start).unwrap();
    log(&kernel);
    kernel.lock().unwrap().lose(&ServiceKey::new("shop", "web-1"));
    assert_eq!(program.read_back().unwrap().len(), 1);
    kernel.lock().unwrap().refuses = Some(BackendKind::Nftables);
    program.make_anew();
    program.round(&nft, &index.compiled().table, KEEP_ALL, start).unwrap_err();
    kernel.lock().unwrap().refuses = None;
    program.make_anew();
    let round = program.round(&nft, &index.compiled().table, KEEP_ALL, start).unwrap();
    assert_eq!((round.applied, round.first), (Applied::Replaced, true));
    assert_eq!(program.read_back().unwrap(), []);
    program.note(claimed(&mut index, 2));
    let round = program.round(&nft, &index.compiled().table, KEEP_ALL, start).unwrap();
    assert_eq!((round.applied, round.first), (Applied::Changed(1), false), "once is enough");
}

#[test]
fn a_service_counts_since_it_was_last_programmed() {
    let (kernel, mut index, start) = (Arc::default(), Index::default(), Instant::now());
    let (mut program, nft) = (program(&kernel), wanted(BackendKind::Nftables));
    let at = |seconds| start + Duration::from_secs(seconds);
    let services = [1, 2].map(|number| ServiceKey::new("shop", &format!("web-{number}")));
    assert!(program.flows(&services[0]).is_err(), "nothing is programmed yet");
    claimed(&mut index, 1);
    program.round(&nft, &index.compiled().table, KEEP_ALL, at(1)).unwrap();
    program.note(claimed(&mut index, 2));
    program.round(&nft, &index.compiled().table, KEEP_ALL, at(2)).unwrap();
    let since = |program: &mut Program| services.clone().map(|service| program.flows(&service).unwrap().0);
    assert_eq!(since(&mut program), [at(1), at(2)]);
    program.make_anew();
    program.round(&nft, &index.compiled().table, KEEP_ALL, at(3)).unwrap();
    assert_eq!(since(&mut program), [at(3), at(3)]);
}

/// Changes in any order, failures and restarts in between: what is in force at the end is what a fresh start gives.
#[test]
fn fifty_thousand_changes_with_failures_and_restarts_end_where_a_fresh_start_ends() {
    let (kernel, mut index, now) = (Arc::<Mutex<Kernel>>::default(), Index::default(), Instant::now());
    let (mut program, nft) = (program(&kernel), wanted(BackendKind::Nftables));
    // A fixed sequence (Knuth's MMIX numbers), so that a failure can be looked into.
    let mut state = 7_u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let mut restarts = 0;
    for _ in 0..50_000 {
        let number = u16::try_from(random(200)).unwrap();
        let changes = if random(3) == 0 {
            index.apply(Event::ServiceGone(ServiceKey::new("shop", &format!("web-{number}"))))
        } else {
            claimed(&mut index, number)
        };
        program.note(changes);
        match random(50) {
            0 => {
                program = self::program(&kernel);
                restarts += 1;
            }
            1 => kernel.lock().unwrap().refuses = Some(BackendKind::Nftables),
            2 => kernel.lock().unwrap().refuses = None,
            3..20 => {
                let refuses = kernel.lock().unwrap().refuses.is_some();
                assert_eq!(program.round(&nft, &index.compiled().table, KEEP_ALL, now).is_err(), refuses);
                if !refuses {
                    let table = kernel.lock().unwrap().table.clone().unwrap().1;
                    assert_eq!(table, index.compiled().table);
                }
            }
            _ => {}
        }
    }
    assert!(restarts > 500);
}
