//! A node: a network namespace with an uplink and a way to the API server, and the agent in it.

use super::listing;
use super::support::kubectl::program;
use super::world::{ADDRESSES, NODE};
use portreeve_agreement::namespace::Namespace;
use portreeve_crds::names;
use portreeve_e2e::control_plane::ControlPlane;
use portreeve_e2e::pki::User;
use portreeve_e2e::process::{Child, Spec};
use portreeve_e2e::relay::Relay;
use portreeve_e2e::run_dir::RunDir;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// What the agent says when its first round has ended.
const IN_FORCE: &str = "Engine in force";

pub(crate) struct Node {
    name: &'static str,
    pub(crate) namespace: Namespace,
    /// The uplink's other end.
    _outside: Namespace,
    _way: Relay,
    kubeconfig: PathBuf,
    log: PathBuf,
    agent: Option<Child>,
    pub(crate) lives: usize,
}

impl Node {
    pub(crate) fn new(name: &'static str, plane: &ControlPlane, run: &RunDir) -> Self {
        let (namespace, outside) = (Namespace::new(), Namespace::new());
        namespace.ip(&format!(
            "link set lo up
             link add eth0 type veth peer name eth0 netns {}
             addr add {}/24 dev eth0
             addr add {}/64 dev eth0 nodad
             link set eth0 up
             route add default via 198.51.100.1",
            outside.thread(),
            ADDRESSES[0],
            ADDRESSES[1],
        ));
        outside.ip("link set eth0 up");
        let api: SocketAddr = plane.server().trim_start_matches("https://").parse().unwrap();
        // The main thread's namespace is that of the API server.
        let way = namespace.run(move || Relay::start(Path::new("/proc/self/ns/net"), api).unwrap());
        let kubeconfig = run.state().join(format!("{name}.kubeconfig"));
        plane.kubeconfig_for(&User::Admin, &format!("https://{}", way.address()), &kubeconfig).unwrap();
        Self { name, namespace, _outside: outside, _way: way, kubeconfig, log: run.log(), agent: None, lives: 0 }
    }

    /// Starts the agent, which logs each of its lives by itself.
    pub(crate) fn start(&mut self) {
        self.lives += 1;
        let log = self.log.join(format!("agent-{}-{}.log", self.name, self.lives));
        let agent = Spec::new(self.name, program(names::AGENT), log)
            .arg(format!("--node-name={NODE}"))
            .arg(format!("--kubeconfig={}", self.kubeconfig.display()))
            .env("PORTREEVE_LOG", "info")
            .netns(Some(PathBuf::from(format!("/proc/{}/ns/net", self.namespace.thread()))));
        self.agent = Some(agent.spawn().unwrap());
    }

    /// SIGKILL, and waits until it is gone; whether its first round had ended.
    pub(crate) fn kill(&mut self) -> bool {
        self.require_running();
        self.agent.as_mut().unwrap().kill().unwrap();
        self.is_in_force()
    }

    /// Whether the first round of this life has ended.
    pub(crate) fn is_in_force(&self) -> bool {
        std::fs::read_to_string(self.agent.as_ref().unwrap().log()).unwrap().contains(IN_FORCE)
    }

    pub(crate) fn require_running(&mut self) {
        self.agent.as_mut().unwrap().require_running().unwrap();
    }

    pub(crate) fn listed(&self, backend: &'static str) -> Vec<String> {
        self.namespace.run(move || listing::of(backend))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Before its namespace goes.
        drop(self.agent.as_mut().map(Child::kill));
    }
}
