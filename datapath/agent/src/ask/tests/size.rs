//! The largest table that is asked about: the main loop is held up while it is read back, and the lease of the health checks
//! must outlive that.

use super::*;
use crate::program::{Program, Wanted};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::geteuid;
use portreeve_ask::Request;
use portreeve_netfilter::nftables::Programmed;
use portreeve_table::{
    BackendKind, Directive, Engine, EngineError, Event, HEALTH_CHECK_LEASE, Index, Interface, Mode, Names, OnNoLocal,
};
use std::process::Command;

const INSIDE: &str = "ask::tests::size::inside";
const SERVICES: u32 = 10_000;

#[test]
fn ten_thousand_services_are_read_back_within_the_lease_of_the_health_checks() {
    let mut node = Command::new("unshare");
    if !geteuid().is_root() {
        node.args(["--user", "--map-root-user"]);
    }
    node.arg("--net").arg(env::current_exe().unwrap()).args(["--exact", INSIDE, "--ignored", "--nocapture"]);
    let output = node.output().expect("this test needs unshare(1)");
    let says = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && says.contains("1 passed"), "{says}");
    if let Some(line) = says.lines().find(|line| line.contains("read back in")) {
        eprintln!("{line}");
    }
}

/// A Service with one load balancer address, one node port and two Pods on this node.
fn claimed(index: &mut Index, names: &mut Names, number: u32) {
    let key = ServiceKey::new("shop", &format!("web-{number:05}"));
    let [_, a, b, c] = number.to_be_bytes();
    let service = json!({
        "metadata": {"name": key.name, "namespace": key.namespace},
        "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "clusterIP": "10.96.0.1",
                 "ports": [{"port": 80, "nodePort": 20_000 + number}]},
        "status": {"loadBalancer": {"ingress": [{"ip": format!("20.{a}.{b}.{c}")}]}},
    });
    let service = portreeve_ingest::service(&serde_json::from_value(service).unwrap(), names).unwrap();
    index.apply(Event::Service(key.clone(), service));
    let pod = |last: u8| json!({"addresses": [format!("10.{}.{b}.{c}", a * 2 + last)], "nodeName": "n1"});
    let slice = json!({
        "metadata": {"name": key.name, "namespace": key.namespace, "labels": {"kubernetes.io/service-name": key.name}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080}], "endpoints": [pod(0), pod(1)],
    });
    let (_, slice) = portreeve_ingest::slice(&serde_json::from_value(slice).unwrap(), names).unwrap().unwrap();
    index.apply(Event::Slice { service: key.clone(), name: key.name.clone(), slice });
    let directive = Directive { mode: Mode::Local, on_no_local: OnNoLocal::Drop, source_ranges_on_node_ports: false };
    index.apply(Event::Directive(key, directive));
}

/// The most memory that this process has held so far, in KiB (`VmHWM` of proc(5)).
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Time that this thread was at work, whoever else was on the machine.
fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

#[test]
#[ignore = "runs in the namespace that another test makes"]
fn inside() {
    let (mut index, mut names) = (Index::default(), Names::default());
    index.apply(Event::ThisNode(portreeve_table::ThisNode { name: "n1".into(), addresses: vec![] }));
    (0..SERVICES).for_each(|number| claimed(&mut index, &mut names, number));
    let table = &index.compiled().table;
    assert_eq!(table.services.values().map(|entry| entry.backends()).sum::<usize>(), 20_000);
    let open = |_| -> Result<Box<dyn Engine>, EngineError> { Ok(Box::new(Programmed::open()?)) };
    let mut program = Program::new([BackendKind::Nftables], Box::new(open));
    let wanted = Wanted { kind: BackendKind::Nftables, uplinks: [Interface::new("eth0").unwrap()].into() };
    program.round(&wanted, table, KEEP_ALL, Instant::now()).unwrap();

    let (before, spent) = (peak(), cpu());
    let clock = Clock { instant: Instant::now(), time: Timestamp::UNIX_EPOCH };
    let state = State::of_node("n1");
    let Answer::ReadBack(read) = answer(&Request::ReadBack {}, &state, &mut program, clock).unwrap() else { panic!() };
    let (more, spent) = (peak() - before, cpu() - spent);
    eprintln!("{SERVICES} Services read back in {} ms, of which {spent:?} at work, and {more} KiB", read.milliseconds);
    assert!(more < 64 << 10, "half of what the chart lets the agent have: {more} KiB");
    assert_eq!((read.differences, read.omitted), (vec![], 0));
    assert!(spent < HEALTH_CHECK_LEASE, "{spent:?}");

    let began = cpu();
    let first = portreeve_ask::page(index.compiled(), portreeve_ask::Standing::NotYet, &[].into(), None);
    eprintln!("a page of {} Services of the table in {:?}", first.services.len(), cpu() - began);
    assert!(first.more_after.is_some() && cpu() - began < Duration::from_secs(1), "{:?}", cpu() - began);
    let one = program.flows(&ServiceKey::new("shop", "web-00007")).unwrap().1;
    assert_eq!(one.len(), 2);
}
