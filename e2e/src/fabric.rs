//! The wires: a bridge in a namespace of its own (the nodes' network), a router with the clients' network behind it, and
//! the namespaces of control plane, nodes and clients. Both families everywhere.
//!
//! ```text
//!   client1 client2 ──[bridge clients]── router/lb ──[fabric: br0]── cp, n1, n2, n3
//! ```
//! Knows addresses and links; knows nothing of Kubernetes but which Pod range lies behind which node.

pub mod plan;

use std::path::{Path, PathBuf};

use self::plan::Dual;
use crate::netns::{NetNs, NetNsError};

/// No duplicate address detection: the addresses are ours, and waiting costs a second per link.
const QUIET: &[(&str, &str)] = &[
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/all/accept_ra", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
];

const FORWARDING: &[(&str, &str)] = &[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")];

/// A router picks an ECMP path by the flow's five-tuple, so that one flow stays on one node and many spread evenly.
const FIVE_TUPLE_HASH: &[(&str, &str)] =
    &[("net/ipv4/fib_multipath_hash_policy", "1"), ("net/ipv6/fib_multipath_hash_policy", "1")];

/// A taken-over virtual address is announced by gratuitous ARP and unsolicited neighbour advertisement
/// (kernel, ip-sysctl: `arp_notify`, `ndisc_notify`).
const ANNOUNCING: &[(&str, &str)] = &[("net/ipv4/conf/eth0/arp_notify", "1"), ("net/ipv6/conf/eth0/ndisc_notify", "1")];

/// All namespaces and links of one testbed.
#[derive(Debug)]
pub struct Fabric {
    dir: PathBuf,
    wires: NetNs,
    nodes: u8,
    /// The router between clients and nodes; the load balancers run in it.
    pub router: NetNs,
    /// Where etcd and the API server live.
    pub control_plane: NetNs,
    /// Outside clients, in a network the nodes are not in.
    pub clients: Vec<NetNs>,
}

/// How Pods' own connections leave the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PodEgress {
    /// With the node's address, everywhere outside the Pod network: what most clusters do.
    #[default]
    Masquerade,
    /// As above, but the clients' network sees Pod addresses (the router knows the way back).
    PlainToClients,
}

impl Fabric {
    /// Builds everything but the nodes, which [`Fabric::join_node`] adds. `dir` will hold the pins.
    pub fn build(dir: &Path, nodes: u8, clients: u8) -> Result<Self, NetNsError> {
        let pin = |name: &str| dir.join(name);
        let wires = NetNs::create(&pin("fabric"))?;
        // A bridged frame is not an IP hop: iptables must not see it.
        wires.sysctl(&[("net/bridge/bridge-nf-call-iptables", "0"), ("net/bridge/bridge-nf-call-ip6tables", "0")])?;
        wires.ip("link add br0 type bridge mcast_snooping 0\nlink set br0 up\n")?;

        let router = NetNs::create(&pin("router"))?;
        router.sysctl(QUIET)?;
        router.sysctl(FORWARDING)?;
        router.sysctl(FIVE_TUPLE_HASH)?;
        router.sysctl(&[("net/bridge/bridge-nf-call-iptables", "0"), ("net/bridge/bridge-nf-call-ip6tables", "0")])?;
        let mut fabric = Self {
            dir: dir.to_owned(),
            control_plane: NetNs::create(&pin("cp"))?,
            wires,
            router,
            nodes,
            clients: Vec::new(),
        };
        fabric.plug("router", &fabric.router, plan::ROUTER, None)?;
        fabric.control_plane.sysctl(QUIET)?;
        fabric.plug("cp", &fabric.control_plane, plan::CONTROL_PLANE, Some(plan::ROUTER))?;
        // Pods are reached through their node, from the control plane too: the API server dials webhooks' endpoints.
        let to_pods = fabric.pod_routes(None);
        fabric.router.ip(&to_pods)?;
        fabric.control_plane.ip(&to_pods)?;

        let gateway = plan::CLIENT_GATEWAY;
        fabric.router.ip(&format!(
            "link add clients type bridge mcast_snooping 0\nlink set clients up\n\
             addr add {}/24 dev clients\naddr add {}/64 dev clients nodad\n",
            gateway.v4, gateway.v6
        ))?;
        for index in 1..=clients {
            let client = NetNs::create(&pin(&format!("client{index}")))?;
            client.sysctl(QUIET)?;
            let at = fabric.router.clone();
            link(&at, "clients", &format!("c-{index}"), &client, plan::client(index), Some(gateway))?;
            fabric.clients.push(client);
        }
        Ok(fabric)
    }

