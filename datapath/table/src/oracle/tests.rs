//! kube-proxy's own table (TestInternalExternalMasquerade, TestTerminatingEndpointsTrafficPolicyLocal, the source-range
//! rules of TestLoadBalancer), as far as it speaks of external traffic under `Local`; then what is ours alone.
//! What kube-proxy keeps for itself (sources in the cluster, all of Cluster) is `pass` here.

use super::*;
use crate::compile;
use crate::input::{Directive, Input, Mode, ServiceInput, SliceInput};
use crate::key::PerFamily;
use crate::testing::world::event;
use crate::testing::*;
use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestRunner};
use std::net::SocketAddr;

const VIP: &str = "192.0.2.10:80";
const NODE_PORT: &str = "10.0.0.1:30080";
const CLIENT: &str = "198.51.100.9:40000";

/// Opens a TCP flow on an uplink.
fn syn(source: &str, destination: &str) -> Packet {
    let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
    Packet {
        arrival: Arrival::Uplink,
        protocol: Protocol::Tcp,
        source: address(source),
        destination: address(destination),
        opening: true,
        fragment: false,
    }
}

fn from(arrival: Arrival, source: &str, destination: &str) -> Packet {
    Packet { arrival, ..syn(source, destination) }
}

/// A local Pod .1 and a remote one .2, as in upstream's table; the Pods' range is known.
fn world(slices: impl IntoIterator<Item = SliceInput>) -> Input {
    Input { pod_ranges: vec!["10.1.0.0/16".parse().unwrap()], ..input(service(), slices) }
}

fn one_here_one_elsewhere() -> Input {
    world([slice([pod("10.1.0.1", "n1"), pod("10.1.0.2", "n2")])])
}

fn with(input: Input, service: ServiceInput) -> Input {
    Input { services: [(web(), service)].into(), ..input }
}

fn directed(mut input: Input, directive: Directive) -> Input {
    input.directives.insert(web(), directive);
    input
}

fn ranged(range: &str) -> ServiceInput {
    ServiceInput { source_ranges: [range.parse().unwrap()].into(), ..service() }
}

fn ask(input: &Input, packet: &Packet, memory: &Memory) -> (String, Vec<Reason>) {
    let verdict = oracle(&compile(input).table, packet, memory);
    (verdict.action.to_string(), verdict.because.iter().map(|step| step.reason).collect())
}

struct Row(&'static str, Input, Packet, &'static str, Reason);

fn hold(rows: impl IntoIterator<Item = Row>) {
    for Row(sentence, input, packet, action, last) in rows {
        let (found, reasons) = ask(&input, &packet, &Memory::default());
        assert_eq!((found.as_str(), reasons.last()), (action, Some(&last)), "{sentence}");
    }
}

