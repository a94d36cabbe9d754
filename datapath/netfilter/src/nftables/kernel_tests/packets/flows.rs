//! Flows whose Pod is gone, and those beside them that go on. The Pods themselves live and would answer: what ends a flow
//! here is what we do, and nothing else.

use super::super::namespace::{Namespace, privileged};
use super::super::{listed, load};
use super::{Driven, PATIENCE, POD, World, answers, ask, fails, port, read, service, table};
use crate::conntrack::{Flow, Flows};
use crate::nftables::ruleset;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
use portreeve_table::Protocol::{Tcp, Udp};
use portreeve_table::{ForwardingTable, Integrity, Op, ServiceEntry, diff};
use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const CLIENT: &str = "198.51.100.1:0";
const WEB: &str = "192.0.2.10:80";
const OTHER: &str = "192.0.2.11:80";

fn both(at: &str, pods: &[&str]) -> ServiceEntry {
    service([port(Tcp, &[at], 80, 0, pods), port(Udp, &[at], 80, 0, pods)])
}

/// Two Services with Pods of their own choice.
fn two(web: &[&str], other: &[&str]) -> ForwardingTable {
    table([("web", both("192.0.2.10", web)), ("other", both("192.0.2.11", other))])
}

fn drive(world: &World, table: ForwardingTable) -> Driven {
    world.node.run(move || {
        let mut driven = Driven::on("eth0");
        driven.apply(&table).unwrap();
        driven
    })
}

fn udp(world: &World, from: &'static str, to: &'static str) -> UdpSocket {
    world.client.run(move || {
        let socket = UdpSocket::bind(from).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(to).unwrap();
        socket
    })
}

fn asks(socket: &UdpSocket) -> io::Result<(SocketAddr, SocketAddr)> {
    socket.send(b"?")?;
    let mut answer = [0; 128];
    let length = socket.recv(&mut answer)?;
    Ok(read(&answer[..length]))
}

fn tcp(namespace: &Namespace, from: &str, to: &str) -> TcpStream {
    let [from, to]: [SocketAddr; 2] = [from, to].map(|address| address.parse().unwrap());
    namespace.run(move || {
        let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        let raw = std::os::fd::AsRawFd::as_raw_fd(&socket);
        bind(raw, &SockaddrStorage::from(from)).unwrap();
        connect(raw, &SockaddrStorage::from(to)).unwrap();
        TcpStream::from(socket)
    })
}

#[test]
fn a_client_of_udp_that_keeps_its_port_reaches_another_pod_at_once() {
    privileged("packets::flows::a_client_of_udp_that_keeps_its_port_reaches_another_pod_at_once", || {
        let world = World::new();
        let mut driven = drive(&world, two(&POD[..1], &POD[..1]));
        let (web, other) = (udp(&world, CLIENT, WEB), udp(&world, CLIENT, OTHER));
        assert_eq!(answers(asks(&web)).0, POD[0]);
        assert_eq!(answers(asks(&other)).0, POD[0]);
        driven.apply(&two(&POD[1..], &POD[..1])).unwrap();
        assert_eq!(answers(asks(&web)).0, POD[1], "the next datagram");
        assert_eq!(answers(asks(&other)).0, POD[0], "a flow of another Service to the same Pod");
        driven.apply(&two(&[], &POD[..1])).unwrap();
        assert_eq!(fails(asks(&web)), ErrorKind::ConnectionRefused, "without any Pod it is forgotten too");
        assert_eq!(answers(asks(&other)).0, POD[0]);
        driven.apply(&two(&POD, &POD[..1])).unwrap();
        assert!(POD.contains(&answers(asks(&web)).0.as_str()));
    });
}

#[test]
fn a_client_of_tcp_is_reset_with_its_next_packet() {
    privileged("packets::flows::a_client_of_tcp_is_reset_with_its_next_packet", || {
        let world = World::new();
        let mut driven = drive(&world, two(&POD[..1], &POD[..1]));
        let from = "198.51.100.1:44444";
        let mut web = tcp(&world.client, from, WEB);
        let mut closing = tcp(&world.client, CLIENT, WEB);
        let mut other = tcp(&world.client, CLIENT, OTHER);
        for stream in [&mut web, &mut closing, &mut other] {
            assert_eq!(answers(ask(stream)).0, POD[0]);
        }
        driven.apply(&two(&POD[1..], &POD[..1])).unwrap();
        assert_eq!(fails(ask(&mut web)), ErrorKind::ConnectionReset);
        closing.shutdown(Shutdown::Write).unwrap();
        assert_eq!(closing.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset, "a FIN is answered too");
        assert_eq!(answers(ask(&mut other)).0, POD[0], "a flow of another Service to the same Pod");
        drop(web);
        let mut again = tcp(&world.client, from, WEB);
        for _ in 0..3 {
            assert_eq!(answers(ask(&mut again)).0, POD[1], "a new connection from the same port");
        }
        driven.apply(&two(&POD[..1], &POD[..1])).unwrap();
        assert_eq!(fails(ask(&mut again)), ErrorKind::ConnectionReset, "and its Pod goes as well");
        assert_eq!(answers(ask(&mut other)).0, POD[0]);
        assert_eq!(driven.integrity(), Integrity::Intact);
    });
}

