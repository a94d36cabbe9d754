//! Who reaches which Pods by which kind of address, and whom they see: kube-proxy's own table (TestInternalExternalMasquerade
//! in pkg/proxy/iptables/proxier_test.go), on real packets. What is claimed is the rows `outside` and those of other nodes
//! under `Local`: nothing of the table may change by it.

use std::collections::BTreeMap;

use anyhow::Result;
use futures::future::FutureExt as _;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use portreeve_e2e::fabric::plan::Dual;
use portreeve_e2e::node::config::ProxyMode;
use serde_json::{Value, json};

use super::lookout::{self, Destination};
use super::objects::{pod, service};
use super::plan::Front;
use super::probe::{Caller, Transport};
use super::scene::{Numbers, Placed, Scenario, Scene};
use super::seen::{Expected, Seen, Source};

pub(crate) const TRUTH: Scenario = Scenario { name: "truth table", objects, play: |scene| play(scene).boxed_local() };

/// The Pod on n1, and the one on n2; n3 has none.
const HERE: &str = "truth-1";
const BOTH: [&str; 2] = [HERE, "truth-2"];
const LOOPBACK: Dual = Dual { v4: std::net::Ipv4Addr::LOCALHOST, v6: std::net::Ipv6Addr::LOCALHOST };
/// Rows at a time.
const AT_ONCE: usize = 16;

fn objects(numbers: Numbers) -> Vec<Value> {
    let of = |name, number, more: Value| {
        let mut more = more;
        more["externalIPs"] = numbers.external(number);
        service(name, "truth", numbers.of(number), more)
    };
    vec![
        pod(BOTH[0], "truth", "n1"),
        pod(BOTH[1], "truth", "n2"),
        pod("caller-1", "caller", "n1"),
        pod("caller-3", "caller", "n3"),
        of("truth-cluster", 1, json!({"externalTrafficPolicy": "Cluster"})),
        of("truth-local", 2, json!({})),
        of("truth-internal", 3, json!({"externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Local"})),
        of("truth-both", 4, json!({"internalTrafficPolicy": "Local"})),
    ]
}

/// What a Service's policies say, as far as the table depends on it.
#[derive(Clone, Copy)]
struct Policy {
    name: &'static str,
    external_local: bool,
    internal_local: bool,
}

const POLICIES: [Policy; 4] = [
    Policy { name: "cluster", external_local: false, internal_local: false },
    Policy { name: "local", external_local: true, internal_local: false },
    Policy { name: "internal", external_local: false, internal_local: true },
    Policy { name: "both", external_local: true, internal_local: true },
];

/// One row.
struct Row {
    step: String,
    caller: Caller,
    transport: Transport,
    front: Front,
    expected: Expected,
    /// The node that decides.
    index: u8,
    /// Whether its packets come to that node by the uplink.
    on_uplink: bool,
    /// Whether a policy may claim them.
    claimed: bool,
}

/// Who calls, from the point of view of the node that decides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    Outside,
    /// A process of the node itself.
    Node,
    /// A Pod of the node itself.
    Pod,
}

async fn play(scene: &Scene<'_>) -> Result<()> {
    let mut rows = Vec::new();
    let callers = Callers {
        outside: scene.outside(),
        nodes: [scene.world.node(1), scene.world.node(3)],
        pods: [scene.pod("caller-1").await?, scene.pod("caller-3").await?],
    };
    for policy in POLICIES {
        let placed = scene.placed(&format!("truth-{}", policy.name)).await?;
        for transport in [Transport::Tcp, Transport::Udp] {
            rows.extend(callers.at_nodes(policy, &placed, transport));
            rows.extend(callers.across(policy, &placed, transport));
            rows.push(callers.loopback(scene.world.mode, policy, &placed, transport));
        }
    }
    let watched = Watched::by(&rows);
    watched.post(scene)?;
    let mut looks = stream::iter(rows)
        .map(|Row { step, caller, transport, front, expected, .. }| async move {
            Ok::<_, anyhow::Error>((step, scene.look(&caller, transport, front, expected).await?))
        })
        .buffered(AT_ONCE);
    while let Some((step, (seen, wanted))) = looks.try_next().await? {
        scene.record(&step, &seen, &wanted);
    }
    drop(looks);
    watched.tell(scene)
}

/// Destinations that packets come to on a node's uplink, by node, and whether their Service's external policy is `Local`.
struct Watched(BTreeMap<u8, BTreeMap<Destination, bool>>);

impl Watched {
    fn by(rows: &[Row]) -> Self {
        let mut watched: BTreeMap<u8, BTreeMap<Destination, bool>> = BTreeMap::new();
        for row in rows.iter().filter(|row| row.on_uplink) {
            let to = row.front.both().map(|to| ((row.transport, to), row.claimed));
            watched.entry(row.index).or_default().extend(to);
        }
        Self(watched)
    }

    fn post(&self, scene: &Scene<'_>) -> Result<()> {
        for (index, destinations) in &self.0 {
            lookout::post(scene.world, scene.variant, *index, &destinations.keys().copied().collect())?;
        }
        Ok(())
    }