#[test]
fn kube_proxys_truth_table_for_local_holds() {
    let cluster = || with(one_here_one_elsewhere(), ServiceInput { external_local: false, ..service() });
    let both = || one_here_one_elsewhere();
    let (pod_here, node) = ("10.1.0.1:40000", "10.0.0.1:40000");
    let here = "deliver to 10.1.0.1:8080";
    hold([
        Row(
            "pod to cluster IP",
            both(),
            from(Arrival::LocalPod, pod_here, "10.96.0.1:80"),
            "pass",
            Reason::FromLocalPod,
        ),
        Row("pod to node port", both(), from(Arrival::LocalPod, pod_here, NODE_PORT), "pass", Reason::FromLocalPod),
        Row("pod to load balancer", both(), from(Arrival::LocalPod, pod_here, VIP), "pass", Reason::FromLocalPod),
        Row("node to cluster IP", both(), from(Arrival::Node, node, "10.96.0.1:80"), "pass", Reason::FromNode),
        Row("node to node port", both(), from(Arrival::Node, node, NODE_PORT), "pass", Reason::FromNode),
        Row(
            "localhost to node port",
            both(),
            from(Arrival::Node, "127.0.0.1:4", "127.0.0.1:30080"),
            "pass",
            Reason::FromNode,
        ),
        Row("node to load balancer", both(), from(Arrival::Node, node, VIP), "pass", Reason::FromNode),
        Row("external to cluster IP", both(), syn(CLIENT, "10.96.0.1:80"), "pass", Reason::NotClaimed),
        Row("external to node port", both(), syn(CLIENT, NODE_PORT), here, Reason::LocalReady),
        Row("external to load balancer", both(), syn(CLIENT, VIP), here, Reason::LocalReady),
        Row("external to node port, Cluster", cluster(), syn(CLIENT, NODE_PORT), "pass", Reason::NotClaimed),
        Row("external to load balancer, Cluster", cluster(), syn(CLIENT, VIP), "pass", Reason::NotClaimed),
        Row("a Pod of another node to node port", both(), syn("10.1.0.2:4", NODE_PORT), "pass", Reason::FromCluster),
        Row("a process of another node to node port", both(), syn("10.0.0.2:4", NODE_PORT), here, Reason::LocalReady),
        Row(
            "a node port at an address that is not the node's",
            both(),
            syn(CLIENT, "10.0.0.7:30080"),
            "pass",
            Reason::NotClaimed,
        ),
        Row(
            "another protocol",
            both(),
            Packet { protocol: Protocol::Udp, ..syn(CLIENT, VIP) },
            "pass",
            Reason::NotClaimed,
        ),
        Row("the Service's port at a node address", both(), syn(CLIENT, "10.0.0.1:80"), "pass", Reason::NotClaimed),
    ]);
}

#[test]
fn kube_proxys_choice_among_terminating_endpoints_holds() {
    let to = |endpoints: &[crate::input::EndpointInput]| world([slice(endpoints.to_vec())]);
    let rows = [
        (
            "ready ones here win over terminating ones here",
            to(&[pod("10.1.0.1", "n1"), draining("10.1.0.3", "n1"), pod("10.1.0.2", "n2")]),
            "deliver to 10.1.0.1:8080",
            Reason::LocalReady,
        ),
        (
            "terminating ones here win over ready ones elsewhere",
            to(&[draining("10.1.0.1", "n1"), draining("10.1.0.3", "n1"), pod("10.1.0.2", "n2")]),
            "deliver to 10.1.0.1:8080, 10.1.0.3:8080",
            Reason::LocalDraining,
        ),
        (
            "one here that terminates and no longer serves is as none",
            to(&[crate::input::EndpointInput { serving: false, ..draining("10.1.0.1", "n1") }, pod("10.1.0.2", "n2")]),
            "drop",
            Reason::NoLocalDrop,
        ),
        ("only ready ones elsewhere", to(&[pod("10.1.0.2", "n2")]), "drop", Reason::NoLocalDrop),
        ("only terminating ones elsewhere", to(&[draining("10.1.0.2", "n2")]), "drop", Reason::NoLocalDrop),
        ("unready ones alone are as none", to(&[unready("10.1.0.1", "n1")]), "reject", Reason::Nowhere),
        ("none at all", to(&[]), "reject", Reason::Nowhere),
    ];
    hold(
        rows.into_iter()
            .map(|(sentence, input, action, reason)| Row(sentence, input, syn(CLIENT, VIP), action, reason)),
    );
}