#[test]
fn flows_of_the_other_family_and_of_a_node_port_end_as_well() {
    privileged("packets::flows::flows_of_the_other_family_and_of_a_node_port_end_as_well", || {
        let world = World::new();
        let web = |four: &[&str], six: &[&str]| {
            let ports = [Tcp, Udp].map(|protocol| {
                [port(protocol, &["192.0.2.10"], 80, 30080, four), port(protocol, &["2001:db8::10"], 80, 30080, six)]
            });
            table([("web", service(ports.concat()))])
        };
        let mut driven = drive(&world, web(&POD[..1], &["[fd00:244::2]:8080"]));
        let ends = [(CLIENT, "198.51.100.254:30080"), ("[2001:db8:1::1]:0", "[2001:db8::10]:80")];
        let ends = [ends[0], ends[1], ("[2001:db8:1::1]:0", "[2001:db8:1::fe]:30080")];
        let mut flows = ends.map(|(from, to)| (tcp(&world.client, from, to), udp(&world, from, to)));
        for (tcp, udp) in &mut flows {
            assert!(ask(tcp).is_ok() && asks(udp).is_ok());
        }
        driven.apply(&web(&[], &[])).unwrap();
        for (tcp, udp) in &mut flows {
            assert_eq!(fails(ask(tcp)), ErrorKind::ConnectionReset);
            assert_eq!(fails(asks(udp)), ErrorKind::ConnectionRefused);
        }
    });
}

#[test]
fn flows_that_others_own_go_on() {
    privileged("packets::flows::flows_that_others_own_go_on", || {
        let world = World::new();
        world.node.run(|| {
            load(
                "table ip theirs {
                    chain prerouting {
                        type nat hook prerouting priority dstnat;
                        ip daddr { 192.0.2.10, 192.0.2.12 } tcp dport 80 dnat to 10.244.0.2:8080
                        ip daddr { 192.0.2.10, 192.0.2.12 } udp dport 80 dnat to 10.244.0.2:8080
                    }
                }",
            );
        });
        let mut driven = drive(&world, two(&POD[..1], &[]));
        let ends = [("10.244.9.9:0", WEB), (CLIENT, "192.0.2.12:80")];
        let mut flows = ends.map(|(from, to)| (tcp(&world.client, from, to), udp(&world, from, to)));
        let mut go_on = || {
            for (tcp, udp) in &mut flows {
                assert_eq!(answers(ask(tcp)).0, POD[0]);
                assert_eq!(answers(asks(udp)).0, POD[0]);
            }
        };
        go_on();
        driven.apply(&two(&POD[1..], &[])).unwrap();
        go_on();
        driven.apply(&two(&[], &[])).unwrap();
        assert_eq!(driven.sweep(), 0);
        go_on();
    });
}

#[test]
fn a_pod_that_went_while_no_agent_ran_is_swept_after() {
    privileged("packets::flows::a_pod_that_went_while_no_agent_ran_is_swept_after", || {
        let world = World::new();
        drop(drive(&world, two(&POD[..1], &POD[..1])));
        let (mut web, mut other) = (tcp(&world.client, CLIENT, WEB), tcp(&world.client, CLIENT, OTHER));
        let datagrams = udp(&world, CLIENT, WEB);
        assert!(ask(&mut web).is_ok() && ask(&mut other).is_ok() && asks(&datagrams).is_ok());
        let mut driven = drive(&world, two(&POD[1..], &POD[..1]));
        assert_eq!(answers(ask(&mut web)).0, POD[0], "the first table of a new life ends nothing");
        assert_eq!(driven.sweep(), 2);
        assert_eq!(fails(ask(&mut web)), ErrorKind::ConnectionReset);
        assert_eq!(answers(asks(&datagrams)).0, POD[1]);
        assert_eq!(answers(ask(&mut other)).0, POD[0]);
        assert_eq!(driven.sweep(), 0);
    });
}

/// A flow of each transport.
fn flows(world: &World, to: &'static str) -> (TcpStream, UdpSocket) {
    (tcp(&world.client, CLIENT, to), udp(world, CLIENT, to))
}

