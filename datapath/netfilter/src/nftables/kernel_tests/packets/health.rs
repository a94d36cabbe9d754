//! Health checks of a node port that somebody else holds, as kube-proxy does: who answers them before, while we do, when we
//! stop, when we are killed and when we hang.

use super::super::super::testing::{Driven, checked, observed, port, service, table};
use super::super::namespace::privileged;
use super::{POD, World, answers, serve};
use nix::sys::socket::{setsockopt, sockopt};
use portreeve_table::Protocol::Tcp;
use portreeve_table::{ForwardingTable, HEALTH_CHECK_LEASE, ServiceEntry};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{env, thread};

const NODE: &str = "198.51.100.254:31239";
const NODE6: &str = "[2001:db8:1::fe]:31239";
/// What our listeners call themselves: nobody has this address.
const OURS: &str = "203.0.113.113:1";
/// The name of the test that is another process of the others.
const PROCESS: &str = "nftables::kernel_tests::packets::health::process";

fn web() -> ServiceEntry {
    let six = port(Tcp, &["2001:db8::10"], 80, 30080, &["[fd00:244::2]:8080"]);
    checked(service([port(Tcp, &["192.0.2.10"], 80, 30080, &POD), six]))
}

fn claimed() -> ForwardingTable {
    table([("web", web())])
}

/// Listeners of the calling thread's network namespace that any address can be steered to.
fn listen() -> Vec<SocketAddr> {
    ["127.0.0.1:0", "[::1]:0"].map(answer).into()
}

/// Answers that it is ours, if the client's question arrived at the address that it asked for.
fn answer(at: &str) -> SocketAddr {
    let listener = TcpListener::bind(at).unwrap();
    setsockopt(&listener, sockopt::IpTransparent, &true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            assert!([NODE, NODE6].map(|at| at.parse().unwrap()).contains(&stream.local_addr().unwrap()));
            let answer = format!("{OURS} {}", stream.peer_addr().unwrap());
            while stream.read_exact(&mut [0]).is_ok() {
                stream.write_all(format!("{answer:<127}\n").as_bytes()).unwrap();
            }
        }
    });
    address
}

/// A world in which somebody else answers at the node's addresses.
fn world() -> World {
    let world = World::new();
    serve(&world.node, NODE);
    serve(&world.node, NODE6);
    world
}

#[expect(clippy::disallowed_methods, reason = "the kernel's clock is what is tested, and no runtime is here")]
fn wait(time: Duration) {
    thread::sleep(time);
}

/// Who answers health checks: we or the other one, on both families alike.
fn ours(world: &World) -> bool {
    [NODE, NODE6].map(|at| match answers(world.tcp(at)) {
        (who, client) if who == OURS => {
            assert!(["198.51.100.1", "2001:db8:1::1"].contains(&client.as_str()), "{client}");
            true
        }
        (who, _) => {
            assert_eq!(who, at);
            false
        }
    }) == [true; 2]
}

#[test]
fn health_checks_are_ours_while_we_ask_for_them_and_no_longer() {
    privileged("packets::health::health_checks_are_ours_while_we_ask_for_them_and_no_longer", || {
        let world = world();
        assert!(!ours(&world), "before us");
        let (mut driven, listeners) = world.node.run(|| {
            let mut driven = Driven::on("eth0");
            assert!(driven.steer(&[]).is_ok());
            assert!(driven.steer(&["127.0.0.1:1".parse().unwrap()]).is_err(), "nothing is programmed yet");
            driven.apply(&claimed()).unwrap();
            (driven, listen())
        });
        assert!(!ours(&world), "nobody asked for them");
        driven.steer(&listeners).unwrap();
        assert!(ours(&world));
        let mut four = web();
        four.ports.truncate(1);
        driven.apply(&table([("web", four)])).unwrap();
        assert_eq!((answers(world.tcp(NODE)).0.as_str(), answers(world.tcp(NODE6)).0.as_str()), (OURS, NODE6));
        driven.apply(&claimed()).unwrap();
        assert_eq!(answers(world.tcp("198.51.100.254:30080")).1, "198.51.100.1", "the node port is a Pod's");
        let local = world.node.run(|| super::ask(&mut std::net::TcpStream::connect(NODE).unwrap()));
        assert_eq!(answers(local).0, NODE, "a process of the node itself");
        let only =
            "table inet theirs { chain input { type filter hook input priority 0; policy drop; tcp dport 31239 accept
                    meta l4proto icmpv6 accept; }; }";
        world.node.run(|| super::super::load(only));
        assert!(ours(&world), "where nothing but this port is let in");

        wait(HEALTH_CHECK_LEASE * 2 / 3);
        driven.steer(&listeners).unwrap();
        wait(HEALTH_CHECK_LEASE * 2 / 3);
        assert!(ours(&world), "the lease was renewed");
        driven.steer(&[]).unwrap();
        assert!(!ours(&world), "it was ended");

        driven.steer(&listeners).unwrap();
        assert_eq!(driven.integrity(), portreeve_table::Integrity::Intact, "what we do ourselves is no disturbance");
        driven.apply(&table([("web", observed(web()))])).unwrap();
        assert!(!ours(&world), "what is only observed is left alone");
        driven.apply(&claimed()).unwrap();
        assert!(ours(&world));
        wait(HEALTH_CHECK_LEASE + Duration::from_millis(100));
        assert!(!ours(&world), "nobody renewed the lease, although somebody listens");
    });
}