#[test]
fn source_ranges_are_kube_proxys_to_the_letter() {
    let both = |range| with(one_here_one_elsewhere(), ranged(range));
    let none_here = |range| with(world([slice([pod("10.1.0.2", "n2")])]), ranged(range));
    let nobody = |range| with(world([]), ranged(range));
    let node_ports = |range| directed(both(range), Directive { source_ranges_on_node_ports: true, ..local() });
    let here = "deliver to 10.1.0.1:8080";
    let narrow = "203.0.113.0/24";
    hold([
        Row("a source in range", both("198.51.100.0/24"), syn(CLIENT, VIP), here, Reason::LocalReady),
        Row("a source out of range", both(narrow), syn(CLIENT, VIP), "drop", Reason::SourceRefused),
        Row("a zero range allows all", both("0.0.0.0/0"), syn(CLIENT, VIP), here, Reason::LocalReady),
        Row(
            "ranges of the other family alone allow all",
            both("2001:db8::/32"),
            syn(CLIENT, VIP),
            here,
            Reason::LocalReady,
        ),
        Row("node ports are not guarded", both(narrow), syn(CLIENT, NODE_PORT), here, Reason::LocalReady),
        Row("unless the directive says so", node_ports(narrow), syn(CLIENT, NODE_PORT), "drop", Reason::SourceRefused),
        Row("the range is asked before endpoints", none_here(narrow), syn(CLIENT, VIP), "drop", Reason::SourceRefused),
        Row("also where there are none at all", nobody(narrow), syn(CLIENT, VIP), "drop", Reason::SourceRefused),
        Row(
            "a node in range lets its load balancer addresses in",
            both("10.0.0.0/24"),
            syn("192.0.2.10:4", VIP),
            here,
            Reason::LocalReady,
        ),
        Row("a node out of range does not", both(narrow), syn("192.0.2.10:4", VIP), "drop", Reason::SourceRefused),
        Row(
            "an external IP is not guarded",
            with(
                one_here_one_elsewhere(),
                ServiceInput { external_ips: [ip("198.51.100.7")].into(), ..ranged(narrow) },
            ),
            syn(CLIENT, "198.51.100.7:80"),
            here,
            Reason::LocalReady,
        ),
    ]);
}

#[test]
fn the_nodes_own_address_rule_says_that_it_let_the_source_in() {
    let input = with(one_here_one_elsewhere(), ranged("10.0.0.0/24"));
    let (_, reasons) = ask(&input, &syn("192.0.2.10:4", VIP), &Memory::default());
    assert_eq!(reasons, [Reason::Claimed, Reason::SourceIsOwn, Reason::LocalReady]);
}

#[test]
fn a_node_without_pods_does_what_the_directive_says() {
    let cases = [
        (OnNoLocal::Drop, "drop", Reason::NoLocalDrop),
        (OnNoLocal::Reject, "reject", Reason::NoLocalReject),
        (OnNoLocal::Passthrough, "pass", Reason::NoLocalPassthrough),
        (OnNoLocal::Forward, "forward to another node", Reason::NoLocalForward),
    ];
    hold(cases.map(|(on_no_local, action, reason)| {
        let input = directed(world([slice([pod("10.1.0.2", "n2")])]), Directive { on_no_local, ..local() });
        Row("none here, one elsewhere", input, syn(CLIENT, VIP), action, reason)
    }));
}

#[test]
fn observe_says_what_it_would_do_and_does_nothing() {
    let observed = |input| directed(input, Directive { mode: Mode::Observe, ..local() });
    let would = "pass, would deliver to 10.1.0.1:8080";
    hold([
        Row("with a Pod here", observed(one_here_one_elsewhere()), syn(CLIENT, VIP), would, Reason::Observed),
        Row("with none", observed(world([])), syn(CLIENT, VIP), "pass, would reject", Reason::Observed),
        Row("what it would pass is passed", observed(world([])), syn("10.1.0.2:4", VIP), "pass", Reason::FromCluster),
    ]);
}

#[test]
fn fragments_and_the_middle_of_unknown_connections_pass_on() {
    let ack = Packet { opening: false, ..syn(CLIENT, VIP) };
    let fragment = Packet { fragment: true, ..syn(CLIENT, VIP) };
    let over = |protocol| {
        let ports = [port("http", protocol, 80, 30080)].into();
        with(one_here_one_elsewhere(), ServiceInput { ports, ..service() })
    };
    hold([
        Row("a TCP packet without SYN", one_here_one_elsewhere(), ack, "pass", Reason::MidFlow),
        Row(
            "an SCTP packet without INIT",
            over(Protocol::Sctp),
            Packet { protocol: Protocol::Sctp, ..ack },
            "pass",
            Reason::MidFlow,
        ),
        Row(
            "a datagram, which is never in the middle",
            over(Protocol::Udp),
            Packet { protocol: Protocol::Udp, ..ack },
            "reject",
            Reason::Nowhere,
        ),
        Row("a fragment", one_here_one_elsewhere(), fragment, "pass", Reason::Fragment),
    ]);
}

