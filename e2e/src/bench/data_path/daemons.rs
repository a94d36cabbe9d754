//! Starting kube-proxy and our agent on a node, and waiting until what they programmed is in force.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

use super::node::Node;
use super::plan::{self, Pod};
use super::server::WHO;
use super::variant::Engine;
use super::worker::Stop;
use super::world::World;
use crate::node::config::ProxyMode;
use crate::process::{Child, Spec};

/// Anything beyond this is a fault, not a slow run.
const WITHIN: Duration = Duration::from_secs(240);
const POLL: Duration = Duration::from_millis(5);
/// How long a probe waits: a packet that is dropped is not answered at all.
const ANSWER: Duration = Duration::from_millis(100);
/// Names the lock file of iptables: these nodes share a file system, and real ones do not.
const LOCK_VARIABLE: &str = "XTABLES_LOCKFILE";
/// Where the agent serves its metrics on its node.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9810);

/// Starts kube-proxy on a node.
pub(super) fn start_proxy(world: &World, node: &Node, name: &str, mode: ProxyMode) -> Result<Child> {
    let state = world.run.state();
    let path = state.join(format!("{name}.kube-proxy.yaml"));
    // The conntrack limits belong to the machine, not to a namespace: kube-proxy must leave them alone.
    let config = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
         clientConnection: {{kubeconfig: {}}}\nhostnameOverride: {}\nmode: {}\nclusterCIDR: {}\n\
         detectLocalMode: ClusterCIDR\n\
         conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}\n",
        state.join("kube-proxy.kubeconfig").display(),
        plan::NODE,
        if mode == ProxyMode::Iptables { "iptables" } else { "nftables" },
        plan::PODS,
    );
    std::fs::write(&path, config).with_context(|| path.display().to_string())?;
    let spec = Spec::new(name, world.kube_proxy(), world.run.log().join(format!("{name}.kube-proxy.log")))
        .arg(format!("--config={}", path.display()))
        .env("PATH", &world.path)
        .env(LOCK_VARIABLE, state.join(format!("{name}.lock")))
        .netns(Some(node.node.0.path().to_owned()));
    Ok(spec.spawn()?)
}

/// Starts our agent on a node. Whoever starts it has chosen the engine for all agents.
pub(super) fn start_agent(world: &World, node: &Node, name: &str) -> Result<Child> {
    let spec = Spec::new(name, &world.agent, world.run.log().join(format!("{name}.agent.log")))
        .args(["--node-name", plan::NODE, "--kubeconfig"])
        .arg(world.run.state().join("agent.kubeconfig"))
        .env("PATH", &world.path)
        .env(LOCK_VARIABLE, world.run.state().join(format!("{name}.lock")))
        .env("PORTREEVE_ADMIN_SOCKET", world.run.state().join(format!("{name}.sock")))
        .netns(Some(node.node.0.path().to_owned()));
    Ok(spec.spawn()?)
}

/// Which Pod answers at `target`, as a client sees it now; nobody is fine. The thread must be in the client's namespace.
pub(super) fn who(target: SocketAddrV4) -> Option<Ipv4Addr> {
    let ask = || -> Result<Ipv4Addr> {
        let mut stream = TcpStream::connect_timeout(&target.into(), ANSWER)?;
        setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(&[WHO])?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        Ok(answer.into())
    };
    ask().ok()
}