#[test]
fn an_engine_that_starts_anew_is_asked_again() {
    privileged("packets::health::an_engine_that_starts_anew_is_asked_again", || {
        let world = world();
        let (mut driven, listeners) = world.node.run(|| {
            let mut driven = Driven::on("eth0");
            driven.apply(&claimed()).unwrap();
            (driven, listen())
        });
        driven.steer(&listeners).unwrap();
        let before = world.node.run(super::super::listed);
        assert!(before.iter().any(|block| block.contains("tproxy ip6 to [::1]:")), "{before:?}");
        world.node.run(|| super::super::load("flush chain inet portreeve health-checks"));
        assert!(!ours(&world), "somebody has taken our rules away");
        assert_eq!(driven.integrity(), portreeve_table::Integrity::Lost);
        driven.apply(&claimed()).unwrap();
        driven.steer(&listeners).unwrap();
        assert!(ours(&world));
        let chains = |blocks: Vec<String>| -> Vec<String> {
            blocks.into_iter().filter(|block| block.starts_with("chain")).collect()
        };
        assert_eq!(chains(world.node.run(super::super::listed)), chains(before));

        world.node.run(|| super::super::load("delete element inet portreeve slot4-1 { 192.0.2.10 . tcp . 80 }"));
        let one = table([("web", checked(service([port(Tcp, &["192.0.2.10"], 80, 30080, &POD[..1])])))]);
        assert!(driven.apply(&one).is_err());
        driven.steer(&listeners).unwrap();
        assert!(ours(&world), "what the kernel refused left the old in force");
    });
}

/// A process that is killed when the test is over, however it ends.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _: (std::io::Result<()>, _) = (self.0.kill(), self.0.wait());
    }
}

#[test]
fn when_our_process_is_killed_the_other_one_answers_the_next_check() {
    privileged("packets::health::when_our_process_is_killed_the_other_one_answers_the_next_check", || {
        let world = world();
        let mut process = Killed(world.node.run(|| {
            let mut command = Command::new(env::current_exe().unwrap());
            command.args(["--exact", PROCESS, "--ignored", "--nocapture"]).stdout(Stdio::piped()).spawn().unwrap()
        }));
        let mut says = BufReader::new(process.0.stdout.take().unwrap()).lines();
        assert!(says.any(|line| line.unwrap().contains("answering")), "the process ended");
        assert!(ours(&world));
        drop(process);
        assert!(!ours(&world));
        let leases = world.node.run(super::super::listed);
        let leases = leases.iter().find(|block| block.starts_with("set health-leases")).unwrap();
        assert!(leases.contains("expires"), "the lease is not over: the kernel saw that nobody listens. {leases}");
    });
}

#[test]
#[ignore = "it is the process that another test kills"]
fn process() {
    let mut driven = Driven::on("eth0");
    driven.apply(&claimed()).unwrap();
    driven.steer(&listen()).unwrap();
    std::io::stdout().write_all(b"answering\n").unwrap();
    wait(Duration::from_secs(60));
}