#[test]
fn the_families_of_a_dual_stack_service_fail_apart() {
    let dual = ServiceInput {
        families: PerFamily { v4: true, v6: true },
        load_balancer: [ip("192.0.2.10"), ip("2001:db8::10")].into(),
        ..service()
    };
    let input = || with(world([slice([pod("10.1.0.1", "n1")]), slice([pod("fd01::2", "n2")])]), dual.clone());
    hold([
        Row("IPv4", input(), syn(CLIENT, VIP), "deliver to 10.1.0.1:8080", Reason::LocalReady),
        Row("IPv6", input(), syn("[2001:db8:1::1]:4", "[2001:db8::10]:80"), "drop", Reason::NoLocalDrop),
        Row("IPv6 node port", input(), syn("[2001:db8:1::1]:4", "[fd00::1]:30080"), "drop", Reason::NoLocalDrop),
    ]);
}

/// A memory of one flow to `pod`.
fn flowing(packet: &Packet, pod: &str) -> Memory {
    let flow = Flow { service: web(), pod: pod.parse().unwrap() };
    Memory { flows: [(packet.flow(), flow)].into(), ..Memory::default() }
}

#[test]
fn a_flow_keeps_its_pod_through_every_change_of_policy_and_endpoints() {
    let ack = Packet { opening: false, ..syn(CLIENT, VIP) };
    let memory = flowing(&ack, "10.1.0.1:8080");
    let both = one_here_one_elsewhere;
    let gone_policy = || with(both(), ServiceInput { external_local: false, ..service() });
    let cases = [
        ("as before", both(), Reason::FlowKept),
        (
            "the Pod drains beside a ready one",
            world([slice([draining("10.1.0.1", "n1"), pod("10.1.0.3", "n1")])]),
            Reason::FlowKept,
        ),
        ("the Pod is unready", world([slice([unready("10.1.0.1", "n1")])]), Reason::FlowKept),
        ("its source is refused now", with(both(), ranged("203.0.113.0/24")), Reason::FlowKept),
        (
            "the directive observes now",
            directed(both(), Directive { mode: Mode::Observe, ..local() }),
            Reason::FlowKept,
        ),
        (
            "the frontend is gone",
            with(both(), ServiceInput { load_balancer: [].into(), ..service() }),
            Reason::FlowKept,
        ),
        ("the policy is Cluster now", gone_policy(), Reason::FlowOfLeft),
        ("the Service is gone", Input { services: [].into(), ..both() }, Reason::FlowOfLeft),
    ];
    for (sentence, input, reason) in cases {
        let (action, reasons) = ask(&input, &ack, &memory);
        assert_eq!((action.as_str(), reasons), ("deliver to 10.1.0.1:8080", vec![reason]), "{sentence}");
    }
}

#[test]
fn a_pod_that_is_gone_resets_its_connections_and_a_new_one_starts_afresh() {
    let input = world([slice([pod("10.1.0.1", "n1")])]);
    let open = syn(CLIENT, VIP);
    let memory = flowing(&open, "10.1.0.9:8080");
    let (action, reasons) = ask(&input, &Packet { opening: false, ..open }, &memory);
    assert_eq!((action.as_str(), reasons), ("reset", vec![Reason::FlowReset]));
    let (action, reasons) = ask(&input, &open, &memory);
    assert_eq!(action, "deliver to 10.1.0.1:8080");
    assert_eq!(reasons, [Reason::FlowForgotten, Reason::Claimed, Reason::LocalReady]);
}

