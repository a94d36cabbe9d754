//! Real packets, for whichever engine: a client, a node with our rules, and Pods behind it.
//!
//! The client is at 198.51.100.1, the node at .254 of the same network and at 2001:db8:1::fe; Pods 10.244.0.2, 10.244.0.3
//! and fd00:244::2, ::3 are behind another link. 192.0.2.99 and 192.0.2.98 are addresses of the node itself, where what we pass
//! on finds a listener, as it would find kube-proxy.

mod counted;

pub(crate) use counted::as_many_new_flows_are_counted_as_came;

use crate::namespace::Namespace;
use crate::nftables::testing::{Driven, elsewhere, guarded, observed, port, service, sticky, table, without_local};
use portreeve_table::Protocol::{Tcp, Udp};
use portreeve_table::{Engine, ForwardingTable, OnNoLocal};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, thread};

pub(crate) const POD: [&str; 2] = ["10.244.0.2:8080", "10.244.0.3:8080"];
/// Longest wait for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1000);
/// Longest wait for a connection. A refusal that comes while the client is still inside connect(2) does not end it; the one
/// that answers the second SYN, after a second, does (`tcp_v6_err` of the kernel).
const CONNECT: Duration = Duration::from_millis(2500);

pub(crate) struct World {
    pub(crate) client: Arc<Namespace>,
    pub(crate) node: Namespace,
    pub(crate) pods: Namespace,
}

impl World {
    pub(crate) fn new() -> Self {
        let (client, node, pods) = (Namespace::new(), Namespace::new(), Namespace::new());
        for namespace in [&client, &node, &pods] {
            // A router asks for neighbours from its link-local address, which is not to be waited for.
            namespace.run(|| {
                for scope in ["all", "default"] {
                    fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad"), "0").unwrap();
                }
            });
        }
        node.run(|| {
            for forwarding in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                fs::write(format!("/proc/sys/net/{forwarding}"), "1").unwrap();
            }
        });
        node.ip(&format!(
            "link set lo up
             link add eth0 type veth peer name eth0 netns {}
             link add pods type veth peer name eth0 netns {}
             addr add 198.51.100.254/24 dev eth0
             addr add 2001:db8:1::fe/64 dev eth0 nodad
             addr add 10.244.0.1/24 dev pods
             addr add fd00:244::1/64 dev pods nodad
             addr add 192.0.2.99/32 dev lo
             addr add 192.0.2.98/32 dev lo
             link set eth0 up
             link set pods up",
            client.thread(),
            pods.thread()
        ));
        client.ip("link set eth0 up
             addr add 198.51.100.1/24 dev eth0
             addr add 10.244.9.9/32 dev eth0
             addr add 2001:db8:1::1/64 dev eth0 nodad
             route add default via 198.51.100.254
             route add default via 2001:db8:1::fe");
        pods.ip("link set eth0 up
             addr add 10.244.0.2/24 dev eth0
             addr add 10.244.0.3/24 dev eth0
             addr add fd00:244::2/64 dev eth0 nodad
             addr add fd00:244::3/64 dev eth0 nodad
             route add default via 10.244.0.1
             route add default via fd00:244::1");
        for pod in POD.into_iter().chain(["[fd00:244::2]:8080", "[fd00:244::3]:8080"]) {
            serve(&pods, pod);
        }
        serve(&node, "192.0.2.99:80");
        serve(&node, "192.0.2.98:80");
        node.ip("route add 10.244.9.9 dev eth0");
        Self { client: Arc::new(client), node, pods }
    }

    /// Puts a table in force by an engine that knows nothing of what is.
    pub(crate) fn apply<E: Engine + 'static>(&self, open: fn() -> E, table: &ForwardingTable) {
        let table = table.clone();
        self.node.run(move || Driven::by(open(), "eth0").apply(&table).unwrap());
    }

    /// What answers a TCP connection: its own address and the client's, as it sees them.
    pub(crate) fn tcp(&self, to: &str) -> io::Result<(SocketAddr, SocketAddr)> {
        let to = to.parse().unwrap();
        self.client.run(move || ask(&mut TcpStream::connect_timeout(&to, CONNECT)?))
    }

    pub(crate) fn udp(&self, from: &'static str, to: &'static str) -> io::Result<(SocketAddr, SocketAddr)> {
        self.client.run(move || {
            let socket = UdpSocket::bind(from)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            socket.connect(to)?;
            socket.send(b"?")?;
            let mut answer = [0; 128];
            let length = socket.recv(&mut answer)?;
            Ok(read(&answer[..length]))
        })
    }
}

/// Answers every question over TCP and UDP with who answers and who asked.
pub(crate) fn serve(namespace: &Namespace, at: &'static str) {
    let (tcp, udp) = namespace.run(move || (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap()));
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let answer = format!("{} {}", stream.local_addr().unwrap(), stream.peer_addr().unwrap());
                while stream.read_exact(&mut [0]).is_ok() {
                    stream.write_all(format!("{answer:<127}\n").as_bytes()).unwrap();
                }
            });
        }
    });
    thread::spawn(move || {
        while let Ok((_, from)) = udp.recv_from(&mut [0; 16]) {
            udp.send_to(format!("{at} {from}").as_bytes(), from).unwrap();
        }
    });
}