/// The Pod that answers both.
fn pod((tcp, udp): &mut (TcpStream, UdpSocket)) -> String {
    let pod = answers(ask(tcp)).0;
    assert_eq!(answers(asks(udp)).0, pod);
    pod
}

#[test]
fn a_frontend_that_is_given_up_ends_no_flow_and_its_flows_end_with_their_pod() {
    privileged("packets::flows::a_frontend_that_is_given_up_ends_no_flow_and_its_flows_end_with_their_pod", || {
        let world = World::new();
        let at = |addresses: &[&str], pods: &[&str]| {
            let ports = [Tcp, Udp].map(|protocol| port(protocol, addresses, 80, 0, pods));
            table([("web", service(ports)), ("other", both("192.0.2.11", &POD[..1]))])
        };
        let mut driven = drive(&world, at(&["192.0.2.10", "192.0.2.12"], &POD[..1]));
        let (mut stays, mut given_up) = (flows(&world, WEB), flows(&world, "192.0.2.12:80"));
        let mut other = flows(&world, OTHER);
        for flow in [&mut stays, &mut given_up, &mut other] {
            assert_eq!(pod(flow), POD[0]);
        }
        driven.apply(&at(&["192.0.2.10"], &POD[..1])).unwrap();
        assert_eq!((pod(&mut given_up), pod(&mut stays)), (POD[0].to_owned(), POD[0].to_owned()), "the Pod lives");
        driven.apply(&at(&["192.0.2.10"], &POD[1..])).unwrap();
        for (tcp, _) in [&mut stays, &mut given_up] {
            assert_eq!(fails(ask(tcp)), ErrorKind::ConnectionReset);
        }
        assert!(asks(&given_up.1).is_err(), "nobody has that frontend");
        assert_eq!(answers(asks(&stays.1)).0, POD[1]);
        assert_eq!(pod(&mut other), POD[0]);
    });
}

#[test]
fn a_service_that_leaves_ends_no_flow_and_one_that_leaves_with_its_pod_or_comes_back_without_it_does() {
    privileged(
        "packets::flows::a_service_that_leaves_ends_no_flow_and_one_that_leaves_with_its_pod_or_comes_back_without_it_does",
        || {
            let world = World::new();
            let (all, without) = (two(&POD[..1], &POD[..1]), table([("other", both("192.0.2.11", &POD[..1]))]));
            let mut driven = drive(&world, all.clone());
            let (mut web, mut other) = (flows(&world, WEB), flows(&world, OTHER));
            assert_eq!((pod(&mut web), pod(&mut other)), (POD[0].to_owned(), POD[0].to_owned()));
            driven.apply(&without).unwrap();
            assert_eq!(pod(&mut web), POD[0], "it is released, and its Pod lives");
            driven.apply(&all).unwrap();
            assert_eq!(pod(&mut web), POD[0], "it is back");
            driven.apply(&without).unwrap();
            driven.apply(&two(&POD[1..], &POD[..1])).unwrap();
            assert_eq!(fails(ask(&mut web.0)), ErrorKind::ConnectionReset, "it is back without the Pod");
            assert_eq!(answers(asks(&web.1)).0, POD[1]);

            let mut web = flows(&world, WEB);
            assert_eq!(pod(&mut web), POD[1]);
            let key = portreeve_table::ServiceKey::new("shop", "web");
            let gone = |protocol| Op::Gone { service: key.clone(), protocol, pod: POD[1].parse().unwrap() };
            let mut steps = diff(&two(&POD[1..], &POD[..1]), &without);
            steps.extend([gone(Tcp), gone(Udp)]);
            driven.apply_by(&without, &steps).unwrap();
            assert_eq!(fails(ask(&mut web.0)), ErrorKind::ConnectionReset);
            assert!(asks(&web.1).is_err(), "nobody has that frontend");
            assert_eq!(pod(&mut other), POD[0]);
        },
    );
}

#[test]
fn what_could_not_be_ended_is_ended_with_the_next_attempt() {
    privileged("packets::flows::what_could_not_be_ended_is_ended_with_the_next_attempt", || {
        let world = World::new();
        let (before, after) = (two(&POD[..1], &[]), two(&[], &[]));
        drop(drive(&world, before.clone()));
        let (mut web, datagrams) = (tcp(&world.client, CLIENT, WEB), udp(&world, CLIENT, WEB));
        assert!(ask(&mut web).is_ok() && asks(&datagrams).is_ok());
        let (first, second) = world.node.run(move || {
            let mut flows = Flows::open().unwrap();
            flows.note(&diff(&ForwardingTable::default(), &before), &before);
            flows.note(&diff(&before, &after), &after);
            let first = flows.end(&after, |_| Err("there is no rule".into()));
            let first = first.unwrap_err().to_string();
            let mut told = Vec::new();
            let second = flows.end(&after, |flows| {
                told.extend_from_slice(flows);
                Ok(())
            });
            assert_eq!(told.len(), 1);
            (first, second.unwrap())
        });
        assert!(first.contains("there is no rule"), "{first}");
        assert_eq!(second, 1, "that of TCP: the datagrams were forgotten in spite of the error");
    });
}