#[test]
fn udp_forgets_a_pod_that_no_longer_serves_also_at_zero_endpoints() {
    let udp = |endpoints: &[crate::input::EndpointInput]| {
        let ports = [port("http", Protocol::Udp, 80, 30080)].into();
        let slice_ports = [crate::input::SlicePort { name: "http".into(), protocol: Protocol::Udp, port: 8080 }].into();
        let endpoints = endpoints.to_vec().into();
        with(world([SliceInput { ports: slice_ports, endpoints }]), ServiceInput { ports, ..service() })
    };
    let packet = Packet { protocol: Protocol::Udp, ..syn(CLIENT, VIP) };
    let memory = flowing(&packet, "10.1.0.1:8080");
    let (action, reasons) = ask(&udp(&[draining("10.1.0.1", "n1"), pod("10.1.0.3", "n1")]), &packet, &memory);
    assert_eq!((action.as_str(), reasons), ("deliver to 10.1.0.1:8080", vec![Reason::FlowKept]));
    let (action, reasons) = ask(&udp(&[unready("10.1.0.1", "n1"), pod("10.1.0.3", "n1")]), &packet, &memory);
    assert_eq!(action, "deliver to 10.1.0.3:8080");
    assert_eq!(reasons, [Reason::FlowForgotten, Reason::Claimed, Reason::LocalReady]);
    let (action, reasons) = ask(&udp(&[]), &packet, &memory);
    assert_eq!((action.as_str(), reasons.last()), ("reject", Some(&Reason::Nowhere)));
}

#[test]
fn affinity_is_of_the_port_and_the_client_whatever_the_frontend_and_ends_with_its_time() {
    let sticky = ServiceInput { affinity_seconds: Some(60), ..service() };
    let input = |endpoints: &[crate::input::EndpointInput]| with(world([slice(endpoints.to_vec())]), sticky.clone());
    let two = input(&[pod("10.1.0.1", "n1"), pod("10.1.0.3", "n1")]);
    let client: SocketAddr = CLIENT.parse().unwrap();
    let key = AffinityKey { service: web(), port: "http".into(), protocol: Protocol::Tcp, client: client.ip() };
    let bound = Bound { pod: "10.1.0.3:8080".parse().unwrap(), last: 100 };
    let at = |now| Memory { now, clients: [(key.clone(), bound)].into(), ..Memory::default() };
    let both = "deliver to 10.1.0.1:8080, 10.1.0.3:8080";
    let one_left = input(&[pod("10.1.0.1", "n1"), draining("10.1.0.3", "n1")]);
    let cases = [
        (&two, VIP, CLIENT, 160, "deliver to 10.1.0.3:8080", Reason::AffinityKept),
        (&two, NODE_PORT, "198.51.100.9:50000", 160, "deliver to 10.1.0.3:8080", Reason::AffinityKept),
        (&two, VIP, "198.51.100.8:40000", 100, both, Reason::LocalReady),
        (&two, VIP, CLIENT, 161, both, Reason::AffinityExpired),
        (&one_left, VIP, CLIENT, 100, "deliver to 10.1.0.1:8080", Reason::AffinityLost),
    ];
    for (input, destination, source, now, action, reason) in cases {
        let (found, reasons) = ask(input, &syn(source, destination), &at(now));
        assert_eq!((found.as_str(), reasons.last()), (action, Some(&reason)));
    }
}