/// Waits until every one of `services` is answered by its first Pod; returns when the last was.
pub(super) fn await_served(node: &Node, services: &[usize], child: &mut Child, stop: &Stop) -> Result<Instant> {
    let plain = node.variant.is_plain();
    let work = || -> Result<Instant> {
        node.client.0.join_current_thread()?;
        let began = Instant::now();
        for &n in services {
            while who(plan::target(n, plain)) != Some(plan::local_pod(n, Pod::First)) {
                child.require_running()?;
                let log = child.log().display();
                ensure!(began.elapsed() < WITHIN, "Service {n} is not served after {WITHIN:?}; log {log}");
                stop.sleep(POLL)?;
            }
        }
        Ok(Instant::now())
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// What the agent's metrics said, and when.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Programmed {
    /// It had taken every object that was listed.
    pub(super) listed: Option<Instant>,
    /// A round of programming had succeeded.
    pub(super) in_force: Option<Instant>,
}

/// Waits until the agent has taken `objects` things and programmed them.
pub(super) fn await_agent(
    node: &Node,
    engine: Engine,
    objects: usize,
    child: &mut Child,
    stop: &Stop,
) -> Result<Programmed> {
    let rounds =
        format!("portreeve_agent_rounds_total{{backend=\"{}\",result=\"success\"}}", engine.backend().to_lowercase());
    let work = || -> Result<Programmed> {
        node.node.0.join_current_thread()?;
        let (began, mut seen) = (Instant::now(), Programmed::default());
        while seen.listed.is_none() || seen.in_force.is_none() {
            child.require_running()?;
            if began.elapsed() > WITHIN {
                bail!("the agent is not in step after {WITHIN:?}; log {}", child.log().display());
            }
            if let Some(text) = metrics() {
                let at_least = |name: &str, least: f64| value(&text, name).is_some_and(|value| value >= least);
                if at_least("portreeve_agent_compile_seconds_count", objects as f64) {
                    seen.listed.get_or_insert_with(Instant::now);
                }
                if at_least(&rounds, 1.0) {
                    seen.in_force.get_or_insert_with(Instant::now);
                }
            }
            stop.sleep(POLL)?;
        }
        Ok(seen)
    };
    std::thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// How long the agent on this node has worked so far, by its own histograms.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Worked {
    /// Seconds of compiling, and how many things were seen.
    compile: (f64, f64),
    /// Seconds of programming, and how many rounds there were.
    program: (f64, f64),
}

impl Worked {
    /// What the agent's metrics say now; zero where they say nothing.
    pub(super) fn of(node: &Node) -> Result<Self> {
        let text = node.node.0.enter(|| anyhow::Ok(metrics()))?.unwrap_or_default();
        let of = |name: &str| {
            let [sum, count] =
                ["sum", "count"].map(|part| value(&text, &format!("portreeve_agent_{name}_seconds_{part}")));
            (sum.unwrap_or(0.0), count.unwrap_or(0.0))
        };
        Ok(Self { compile: of("compile"), program: of("program") })
    }

    /// Where the time between two looks went, for people: wall time of the agent's two steps.
    pub(super) fn since(self, before: Self) -> String {
        let step = |now: (f64, f64), then: (f64, f64)| ((now.0 - then.0) * 1e3, now.1 - then.1);
        let (compile, seen) = step(self.compile, before.compile);
        let (program, rounds) = step(self.program, before.program);
        format!(
            "{seen} objects compiled in {:.3} ms each, {rounds} rounds programmed in {:.3} ms each",
            compile / seen.max(1.0),
            program / rounds.max(1.0)
        )
    }
}

/// The agent's metrics, once it serves them.
fn metrics() -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&METRICS, ANSWER).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

/// The value of a sample in the text format of Prometheus.
fn value(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::{Worked, value};

    #[test]
    fn what_was_done_between_two_looks_is_told_for_each_time() {
        let before = Worked { compile: (1.0, 100.0), program: (2.0, 10.0) };
        let now = Worked { compile: (1.01, 110.0), program: (2.1, 30.0) };
        let told = "10 objects compiled in 1.000 ms each, 20 rounds programmed in 5.000 ms each";
        assert_eq!(now.since(before), told);
        let nothing = "0 objects compiled in 0.000 ms each, 0 rounds programmed in 0.000 ms each";
        assert_eq!(before.since(before), nothing);
    }

    #[test]
    fn a_sample_is_found_by_its_whole_name() {
        let text = "# TYPE a counter\na_total{x=\"1\"} 3\na_total{x=\"11\"} 4\na_count 2.5\n";
        assert_eq!(value(text, "a_total{x=\"1\"}"), Some(3.0));
        assert_eq!(value(text, "a_count"), Some(2.5));
        assert_eq!((value(text, "a"), value(text, "b")), (None, None));
    }
}
