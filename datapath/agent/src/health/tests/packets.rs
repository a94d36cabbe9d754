//! Real health checks: a client, and a node where somebody else listens at the health check node port, as kube-proxy does.
//!
//! The node is a network namespace of a process of its own, and the client one of a thread there: both are gone with the
//! process, however it ends.

use super::*;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{geteuid, gettid};
use portreeve_netfilter::nftables::Programmed;
use portreeve_runtime::shutdown::Plan;
use portreeve_table::{
    Family, Frontend, FrontendEntry, FrontendHost, FrontendKind, PortEntry, Protocol, Standing as PortStanding,
};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::{env, thread};

const V4: &str = "198.51.100.254:31239";
const V6: &str = "[2001:db8:1::fe]:31239";
const INSIDE: &str = "health::tests::packets::inside";

#[test]
fn a_load_balancer_hears_the_agent_and_before_and_after_it_kube_proxy() {
    let mut node = Command::new("unshare");
    if !geteuid().is_root() {
        node.args(["--user", "--map-root-user"]);
    }
    node.arg("--net").arg(env::current_exe().unwrap()).args(["--exact", INSIDE, "--ignored", "--nocapture"]);
    let output = node.output().expect("this test needs unshare(1)");
    let says = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && says.contains("1 passed"), "{says}");
}

fn ip(lines: &str) {
    for line in lines.lines().map(str::trim) {
        assert!(Command::new("ip").args(line.split(' ')).status().unwrap().success(), "ip {line}");
    }
}

/// A client in a network namespace of its own: asks at an address and gives back all that it hears.
struct Client {
    ask: Sender<&'static str>,
    hear: Receiver<String>,
}

impl Client {
    fn new() -> Self {
        let ((ask, asked), (say, hear)) = (channel(), channel());
        let ((tell, told), (link, linked)) = (channel(), channel());
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tell.send(gettid().as_raw()).unwrap();
            linked.recv().unwrap();
            ip("link set eth0 up
                addr add 198.51.100.1/24 dev eth0
                addr add 2001:db8:1::1/64 dev eth0 nodad");
            for at in asked {
                let mut stream = TcpStream::connect_timeout(&str::parse(at).unwrap(), Duration::from_secs(3)).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
                stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: node\r\n\r\n").unwrap();
                let mut text = String::new();
                stream.read_to_string(&mut text).unwrap();
                say.send(text).unwrap();
            }
        });
        ip(&format!(
            "link set lo up
             link add eth0 type veth peer name eth0 netns {0}
             addr add 198.51.100.254/24 dev eth0
             addr add 2001:db8:1::fe/64 dev eth0 nodad
             link set eth0 up",
            told.recv().unwrap()
        ));
        link.send(()).unwrap();
        Self { ask, hear }
    }

    fn hears(&self, at: &'static str) -> String {
        self.ask.send(at).unwrap();
        self.hear.recv().unwrap()
    }
}

/// Answers as somebody else would.
fn kube_proxy(at: &str) {
    let listener = TcpListener::bind(at).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _: usize = stream.read(&mut [0; 1024]).unwrap();
            stream.write_all(b"kube-proxy").unwrap();
        }
    });
}

/// `web` with so many ready Pods of IPv4, claimed in both families.
fn claimed(ready: usize) -> ForwardingTable {
    let port = |family| PortEntry {
        name: "".into(),
        family,
        protocol: Protocol::Tcp,
        frontends: vec![FrontendEntry {
            frontend: Frontend { host: FrontendHost::NodePort(family), port: 30080, protocol: Protocol::Tcp },
            kind: FrontendKind::NodePort,
            guarded: false,
        }],
        standing: PortStanding::Elsewhere,
        targets: Vec::new(),
        kept: Vec::new(),
    };
    let ports = Family::BOTH.map(port).into();
    let mut table = table([("web", ServiceEntry { ports, ..entry(Some(31239), ready, ClaimedMode::Local) })]);
    table.node_addresses = vec!["198.51.100.254".parse().unwrap(), "2001:db8:1::fe".parse().unwrap()];
    table
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in the namespace that another test makes"]
async fn inside() {
    let client = Client::new();
    kube_proxy(V4);
    kube_proxy(V6);
    let open = |_| -> Result<Box<dyn Engine>, EngineError> { Ok(Box::new(Programmed::open()?)) };
    let mut program = Program::new([BackendKind::Nftables], Box::new(open));
    let uplinks = [Interface::new("eth0").unwrap()].into();
    let wanted = crate::program::Wanted { kind: BackendKind::Nftables, uplinks };
    let shutdown = Shutdown::new(Plan::default());
    let mut checks = HealthChecks::start(AgentMetrics::register(&Metrics::new("1")), &shutdown);
    assert_eq!((checks.listeners.len(), checks.left.as_deref()), (2, None));

    let mut round = |checks: &mut HealthChecks, ready| {
        let round = program.round(&wanted, &claimed(ready), &|_, _, _| true, Instant::now()).unwrap();
        programmed(checks, &claimed(ready), true, round.applied, Instant::now());
        if checks.due().unwrap() <= Instant::now() {
            assert_eq!(client.hears(V4), "kube-proxy", "before the lease is held");
            checks.renew(&mut program, Instant::now());
        }
    };
    round(&mut checks, 2);
    let answer = client.hears(V4);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\r\nx-load-balancing-endpoint-weight: 2\r\n"), "{answer}");
    assert!(answer.contains("\"localEndpoints\": 2,\n\t\"serviceProxyHealthy\": true,"), "{answer}");
    let answer = client.hears(V6);
    assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "no Pod of this family: {answer}");
    round(&mut checks, 0);
    let answer = client.hears(V4);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("weight: 0\r\n"), "{answer}");
    checks.end(&mut program);
    assert_eq!([V4, V6].map(|at| client.hears(at)), ["kube-proxy"; 2]);
    shutdown.request();
    shutdown.finished().await;
}