    /// kube-proxy is asked about all that nobody claims, and about nothing else.
    fn tell(&self, scene: &Scene<'_>) -> Result<()> {
        for (index, destinations) in &self.0 {
            let all = destinations.keys().copied().collect();
            let asked = lookout::asked(scene.world, scene.variant, *index, &all)?;
            for local in [false, true] {
                let of: Vec<_> = destinations.iter().filter(|(_, have)| **have == local).map(|(to, _)| to).collect();
                let count = of.iter().filter(|to| asked.contains(**to)).count();
                let wanted = if local && scene.claimed() { 0 } else { of.len() };
                let policy = if local { "Local" } else { "Cluster, and ClusterIPs" };
                let step = format!("{policy}: destinations at n{index} that kube-proxy is asked about");
                scene.record(&step, &format!("{count} of {}", of.len()), &format!("{wanted} of {}", of.len()));
            }
        }
        Ok(())
    }
}

struct Callers {
    outside: Caller,
    /// n1 and n3.
    nodes: [Caller; 2],
    pods: [Caller; 2],
}

impl Callers {
    /// Calls about which n1 (with a Pod) or n3 (without one) decides.
    fn at_nodes(&self, policy: Policy, placed: &Placed, transport: Transport) -> Vec<Row> {
        let mut rows = Vec::new();
        for (place, index) in [(0, 1), (1, 3)] {
            let callers = [
                (From::Outside, "outside", &self.outside),
                (From::Node, "node", &self.nodes[place]),
                (From::Pod, "Pod", &self.pods[place]),
            ];
            for (from, who, caller) in callers {
                let fronts = [
                    ("node port", placed.node_port(index, transport)),
                    ("load balancer", placed.lb(index, transport)),
                    ("external IP", placed.external(index, transport)),
                ];
                for (kind, front) in fronts {
                    let expected = external(policy, from, index).into();
                    rows.push(Row::new(policy, who, kind, index, caller, transport, front, expected));
                }
                // ClusterIPs from outside come to n1.
                if from != From::Outside || index == 1 {
                    let expected = internal(policy, from, index).into();
                    let front = placed.cluster_ip(transport);
                    rows.push(Row::new(policy, who, "ClusterIP", index, caller, transport, front, expected));
                }
            }
        }
        rows
    }

    /// Calls from n3 to n1's node port and from n1 to n3's: to the node that decides they come from outside. A Pod's leave its
    /// node with the node's address.
    fn across(&self, policy: Policy, placed: &Placed, transport: Transport) -> Vec<Row> {
        let mut rows = Vec::new();
        for (place, own, other) in [(0, 1, 3), (1, 3, 1)] {
            for (who, caller) in [("other node", &self.nodes[place]), ("other node's Pod", &self.pods[place])] {
                let expected = match (policy.external_local, other) {
                    (false, _) => Seen::pods(&BOTH, Source::Node(other)),
                    (true, 1) => Seen::pods(&[HERE], Source::Node(own)),
                    (true, _) => Seen::silence(),
                };
                let front = placed.node_port(other, transport);
                rows.push(Row::new(policy, who, "node port", other, caller, transport, front, expected.into()));
            }
        }
        rows
    }

    /// The node to its own node port by loopback: kube-proxy's iptables mode serves it on IPv4, nothing else does.
    fn loopback(&self, mode: ProxyMode, policy: Policy, placed: &Placed, transport: Transport) -> Row {
        let four = match mode {
            ProxyMode::Iptables => Seen::pods(&BOTH, Source::Node(1)),
            ProxyMode::Nftables => Seen::refused(),
        };
        let front = Front { host: LOOPBACK, ..placed.node_port(1, transport) };
        let expected = Expected([four, Seen::refused()]);
        Row::new(policy, "node", "loopback", 1, &self.nodes[0], transport, front, expected)
    }
}

impl Row {
    #[allow(clippy::too_many_arguments, reason = "a row has so many columns")]
    fn new(
        policy: Policy,
        who: &str,
        kind: &str,
        index: u8,
        caller: &Caller,
        transport: Transport,
        front: Front,
        expected: Expected,
    ) -> Self {
        let step = format!("{}: {who} to {kind} at n{index}, {transport:?}", policy.name);
        Self {
            step,
            caller: caller.clone(),
            transport,
            front,
            expected,
            index,
            on_uplink: !matches!(who, "node" | "Pod"),
            claimed: policy.external_local && kind != "ClusterIP",
        }
    }
}

/// Node port, load balancer and external address.
fn external(policy: Policy, from: From, index: u8) -> Seen {
    let hidden = Seen::pods(&BOTH, Source::Node(index));
    match (policy.external_local, from) {
        (false, _) | (true, From::Node) => hidden,
        // A Pod is no stranger: it has the whole cluster, and is not hidden.
        (true, From::Pod) => Seen::pods(&BOTH, Source::Own),
        (true, From::Outside) if index == 1 => Seen::pod(HERE),
        (true, From::Outside) => Seen::silence(),
    }
}

fn internal(policy: Policy, from: From, index: u8) -> Seen {
    let pods: &[&str] = match (policy.internal_local, index) {
        (false, _) => &BOTH,
        (true, 1) => &[HERE],
        (true, _) => return Seen::silence(),
    };
    Seen::pods(pods, if from == From::Pod { Source::Own } else { Source::Node(index) })
}
