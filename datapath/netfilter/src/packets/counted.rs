//! New flows are counted by the Pod that they are given to.

use super::{POD, World, answers, read};
use crate::nftables::testing::{Driven, observed, port, service, sticky, table};
use portreeve_table::Protocol::{Tcp, Udp};
use portreeve_table::{Engine, ForwardingTable, PodFlows, Protocol, ServiceEntry};
use std::collections::BTreeMap;
use std::net::UdpSocket;

const SIX: &str = "[fd00:244::2]:8080";

/// An engine on the node of a world, which lives through several tables.
struct Counting<'a, E> {
    world: &'a World,
    driven: Option<Driven<E>>,
}

impl<'a, E: Engine + 'static> Counting<'a, E> {
    fn new(world: &'a World, open: fn() -> E) -> Self {
        Self { world, driven: Some(world.node.run(move || Driven::by(open(), "eth0"))) }
    }

    fn with<T: Send + 'static>(&mut self, work: impl FnOnce(&mut Driven<E>) -> T + Send + 'static) -> T {
        let mut driven = self.driven.take().unwrap();
        let (driven, done) = self.world.node.run(move || {
            let done = work(&mut driven);
            (driven, done)
        });
        self.driven = Some(driven);
        done
    }

    fn apply(&mut self, table: ForwardingTable) {
        self.with(move |driven| {
            driven.apply(&table).unwrap();
        });
    }

    fn flows(&mut self, service: &'static str) -> BTreeMap<(Protocol, String), u64> {
        let flows = self.with(move |driven| driven.flows(service).unwrap());
        flows.into_iter().map(|PodFlows { protocol, pod, flows }| ((protocol, pod.to_string()), flows)).collect()
    }
}

fn expected<const PODS: usize>(of: [(Protocol, &str, u64); PODS]) -> BTreeMap<(Protocol, String), u64> {
    of.into_iter().map(|(protocol, pod, flows)| ((protocol, pod.to_owned()), flows)).collect()
}

/// Both families and transports, at an address and at a node port.
fn web(pods: &[&str]) -> ServiceEntry {
    let ports = [Tcp, Udp].map(|protocol| {
        [
            port(protocol, &["192.0.2.10", "192.0.2.11"], 80, 30080, pods),
            port(protocol, &["2001:db8::10"], 80, 30080, &[SIX]),
        ]
    });
    service(ports.concat())
}

pub(crate) fn as_many_new_flows_are_counted_as_came<E: Engine + 'static>(open: fn() -> E) {
    let world = World::new();
    let mut engine = Counting::new(&world, open);
    engine.apply(table([("web", web(&POD)), ("sticky", sticky(at("192.0.2.30", &POD)))]));
    let none = expected([
        (Tcp, POD[0], 0),
        (Tcp, POD[1], 0),
        (Tcp, SIX, 0),
        (Udp, POD[0], 0),
        (Udp, POD[1], 0),
        (Udp, SIX, 0),
    ]);
    assert_eq!(engine.flows("web"), none);
    let mut came = none;
    for _ in 0..4 {
        for to in ["192.0.2.10:80", "192.0.2.11:80", "198.51.100.254:30080", "[2001:db8::10]:80"] {
            *came.get_mut(&(Tcp, answers(world.tcp(to)).0)).unwrap() += 1;
            let from = if to.starts_with('[') { "[2001:db8:1::1]:0" } else { "198.51.100.1:0" };
            *came.get_mut(&(Udp, answers(world.udp(from, to)).0)).unwrap() += 1;
        }
        *came.get_mut(&(Tcp, answers(world.tcp("[2001:db8:1::fe]:30080")).0)).unwrap() += 1;
    }
    *came.get_mut(&(Udp, conversation(&world))).unwrap() += 1;
    assert_eq!(engine.flows("web"), came);
    assert_eq!(engine.flows("web"), came, "being read changes nothing");

    // Another Service with an address beside ours.
    engine.apply(table([
        ("web", web(&POD)),
        ("sticky", sticky(at("192.0.2.30", &POD))),
        ("other", at("192.0.2.12", &POD[..1])),
    ]));
    *came.get_mut(&(Tcp, answers(world.tcp("192.0.2.10:80")).0)).unwrap() += 1;
    assert_eq!(engine.flows("web"), came, "what others do begins no count anew");
    assert_eq!(engine.flows("other"), expected([(Tcp, POD[0], 0)]));
    assert_eq!(engine.flows("nobody"), BTreeMap::new());

    assert_eq!(engine.flows("sticky"), expected([(Tcp, POD[0], 0), (Tcp, POD[1], 0)]));
    let bound = answers(world.tcp("192.0.2.30:80")).0;
    for _ in 0..5 {
        assert_eq!(answers(world.tcp("192.0.2.30:80")).0, bound);
    }
    let of = |pod: &str| if bound == pod { 6 } else { 0 };
    assert_eq!(engine.flows("sticky"), expected([(Tcp, POD[0], of(POD[0])), (Tcp, POD[1], of(POD[1]))]));

    engine.apply(table([("web", web(&POD[..1])), ("sticky", observed(at("192.0.2.99", &POD)))]));
    for _ in 0..3 {
        assert_eq!(answers(world.tcp("192.0.2.11:80")).0, POD[0]);
        assert_eq!(answers(world.tcp("192.0.2.99:80")).0, "192.0.2.99:80");
    }
    let last = engine.flows("web");
    assert!(last[&(Tcp, POD[0].to_owned())] >= 3 && !last.contains_key(&(Tcp, POD[1].to_owned())), "{last:?}");
    assert_eq!(engine.flows("sticky"), BTreeMap::new(), "what is only observed is given to no Pod");
}

fn at(address: &str, pods: &[&str]) -> ServiceEntry {
    service([port(Tcp, &[address], 80, 0, pods)])
}

/// Three questions of one flow of datagrams.
fn conversation(world: &World) -> String {
    let answers = world.client.run(|| {
        let socket = UdpSocket::bind("198.51.100.1:0").unwrap();
        socket.set_read_timeout(Some(super::PATIENCE)).unwrap();
        socket.connect("192.0.2.10:80").unwrap();
        let ask = |_| {
            socket.send(b"?").unwrap();
            let mut answer = [0; 128];
            let length = socket.recv(&mut answer).unwrap();
            read(&answer[..length]).0.to_string()
        };
        [0; 3].map(ask)
    });
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    answers[0].clone()
}