    /// Makes the namespace of node `index` and plugs it in: again after [`Fabric::drop_node`], as a machine that has
    /// been switched off comes back with empty tables.
    pub fn join_node(&self, index: u8, egress: PodEgress) -> Result<NetNs, NetNsError> {
        let node = NetNs::create(&self.node_pin(index))?;
        node.sysctl(QUIET)?;
        node.sysctl(FORWARDING)?;
        self.plug(&format!("n{index}"), &node, plan::node(index), Some(plan::ROUTER))?;
        node.sysctl(ANNOUNCING)?;
        node.ip(&self.pod_routes(Some(index)))?;
        node.nft(&egress_rules(index, egress))?;
        Ok(node)
    }

    /// Unplugs node `index` and forgets its namespace; its links end with it.
    pub fn drop_node(&self, index: u8) -> Result<(), NetNsError> {
        // The namespace may outlive its pin by a moment; its port must not.
        self.wires.ip(&format!("link del p-n{index}\n"))?;
        NetNs::at(&self.node_pin(index)).remove()
    }

    /// The namespace of node `index`, whether or not it is there.
    pub fn node(&self, index: u8) -> NetNs {
        NetNs::at(&self.node_pin(index))
    }

    /// Pulls or plugs the cable of node `index`: the node runs on, alone.
    pub fn set_cable(&self, index: u8, plugged: bool) -> Result<(), NetNsError> {
        self.wires.ip(&format!("link set p-n{index} {}\n", if plugged { "up" } else { "down" }))
    }

    /// Unpins every namespace that `dir` holds. Interfaces end with their namespace.
    pub fn remove_all(dir: &Path) -> Result<(), NetNsError> {
        let Ok(entries) = std::fs::read_dir(dir) else {
            return Ok(());
        };
        for entry in entries {
            let entry = entry.map_err(|source| NetNsError::File { what: "read", path: dir.to_owned(), source })?;
            NetNs::at(&entry.path()).remove()?;
        }
        Ok(())
    }

    fn node_pin(&self, index: u8) -> PathBuf {
        self.dir.join(format!("n{index}"))
    }

    fn plug(&self, name: &str, ns: &NetNs, address: Dual, gateway: Option<Dual>) -> Result<(), NetNsError> {
        link(&self.wires, "br0", &format!("p-{name}"), ns, address, gateway)
    }

    fn pod_routes(&self, but: Option<u8>) -> String {
        let mut batch = String::new();
        for index in (1..=self.nodes).filter(|index| Some(*index) != but) {
            let ([v4, v6], via) = (plan::pods(index), plan::node(index));
            batch.push_str(&format!("route add {v4} via {}\nroute add {v6} via {}\n", via.v4, via.v6));
        }
        batch
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        if let Err(e) = Self::remove_all(&self.dir) {
            tracing::warn!("unpinning namespaces: {e:#}");
        }
    }
}

/// A veth pair from `bridge` in `hub` to `eth0` in `leaf`, addressed and up.
fn link(
    hub: &NetNs,
    bridge: &str,
    port: &str,
    leaf: &NetNs,
    address: Dual,
    gateway: Option<Dual>,
) -> Result<(), NetNsError> {
    hub.ip(&format!(
        "link add {port} type veth peer name eth0 netns {}\nlink set {port} master {bridge} up\n",
        leaf.path().display()
    ))?;
    let mut batch = format!(
        "link set eth0 address {}\naddr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\nlink set eth0 up\n",
        mac(address),
        address.v4,
        address.v6
    );
    if let Some(gateway) = gateway {
        batch.push_str(&format!("route add default via {}\nroute add default via {}\n", gateway.v4, gateway.v6));
    }
    leaf.ip(&batch)
}

/// The link address of `eth0` at `address`: fixed, so that a node comes back as itself and nobody holds a stale neighbour.
pub fn mac(address: Dual) -> String {
    let [a, b, c, d] = address.v4.octets();
    format!("02:50:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

fn egress_rules(index: u8, egress: PodEgress) -> String {
    let [v4, v6] = plan::pods(index);
    let (mut keep4, mut keep6) = (plan::PODS_V4.to_owned(), plan::PODS_V6.to_owned());
    if egress == PodEgress::PlainToClients {
        keep4.push_str(&format!(", {}", plan::CLIENTS_V4));
        keep6.push_str(&format!(", {}", plan::CLIENTS_V6));
    }
    format!(
        "table inet testbed_egress {{\n chain postrouting {{\n  type nat hook postrouting priority srcnat + 10;\n\
         \x20 oifname eth0 ip saddr {v4} ip daddr != {{ {keep4} }} masquerade\n\
         \x20 oifname eth0 ip6 saddr {v6} ip6 daddr != {{ {keep6} }} masquerade\n }}\n}}\n"
    )
}

#[cfg(test)]
mod tests;