#[test]
fn the_rules_that_reset_are_there_only_while_somebody_may_come() {
    privileged("packets::flows::the_rules_that_reset_are_there_only_while_somebody_may_come", || {
        let world = World::new();
        let resets = || world.node.run(|| nft(&["list", "table", "inet", "portreeve-resets"]));
        let mut driven = drive(&world, two(&POD[..1], &[]));
        let mut web = tcp(&world.client, "198.51.100.1:44444", WEB);
        assert!(ask(&mut web).is_ok());
        driven.apply(&two(&POD, &[])).unwrap();
        assert_eq!(resets(), None, "no Pod is gone");
        driven.apply(&two(&POD[1..], &[])).unwrap();
        let told = Flow::sample(Tcp, "198.51.100.1:44444", WEB, POD[0]);
        let text = ruleset::resets(&[told], Duration::from_secs(300)).to_string();
        let from_text = Namespace::new().run(move || {
            load(&text.replace("table inet portreeve", "table inet portreeve-resets"));
            nft(&["list", "ruleset"])
        });
        assert_eq!(without_times(&resets().unwrap()), without_times(&from_text.unwrap()));
        drop(driven);
        let mut driven = drive(&world, two(&POD[1..], &[]));
        assert_eq!(fails(ask(&mut web)), ErrorKind::ConnectionReset, "another life of the engine tells it as well");
        driven.let_resets_be_over();
        assert_eq!(driven.integrity(), Integrity::Intact);
        assert_eq!(resets(), None);
        let _web = tcp(&world.client, CLIENT, WEB);
        driven.apply(&two(&[], &[])).unwrap();
        assert!(resets().is_some());
        driven.remove();
        assert_eq!(world.node.run(listed), [""]);
    });
}

fn nft(arguments: &[&str]) -> Option<String> {
    let output = std::process::Command::new("nft").args(arguments).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// What nft(8) says but what is left of the time.
fn without_times(text: &str) -> Vec<&str> {
    let mut words = text.split_whitespace();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if word == "expires" {
            words.next()
        } else {
            None
        };
        kept.push(word);
    }
    kept
}

#[test]
#[expect(clippy::print_stdout, reason = "how long it takes is of interest, and no reason to fail on a busy machine")]
fn ten_thousand_flows_beside_that_of_the_pod_stay() {
    privileged("packets::flows::ten_thousand_flows_beside_that_of_the_pod_stay", || {
        const BESIDE: usize = 10_000;
        for beside in POD {
            let world = World::new();
            let mut driven = drive(&world, two(&POD[..1], &[beside]));
            world.client.run(|| {
                for number in 0..BESIDE {
                    let socket = UdpSocket::bind(("198.51.100.1", u16::try_from(10_000 + number).unwrap())).unwrap();
                    socket.send_to(b"?", OTHER).unwrap();
                }
            });
            let (mut web, datagrams) = (tcp(&world.client, CLIENT, WEB), udp(&world, CLIENT, WEB));
            assert!(ask(&mut web).is_ok() && asks(&datagrams).is_ok());
            let count = || world.node.run(|| fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count").unwrap());
            let count = || count().trim().parse::<usize>().unwrap();
            let before = count();
            assert!(before > BESIDE, "{before}");
            let next = two(&POD[1..], &[beside]);
            let start = Instant::now();
            driven.apply(&next).unwrap();
            let ended = start.elapsed();
            let start = Instant::now();
            assert_eq!(driven.sweep(), 0);
            println!("{} gone, {before} flows, most to {beside}: {ended:?}; a sweep: {:?}", POD[0], start.elapsed());
            assert_eq!(fails(ask(&mut web)), ErrorKind::ConnectionReset);
            assert_eq!(answers(asks(&datagrams)).0, POD[1]);
            assert!(count() >= before - 2, "those beside it are there");
            let start = Instant::now();
            driven.apply(&two(&POD[1..], &[])).unwrap();
            println!("their Pod gone too: {:?}", start.elapsed());
            assert!(count() < 10, "all of them are forgotten");
        }
    });
}
