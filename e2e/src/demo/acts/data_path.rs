//! The acts of the data path: what the agents do with packets of one Service, over each backend. They share a scene: a
//! Pod on n1, one on n2 and none on n3, behind one dual-stack node port.

pub(super) mod balance;
pub(super) mod crash;
pub(super) mod drain;
pub(super) mod explain;
pub(super) mod flush;
pub(super) mod health;
pub(super) mod local;
pub(super) mod no_local;
pub(super) mod takeover;
pub(super) mod uninstall;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::super::Stage;
use super::super::backend::{Backend, namespace, node_port, seen_address};
use super::super::wait::until;
use super::service;
use crate::image::catalogue::AGNHOST;
use crate::node::Node;
use crate::node::config::ProxyMode;

const NAMESPACE: &str = "demo-data-path";
const NAME: &str = "web";
/// Lines of the Service's spec.
const LINES: &str = "externalTrafficPolicy: Local\n  ipFamilyPolicy: PreferDualStack";
/// Nodes with a Pod, and the one without.
const WITH_POD: [&str; 2] = ["n1", "n2"];
const WITHOUT_POD: &str = "n3";
/// How long the API, the operator and the agents may take together until a wish is in the kernel.
const WITHIN: Duration = Duration::from_secs(20);

/// The ways to program packets that are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Nftables,
    Iptables,
}

impl Way {
    const ALL: [Self; 2] = [Self::Nftables, Self::Iptables];

    /// Those that decide before kube-proxy does. iptables and a kube-proxy in nftables mode sit at the same place of the same
    /// hook, where whoever came first is asked first.
    fn ahead(stage: &Stage) -> &'static [Self] {
        match stage.proxy_mode {
            ProxyMode::Iptables => &Self::ALL,
            ProxyMode::Nftables => &[Self::Nftables],
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        }
    }

    /// As DatapathConfig names it.
    const fn spelled(self) -> &'static str {
        match self {
            Self::Nftables => "Nftables",
            Self::Iptables => "Iptables",
        }
    }

    /// Whether the kernel of `node` has the scene's node port programmed by this backend, and packets come to it.
    async fn in_force(self, node: &Node, port: u16) -> Result<bool> {
        let (listed, wanted) = match self {
            Self::Nftables => {
                let element = format!("{{ tcp . {port} }}");
                let found = node.exec(&["nft", "get", "element", "inet", "portreeve", "node-ports4", &element]).await?;
                if !found.status.success() {
                    return Ok(false);
                }
                (
                    ["nft", "list", "chain", "inet", "portreeve", "prerouting"].as_slice(),
                    vec!["@node-ports4".to_owned()],
                )
            }
            Self::Iptables => (
                ["iptables-save"].as_slice(),
                vec!["-j PORTREEVE-ENTRY".to_owned(), "-A PORTREEVE-ENTRY -i eth0".to_owned()],
            ),
        };
        let listed = node.exec(listed).await?;
        let listed = String::from_utf8_lossy(&listed.stdout);
        // What its rule in one of our chains does depends on how many others there are.
        let frontend = format!("--dport {port} ");
        let has_frontend = || listed.lines().any(|line| line.starts_with("-A PORTREEVE-") && line.contains(&frontend));
        Ok(wanted.iter().all(|wanted| listed.contains(wanted)) && (self == Self::Nftables || has_frontend()))
    }
}

/// The scene, once it stands.
struct Scene {
    port: u16,
}

impl Scene {
    /// Sets the scene if it does not stand yet.
    async fn set(stage: &Stage) -> Result<Self> {
        if stage.kubectl.run(&["get", "namespace", NAMESPACE]).await?.code != 0 {
            namespace(stage, NAMESPACE).await?;
            for (name, node) in [("one", "n1"), ("two", "n2")] {
                let nodes = [node];
                Backend { namespace: NAMESPACE, name, app: NAME, replicas: 1, nodes: &nodes, pod_spec: "" }
                    .deploy(stage)
                    .await?;
            }
            stage.kubectl.apply(&service(NAMESPACE, NAME, "NodePort", LINES)).await?.ok()?;
        }
        let scene = Self { port: node_port(stage, NAMESPACE, NAME).await? };
        for node in stage.cluster.nodes() {
            look_out(node, scene.port).await?;
        }
        // What the agents release kube-proxy must be able to serve.
        for node in WITH_POD {
            for to in scene.addresses(stage, node)? {
                seen_address(stage, &format!("http://{to}/clientip")).await?;
            }
        }
        Ok(scene)
    }