#[test]
fn a_verdict_reads_as_its_steps_with_names_and_numbers() {
    let input = with(one_here_one_elsewhere(), ranged("198.51.100.0/24"));
    let verdict = oracle(&compile(&input).table, &syn(CLIENT, VIP), &Memory::default());
    insta::assert_snapshot!(verdict.to_string(), @r"
    deliver to 10.1.0.1:8080
      [21] 192.0.2.10:80/tcp belongs to shop/web, claimed in mode Local
      [30] its source 198.51.100.9 lies in the accepted range 198.51.100.0/24
      [40] new flows go to Pods of this node: 10.1.0.1:8080
    ");
}

#[test]
fn numbers_of_reasons_never_change() {
    let numbers: Vec<String> = Reason::ALL.iter().map(|reason| format!("{} {reason:?}", reason.number())).collect();
    insta::assert_snapshot!(numbers.join("\n"), @r"
    1 FromNode
    2 FromLocalPod
    3 Fragment
    10 FlowKept
    11 FlowOfLeft
    12 FlowForgotten
    13 FlowReset
    20 NotClaimed
    21 Claimed
    22 FromCluster
    23 MidFlow
    24 Observed
    30 SourceInRange
    31 SourceIsOwn
    32 SourceRefused
    40 LocalReady
    41 LocalDraining
    42 NoLocalDrop
    43 NoLocalReject
    44 NoLocalPassthrough
    45 NoLocalForward
    46 Nowhere
    50 AffinityKept
    51 AffinityExpired
    52 AffinityLost
    ");
}

/// A packet that opens a flow to `front`, at the node's address for a node port.
fn to(front: &FrontendEntry) -> Packet {
    let host = match front.frontend.host {
        FrontendHost::Address(address) => address,
        FrontendHost::NodePort(Family::V4) => ip("10.0.0.1"),
        FrontendHost::NodePort(Family::V6) => ip("fd00::1"),
    };
    let source = if host.is_ipv4() { CLIENT } else { "[2001:db8:1::1]:4" };
    let destination = SocketAddr::new(host, front.frontend.port);
    Packet { destination, protocol: front.frontend.protocol, ..syn(source, VIP) }
}

/// A slice whose ports and Pods those of random Services meet often.
fn dense(service: &ServiceKey) -> crate::Event {
    let protocols = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let ports: Vec<_> = (80..83_u16)
        .flat_map(|port| {
            protocols.map(|protocol| crate::input::SlicePort {
                name: port.to_string().into(),
                protocol,
                port: port + 8000,
            })
        })
        .collect();
    let slice = SliceInput {
        ports: ports.into(),
        ..slice([pod("10.1.0.1", "n1"), pod("10.1.0.2", "n1"), pod("fd01::1", "n1")])
    };
    crate::Event::Slice { service: service.clone(), name: "dense".into(), slice }
}

#[test]
fn in_any_world_a_delivered_flow_stays_and_only_claimed_frontends_are_touched() {
    let config = ProptestConfig {
        cases: 128,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(11),
        ..ProptestConfig::default()
    };
    let delivered = std::cell::Cell::new(0);
    TestRunner::new(config)
        .run(&prop::collection::vec(event(), 10..60), |events| {
            let mut index = crate::Index::default();
            for event in events {
                index.apply(event);
            }
            let keys: Vec<ServiceKey> = index.input().services.keys().cloned().collect();
            let directives = keys.iter().step_by(2).map(|key| crate::Event::Directive(key.clone(), local()));
            for event in keys.iter().map(dense).chain(directives).chain([
                crate::Event::Capacity(crate::Capacity::default()),
                crate::Event::ThisNode(input(service(), []).this_node),
            ]) {
                index.apply(event);
            }
            let table = &index.compiled().table;
            for (key, entry) in &table.services {
                for (port, front) in
                    entry.ports.iter().flat_map(|port| port.frontends.iter().map(move |front| (port, front)))
                {
                    let packet = to(front);
                    let verdict = oracle(table, &packet, &Memory::default());
                    prop_assert_eq!(verdict.because[0].reason, Reason::Claimed);
                    let unclaimed = Packet { destination: SocketAddr::new(packet.destination.ip(), 9), ..packet };
                    prop_assert_eq!(oracle(table, &unclaimed, &Memory::default()).action, Action::Pass);
                    let Action::Deliver { candidates } = verdict.action else { continue };
                    prop_assert_eq!(&candidates, &port.targets);
                    delivered.set(delivered.get() + 1);
                    for Target { hop, .. } in candidates {
                        let Hop::Pod(pod) = hop;
                        let flow = Flow { service: key.clone(), pod };
                        let memory = Memory { flows: [(packet.flow(), flow)].into(), ..Memory::default() };
                        let next = oracle(table, &Packet { opening: false, ..packet }, &memory);
                        prop_assert_eq!(next.because[0].reason, Reason::FlowKept);
                        prop_assert_eq!(next.action, Action::Deliver { candidates: vec![Target { hop, weight: 1 }] });
                    }
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(delivered.get() > 100, "only {} flows were delivered in all worlds", delivered.get());
}