pub(crate) fn ask(stream: &mut TcpStream) -> io::Result<(SocketAddr, SocketAddr)> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"?")?;
    let mut answer = [0; 128];
    stream.read_exact(&mut answer)?;
    Ok(read(&answer))
}

pub(crate) fn read(answer: &[u8]) -> (SocketAddr, SocketAddr) {
    let text = std::str::from_utf8(answer).unwrap().trim();
    let (who, asked) = text.split_once(' ').unwrap();
    (who.parse().unwrap(), asked.parse().unwrap())
}

pub(crate) fn answers(answer: io::Result<(SocketAddr, SocketAddr)>) -> (String, String) {
    let (who, asked) = answer.unwrap();
    (who.to_string(), asked.ip().to_string())
}

pub(crate) fn fails(answer: io::Result<(SocketAddr, SocketAddr)>) -> ErrorKind {
    answer.unwrap_err().kind()
}

pub(crate) fn a_client_reaches_a_pod_and_keeps_its_address<E: Engine + 'static>(open: fn() -> E) {
    let world = World::new();
    let six = ["[fd00:244::2]:8080"];
    world.apply(
        open,
        &table([
            (
                "web",
                service([
                    port(Tcp, &["192.0.2.10"], 80, 30080, &POD[..1]),
                    port(Tcp, &["2001:db8::10"], 80, 30080, &six),
                ]),
            ),
            ("dns", service([port(Udp, &["192.0.2.10"], 80, 30080, &POD[1..])])),
        ]),
    );
    let v4 = (POD[0].to_owned(), "198.51.100.1".to_owned());
    let v6 = (six[0].to_owned(), "2001:db8:1::1".to_owned());
    assert_eq!(answers(world.tcp("192.0.2.10:80")), v4, "its address");
    assert_eq!(answers(world.tcp("198.51.100.254:30080")), v4, "its node port");
    assert_eq!(answers(world.tcp("[2001:db8::10]:80")), v6, "its IPv6 address");
    assert_eq!(answers(world.tcp("[2001:db8:1::fe]:30080")), v6, "its IPv6 node port");
    let udp = (POD[1].to_owned(), "198.51.100.1".to_owned());
    assert_eq!(answers(world.udp("198.51.100.1:0", "192.0.2.10:80")), udp, "UDP");
    assert_eq!(answers(world.udp("198.51.100.1:0", "198.51.100.254:30080")), udp, "UDP at the node port");
}

pub(crate) fn without_a_local_pod_a_client_waits_is_refused_or_is_passed_on<E: Engine + 'static>(open: fn() -> E) {
    let world = World::new();
    let both = |at: &str| service([elsewhere(Tcp, &[at], 80), elsewhere(Udp, &[at], 80)]);
    // Here the node itself would answer if we did not.
    world.apply(open, &table([("a", both("192.0.2.99"))]));
    assert_eq!(fails(world.tcp("192.0.2.99:80")), ErrorKind::TimedOut);
    assert_eq!(fails(world.udp("198.51.100.1:0", "192.0.2.99:80")), ErrorKind::WouldBlock);
    world.apply(open, &table([("a", without_local(both("192.0.2.99"), OnNoLocal::Reject))]));
    assert_eq!(fails(world.tcp("192.0.2.99:80")), ErrorKind::ConnectionRefused);
    assert_eq!(fails(world.udp("198.51.100.1:0", "192.0.2.99:80")), ErrorKind::ConnectionRefused);
    world.apply(open, &table([("a", without_local(both("192.0.2.99"), OnNoLocal::Passthrough))]));
    assert_eq!(answers(world.tcp("192.0.2.99:80")).0, "192.0.2.99:80");
    let none = ["192.0.2.99", "2001:db8:1::fe"].map(|at| port(Tcp, &[at], 80, 0, &[]));
    world.apply(open, &table([("a", service(none))]));
    assert_eq!(fails(world.tcp("192.0.2.99:80")), ErrorKind::ConnectionRefused, "no Pod anywhere");
    assert_eq!(fails(world.tcp("[2001:db8:1::fe]:80")), ErrorKind::ConnectionRefused, "nor over IPv6");
}