    /// Asks for a backend by DatapathConfig, and for the data path by a policy; waits until every node has it in force.
    async fn claim(&self, stage: &Stage, way: Way, on_no_local: &str) -> Result<()> {
        wish(stage, way, NAMESPACE, on_no_local).await?;
        until("the claim on every node", WITHIN, || async {
            let wish = ["-n", NAMESPACE, "servicetraffic", NAME];
            let told = stage.kubectl.jsonpath(&wish, "{.spec.mode} {.spec.onNoLocal}").await?;
            ensure!(told == format!("Local {on_no_local}"), "agents are told: {told}");
            // What is only passed on needs no rule of iptables.
            let silent = way == Way::Iptables && on_no_local == "Passthrough";
            for node in stage.cluster.nodes().iter().filter(|node| !silent || node.name() != WITHOUT_POD) {
                ensure!(way.in_force(node, self.port).await?, "not yet on {}", node.name());
            }
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// Takes the wish back; waits until no node has it in force.
    async fn release(&self, stage: &Stage, way: Way) -> Result<()> {
        stage.kubectl.run(&["-n", NAMESPACE, "delete", "trafficpolicy", "data-path"]).await?.ok()?;
        until("every node to leave it to kube-proxy", WITHIN, || self.everywhere(stage, way, false)).await?;
        Ok(())
    }

    async fn everywhere(&self, stage: &Stage, way: Way, wanted: bool) -> Result<()> {
        for node in stage.cluster.nodes() {
            ensure!(way.in_force(node, self.port).await? == wanted, "not yet on {}", node.name());
        }
        Ok(())
    }

    /// The node port at one address of each family.
    fn addresses(&self, stage: &Stage, node: &str) -> Result<[SocketAddr; 2]> {
        let address = stage.cluster.node(node)?.address();
        Ok([IpAddr::from(address.v4), IpAddr::from(address.v6)].map(|ip| SocketAddr::new(ip, self.port)))
    }
}

/// Asks for a backend by DatapathConfig, and for the data path in a namespace by a policy; waits until every node has chosen.
async fn wish(stage: &Stage, way: Way, namespace: &str, on_no_local: &str) -> Result<()> {
    let backend = way.spelled();
    let wish = format!(
        "apiVersion: portreeve.io/v1alpha1\nkind: DatapathConfig\nmetadata: {{name: default}}\nspec: {{backend: {backend}}}\n---\n\
         apiVersion: portreeve.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: data-path, namespace: {namespace}}}\nspec:\n  \
         enforcement: {{mode: Warn}}\n  dataPath: {{mode: Local, onNoLocal: {on_no_local}}}\n"
    );
    stage.kubectl.apply(&wish).await?.ok()?;
    until(&format!("{backend} on every node"), WITHIN, || async {
        let chosen = stage.kubectl.jsonpath(&["nodedatapaths"], "{.items[*].status.backend.chosen}").await?;
        ensure!(chosen.split_whitespace().all(|chosen| chosen == backend), "chosen: {chosen}");
        Ok(())
    })
    .await?;
    Ok(())
}

/// A Deployment whose Pods answer for 6 s after they were asked to end: longer than a load balancer needs to learn of it.
/// `pod_spec` is more of the Pod's spec, as JSON members, each followed by a comma.
fn lingering(namespace: &str, name: &str, replicas: u32, pod_spec: &str) -> String {
    format!(
        r#"{{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {{"name": "{name}", "namespace": "{namespace}"}},
"spec": {{"replicas": {replicas}, "selector": {{"matchLabels": {{"app": "{name}"}}}},
"strategy": {{"rollingUpdate": {{"maxUnavailable": 0, "maxSurge": 1}}}},
"template": {{"metadata": {{"labels": {{"app": "{name}"}}}},
"spec": {{{pod_spec}"terminationGracePeriodSeconds": 15,
"containers": [{{"name": "server", "image": "{AGNHOST}", "args": ["netexec", "--http-port=8080", "--delay-shutdown=6"],
"readinessProbe": {{"httpGet": {{"path": "/healthz", "port": 8080}}, "periodSeconds": 1}}}}]}}}}}}}}"#
    )
}

/// Our own look-out between the agents' rules and kube-proxy's: a counter of the nat hook, where a flow comes no further once
/// somebody has decided about it. For nftables it is in front of kube-proxy in either mode; for iptables it is a rule in the
/// chain that both use, which the agent's jump stays ahead of.
const LOOK_OUT: &str = "look-out";
/// In front of kube-proxy's `dstnat` (-100), behind the agents' -105.
const LOOK_OUT_PRIORITY: i32 = -101;

/// Counts flows to the scene's node port that kube-proxy is asked about on this node.
async fn look_out(node: &Node, port: u16) -> Result<()> {
    let rules = format!(
        "add table inet {LOOK_OUT}; add chain inet {LOOK_OUT} asked {{ type nat hook prerouting priority {LOOK_OUT_PRIORITY}; }}; \
         flush chain inet {LOOK_OUT} asked; add rule inet {LOOK_OUT} asked iifname eth0 meta l4proto tcp th dport {port} counter"
    );
    let port = port.to_string();
    let rule = ["PREROUTING", "-i", "eth0", "-p", "tcp", "--dport", &port, "-m", "comment", "--comment", LOOK_OUT];
    let mut commands = vec![vec!["nft", &rules]];
    for program in ["iptables", "ip6tables"] {
        let there = node.exec(&[&[program, "-t", "nat", "-C"], &rule[..]].concat()).await?;
        if !there.status.success() {
            commands.push([&[program, "-t", "nat", "-I"], &rule[..]].concat());
        }
    }
    for command in commands {
        let made = node.exec(&command).await?;
        ensure!(made.status.success(), "{command:?}: {}", String::from_utf8_lossy(&made.stderr));
    }
    Ok(())
}

/// Flows that kube-proxy was asked about so far.
async fn kube_proxy_asked(node: &Node, way: Way) -> Result<u64> {
    match way {
        Way::Nftables => {
            let listed = node.exec(&["nft", "list", "chain", "inet", LOOK_OUT, "asked"]).await?;
            let listed = String::from_utf8(listed.stdout)?;
            let count = listed.split_once("counter packets ").and_then(|(_, rest)| rest.split_once(' '));
            Ok(count.context("the look-out is gone")?.0.parse()?)
        }
        Way::Iptables => {
            let mut all = 0;
            for program in ["iptables-save", "ip6tables-save"] {
                let listed = node.exec(&[program, "--counters", "-t", "nat"]).await?;
                let listed = String::from_utf8(listed.stdout)?;
                let rule = listed.lines().find(|line| line.contains(&format!("--comment {LOOK_OUT}")));
                let count = rule.and_then(|rule| rule.strip_prefix('[')).and_then(|rule| rule.split_once(':'));
                all += count.context("the look-out is gone")?.0.parse::<u64>()?;
            }
            Ok(all)
        }
    }
}
