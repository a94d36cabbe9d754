//! The capabilities that the chart gives the agent are enough for all that it does, and each is needed: found by doing all of
//! it with them, and without each of them.
//!
//! Each attempt is a process of its own in a network namespace of its own, with exactly these capabilities and no way to get
//! others: as a container runtime starts the agent.

use crate::health::HealthChecks;
use crate::links::Links;
use crate::metrics::AgentMetrics;
use nix::unistd::geteuid;
use portreeve_ebpf::Ebpf;
use portreeve_netfilter::{iptables, nftables};
use portreeve_runtime::metrics::Metrics;
use portreeve_runtime::shutdown::{Plan, Shutdown};
use portreeve_table::{
    Backend as _, Capabilities, Directive, Engine, EngineError, Event, Goal, Index, Interface, Mode, Names, OnNoLocal,
    ServiceKey,
};
use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

const CHART: &str = include_str!("../../../config/helm/portreeve/templates/agent.yaml");
const INSIDE: &str = "capabilities::inside";
/// Before each line that tells of an attempt.
const MARK: &str = "attempt: ";

/// What the chart adds to nothing.
fn of_chart() -> Vec<String> {
    let (_, added) = CHART.split_once("add:\n").unwrap();
    let listed = added.lines().map_while(|line| line.trim().strip_prefix("- "));
    listed.map(str::to_lowercase).collect()
}

/// What becomes of each thing that the agent does, in a process with these capabilities and no others.
fn with(capabilities: &[String]) -> BTreeMap<String, Result<(), String>> {
    let set: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
    let exe = env::current_exe().unwrap();
    let limited = format!(
        "ip link set lo up && exec setpriv --bounding-set=-all{set} --inh-caps=-all --ambient-caps=-all --no-new-privs -- \
         {} --exact {INSIDE} --ignored --nocapture",
        exe.display()
    );
    let mut process = Command::new("unshare");
    if !geteuid().is_root() {
        process.args(["--user", "--map-root-user"]);
    }
    let output = process.args(["--net", "--", "sh", "-c", &limited]).output().expect("unshare(1) is there");
    let says = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && says.contains("1 passed"), "{says}");
    let attempts = says.lines().filter_map(|line| line.split_once(MARK)?.1.split_once(": "));
    let attempts = attempts
        .map(|(what, outcome)| (what.to_owned(), if outcome == "done" { Ok(()) } else { Err(outcome.to_owned()) }));
    attempts.collect()
}

/// What fails with these capabilities; of the BPF system call only the machine's own root can say.
fn failing(capabilities: &[String]) -> BTreeMap<String, String> {
    let attempts = with(capabilities);
    assert_eq!(attempts.len(), 7, "{attempts:?}");
    let known = |what: &String| geteuid().is_root() || what != "eBPF";
    attempts.into_iter().filter(|(what, _)| known(what)).filter_map(|(what, done)| Some((what, done.err()?))).collect()
}

fn without(name: &str) -> BTreeMap<String, String> {
    failing(&of_chart().into_iter().filter(|own| own != name).collect::<Vec<_>>())
}

#[test]
fn with_what_the_chart_gives_the_agent_does_all_that_it_does() {
    assert_eq!(of_chart(), ["bpf", "net_admin"]);
    assert_eq!(failing(&of_chart()), BTreeMap::new());
}

#[test]
fn without_net_admin_no_engine_works_and_no_health_check_is_answered() {
    let failed = without("net_admin");
    for what in ["nftables", "iptables", "health checks", "flows that must end", "flows"] {
        assert!(failed.contains_key(what), "{what} works: {failed:?}");
    }
    assert!(failed["health checks"].contains("NET_ADMIN"), "{failed:?}");
}

#[test]
fn without_bpf_only_ebpf_is_lost() {
    let failed = without("bpf");
    if geteuid().is_root() {
        assert_eq!(failed.keys().collect::<Vec<_>>(), ["eBPF"]);
        assert!(failed["eBPF"].contains("this process lacks CAP_BPF"), "{failed:?}");
    } else {
        assert_eq!(failed, BTreeMap::new());
    }
}

#[tokio::test]
#[ignore = "runs in a process with few capabilities, which other tests start"]
async fn inside() {
    let tell = |what: &str, outcome: Result<(), String>| {
        let outcome = outcome.err().map_or_else(|| "done".to_owned(), |error| error.replace('\n', " "));
        // On a line of its own, behind whatever the test's harness has begun.
        eprintln!("\n{MARK}{what}: {outcome}");
    };
    let text = |error: EngineError| error.to_string();
    let table = claimed().compiled().table.clone();
    let uplinks = BTreeSet::from([Interface::new("lo").unwrap()]);
    let goal = Goal { table: &table, uplinks: &uplinks };

    let path = env::var_os("PATH").unwrap_or_default();
    let iptables = iptables::Programmed::open(&path).map_err(|error| error.to_string());
    tell(
        "iptables",
        iptables.and_then(|mut engine| engine.apply(goal, &[]).and_then(|_| engine.remove()).map_err(text)),
    );

    let mut nftables = nftables::Programmed::open().map_err(|error| error.to_string());
    let mut ask = |question: &mut dyn FnMut(&mut nftables::Programmed) -> Result<(), EngineError>| {
        nftables.as_mut().map_err(|error| error.clone()).and_then(|engine| question(engine).map_err(text))
    };
    tell("nftables", ask(&mut |engine| engine.apply(goal, &[]).map(|_| ())));
    tell("flows", ask(&mut |engine| engine.flows(&web()).map(|_| ())));
    tell("flows that must end", ask(&mut |engine| engine.sweep(&table, &|_, _, _| true).map(|_| ())));

    let checks = HealthChecks::start(AgentMetrics::register(&Metrics::new("1")), &Shutdown::new(Plan::default()));
    let listener = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let steered = ask(&mut |engine| engine.steer_health_checks(&[listener]));
    tell("health checks", checks.refused().map_or(steered, |why| Err(why.to_owned())));

    let links = Links::open().unwrap().0.dump().await;
    tell("interfaces", links.map(|_| ()).map_err(|error| error.to_string()));

    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let probe = Ebpf.probe(Capabilities::parse(&status).unwrap());
    let lacks = probe.features.iter().find(|feature| feature.detail.contains("lacks CAP"));
    tell("eBPF", lacks.map_or(Ok(()), |feature| Err(feature.detail.clone())));
}

fn web() -> ServiceKey {
    ServiceKey::new("shop", "web")
}

fn claimed() -> Index {
    let service = serde_json::from_value(serde_json::json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"type": "NodePort", "externalTrafficPolicy": "Local", "clusterIP": "10.96.0.1", "healthCheckNodePort": 31000,
                 "ports": [{"port": 80, "nodePort": 30080}]},
    }));
    let input = portreeve_ingest::service(&service.unwrap(), &mut Names::default()).unwrap();
    let mut index = Index::default();
    index.apply(Event::Service(web(), input));
    let directive = Directive { mode: Mode::Local, on_no_local: OnNoLocal::Reject, source_ranges_on_node_ports: false };
    index.apply(Event::Directive(web(), directive));
    index
}