pub(crate) fn what_is_not_ours_is_passed_on<E: Engine + 'static>(open: fn() -> E, counted: fn() -> bool) {
    let world = World::new();
    let web = |at: &str| service([port(Tcp, &[at], 80, 0, &POD), port(Udp, &[at], 80, 0, &POD)]);
    let claimed = table([("web", web("192.0.2.99"))]);
    world.apply(open, &claimed);
    let from = "198.51.100.1:0";
    assert_eq!(answers(world.tcp("192.0.2.98:80")).0, "192.0.2.98:80", "what nobody claimed");
    assert!(POD.contains(&answers(world.udp(from, "192.0.2.99:80")).0.as_str()));
    assert_eq!(answers(world.udp("10.244.9.9:0", "192.0.2.99:80")).0, "192.0.2.99:80", "from a Pod range");
    world.apply(open, &table([("web", observed(web("192.0.2.99")))]));
    assert_eq!(answers(world.tcp("192.0.2.99:80")).0, "192.0.2.99:80", "what is only observed");
    assert!(world.node.run(counted), "it is counted");
    world.node.run(move || Driven::by(open(), "eth1").apply(&claimed).unwrap());
    assert_eq!(answers(world.tcp("192.0.2.99:80")).0, "192.0.2.99:80", "what comes on no uplink");
}

pub(crate) fn an_established_connection_outlives_its_service<E: Engine + 'static>(open: fn() -> E) {
    let world = World::new();
    world.apply(open, &table([("web", service([port(Tcp, &["192.0.2.99"], 80, 0, &POD[..1])]))]));
    let to = "192.0.2.99:80".parse().unwrap();
    let mut stream = world.client.run(move || TcpStream::connect_timeout(&to, CONNECT).unwrap());
    assert_eq!(ask(&mut stream).unwrap().0.to_string(), POD[0]);
    for table in [table([("web", service([elsewhere(Tcp, &["192.0.2.99"], 80)]))]), table([])] {
        world.apply(open, &table);
        assert_eq!(ask(&mut stream).unwrap().0.to_string(), POD[0]);
    }
    assert_eq!(answers(world.tcp("192.0.2.99:80")).0, "192.0.2.99:80", "a new one does not go there");
}

pub(crate) fn all_pods_are_chosen_and_a_bound_client_stays_with_one<E: Engine + 'static>(open: fn() -> E) {
    let world = World::new();
    let web = |pods: &[&str]| service([port(Tcp, &["192.0.2.10"], 80, 30080, pods)]);
    let ask = |times| -> BTreeSet<String> { (0..times).map(|_| answers(world.tcp("192.0.2.10:80")).0).collect() };
    world.apply(open, &table([("web", web(&POD))]));
    assert_eq!(ask(40).len(), 2, "40 connections miss one of two Pods once in 5 * 10^11 runs");
    let mut driven = Some(world.node.run(move || Driven::by(open(), "eth0")));
    let mut in_force = |pods: &[&str]| {
        let table = table([("web", sticky(web(pods)))]);
        let mut engine = driven.take().unwrap();
        driven = Some(world.node.run(move || {
            engine.apply(&table).unwrap();
            engine
        }));
    };
    in_force(&POD);
    let bound = ask(20);
    assert_eq!(bound.len(), 1);
    assert_eq!(answers(world.tcp("198.51.100.254:30080")).0, *bound.first().unwrap(), "the node port agrees");
    let other: Vec<&str> = POD.into_iter().filter(|pod| !bound.contains(*pod)).collect();
    in_force(&other);
    assert_eq!(ask(3), BTreeSet::from([other[0].to_owned()]), "its Pod has gone");
    in_force(&POD);
    assert_eq!(ask(20), BTreeSet::from([other[0].to_owned()]), "it is bound to the other one now");
}

pub(crate) fn a_bound_client_keeps_its_pod_when_another_engine_begins<E: Engine + 'static>(open: fn() -> E) {
    let world = World::new();
    let bound = |number: u16| {
        let ports = [
            port(Tcp, &["192.0.2.10"], 80, 0, &POD),
            port(Tcp, &["2001:db8::10"], 80, 0, &["[fd00:244::2]:8080", "[fd00:244::3]:8080"]),
        ];
        // Each time with another Service beside it.
        let other = service([port(Udp, &["192.0.2.11"], 1000 + number, 0, &POD)]);
        table([("web", sticky(service(ports))), ("other", other)])
    };
    let asked = || ["192.0.2.10:80", "[2001:db8::10]:80"].map(|to| answers(world.tcp(to)).0);
    world.apply(open, &bound(0));
    let first = asked();
    for number in 1..=16 {
        world.apply(open, &bound(number));
        assert_eq!(asked(), first, "both agree by chance once in 4 * 10^9 runs");
    }
}

pub(crate) fn a_guarded_address_accepts_its_ranges_alone<E: Engine + 'static>(open: fn() -> E) {
    let world = World::new();
    let web = || service([port(Tcp, &["192.0.2.10"], 80, 30080, &POD[..1])]);
    world.apply(open, &table([("web", guarded(web(), &["203.0.113.0/24"], false))]));
    assert_eq!(fails(world.tcp("192.0.2.10:80")), ErrorKind::TimedOut);
    assert_eq!(answers(world.tcp("198.51.100.254:30080")).0, POD[0], "node ports are not guarded");
    world.apply(open, &table([("web", guarded(web(), &["198.51.100.0/31", "203.0.113.0/24"], false))]));
    assert_eq!(answers(world.tcp("192.0.2.10:80")).0, POD[0]);
}
