use super::*;
use crate::compile;
use crate::index::Index;
use crate::input::{EndpointInput, Input, ServiceInput, SliceInput, SlicePort};
use crate::oracle::{Arrival, Flow, Memory, Packet, Reason, oracle};
use crate::testing::world::event;
use crate::testing::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn table(endpoints: &[EndpointInput]) -> ForwardingTable {
    compile(&input(service(), [slice(endpoints.to_vec())])).table
}

fn steps(old: &ForwardingTable, new: &ForwardingTable) -> Vec<String> {
    diff(old, new).iter().map(ToString::to_string).collect()
}

fn after(old: &ForwardingTable, steps: &[Op]) -> ForwardingTable {
    let mut table = old.clone();
    apply(&mut table, steps);
    table
}

#[test]
fn a_service_is_added_replaced_and_removed_as_a_whole() {
    let (none, one) = (ForwardingTable::default(), table(&[pod("10.1.0.1", "n1")]));
    assert_eq!(steps(&none, &one), ["node addresses: 10.0.0.1, fd00::1", "add shop/web"]);
    assert_eq!(steps(&one, &table(&[pod("10.1.0.1", "n1"), pod("10.1.0.2", "n1")])), ["replace shop/web"]);
    assert_eq!(steps(&one, &none), ["node addresses: none", "remove shop/web"]);
    assert!(steps(&one, &one.clone()).is_empty());
}

#[test]
fn a_pod_that_drains_is_not_gone_and_one_that_left_its_slices_is() {
    let both = table(&[pod("10.1.0.1", "n1"), pod("10.1.0.2", "n1")]);
    let drains = table(&[draining("10.1.0.1", "n1"), pod("10.1.0.2", "n1")]);
    assert_eq!(steps(&both, &drains), ["replace shop/web"]);
    let left = table(&[pod("10.1.0.2", "n1")]);
    assert_eq!(steps(&drains, &left), ["replace shop/web", "gone: 10.1.0.1:8080/tcp of shop/web"]);
}

#[test]
fn udp_flows_are_flushed_also_when_the_last_endpoint_stops_serving() {
    let udp = |endpoints: &[EndpointInput]| {
        let ports = [port("http", Protocol::Udp, 80, 30080)].into();
        let slice_ports = [SlicePort { name: "http".into(), protocol: Protocol::Udp, port: 8080 }].into();
        let slice = SliceInput { ports: slice_ports, endpoints: endpoints.to_vec().into() };
        compile(&input(ServiceInput { ports, ..service() }, [slice])).table
    };
    let one = udp(&[pod("10.1.0.1", "n1")]);
    let gone = ["replace shop/web", "gone: 10.1.0.1:8080/udp of shop/web"];
    assert_eq!(steps(&one, &udp(&[unready("10.1.0.1", "n1")])), gone);
    assert_eq!(steps(&one, &udp(&[])), gone);
    assert_eq!(steps(&one, &udp(&[draining("10.1.0.1", "n1")])), ["replace shop/web"]);
}

#[test]
fn flows_that_outlive_their_claim_ask_the_slices() {
    let world =
        |endpoints: &[EndpointInput]| Input { directives: [].into(), ..input(service(), [slice(endpoints.to_vec())]) };
    let pod_here = "10.1.0.1:8080".parse().unwrap();
    let keeps = |endpoints: &[EndpointInput], protocol| world(endpoints).keeps(&web(), protocol, pod_here);
    assert!(keeps(&[unready("10.1.0.1", "n1")], Protocol::Tcp));
    assert!(!keeps(&[pod("10.1.0.1", "n1")], Protocol::Udp), "the slice's port is TCP");
    assert!(!keeps(&[pod("10.1.0.1", "n2")], Protocol::Tcp), "it is not of this node");
    assert!(!keeps(&[], Protocol::Tcp));
}

/// A packet in the middle of a flow of `service` to `pod`, and the memory of that flow.
fn flowing(service: &ServiceKey, protocol: Protocol, pod: SocketAddr) -> (Packet, Memory) {
    let [source, destination] =
        if pod.is_ipv4() { ["198.51.100.9:4", "192.0.2.1:80"] } else { ["[2001:db8:1::1]:4", "[2001:db8::1]:80"] };
    let packet = Packet {
        arrival: Arrival::Uplink,
        protocol,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        opening: false,
        fragment: false,
    };
    let flow = Flow { service: service.clone(), pod };
    (packet, Memory { flows: [(packet.flow(), flow)].into(), ..Memory::default() })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn the_steps_lead_to_the_new_table_touch_only_what_differs_and_end_the_flows_that_the_oracle_ends(
        first in prop::collection::vec(event(), 0..40), then in prop::collection::vec(event(), 0..6),
    ) {
        let mut index = Index::default();
        for event in first {
            index.apply(event);
        }
        let old = index.compiled().table.clone();
        let mut touched = BTreeSet::new();
        for event in then {
            touched.extend(index.apply(event).touched());
        }
        let new = &index.compiled().table;
        let ops = diff(&old, new);
        prop_assert_eq!(&diff_of(&old, new, &touched), &ops);
        prop_assert_eq!(&after(&old, &ops), new);
        for (number, op) in ops.iter().enumerate() {
            match op {
                Op::Gone { .. } => {}
                _ => {
                    let others: Vec<Op> = ops.iter().enumerate().filter(|(at, _)| *at != number).map(|(_, op)| op.clone()).collect();
                    prop_assert_ne!(&after(&old, &others), new, "{} is not needed", op);
                }
            }
        }
        for (key, entry) in &old.services {
            for (protocol, pod) in entry.keeping() {
                let (packet, memory) = flowing(key, protocol, pod);
                prop_assert_eq!(oracle(&old, &packet, &memory).because[0].reason, Reason::FlowKept);
                let ended = matches!(
                    oracle(new, &packet, &memory).because[0].reason,
                    Reason::FlowReset | Reason::FlowForgotten
                );
                let gone = Op::Gone { service: key.clone(), protocol, pod };
                prop_assert_eq!(ops.contains(&gone), ended, "{}", gone);
            }
        }
    }
}
