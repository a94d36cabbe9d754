//! One node with a client before it and Pods behind it, each in a network namespace of its own.
//!
//! ```text
//!   client ──eth0── node ──pods── pod        every address of LOCAL_PODS is the pod namespace's own
//!                    └──mgmt── control plane
//! ```

use std::path::Path;

use anyhow::{Context as _, Result};

use super::plan;
use super::server::Server;
use super::variant::Variant;
use crate::netns::{NetNs, NetNsError};
use crate::teardown;

/// A namespace that is unpinned with the value.
#[derive(Debug)]
pub(super) struct Pinned(pub(super) NetNs);

impl Pinned {
    fn create(run: &Path, name: &str) -> Result<Self, NetNsError> {
        Ok(Self(NetNs::create(teardown::pin(run, name).path())?))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Err(error) = self.0.remove() {
            tracing::warn!(%error, "namespace not unpinned");
        }
    }
}

/// The namespace of the control plane, with the bridge to which nodes are plugged.
pub(super) fn control_plane(run: &Path) -> Result<Pinned> {
    let cp = Pinned::create(run, "cp")?;
    cp.0.sysctl(&[("net/bridge/bridge-nf-call-iptables", "0"), ("net/bridge/bridge-nf-call-ip6tables", "0")])?;
    cp.0.ip(&format!("link add br0 type bridge\naddr add {}/24 dev br0\nlink set br0 up\n", plan::CONTROL_PLANE))?;
    Ok(cp)
}

/// One node and what is around it.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) variant: Variant,
    /// Before the namespaces, so that its thread has ended when they go.
    pub(super) server: Server,
    pub(super) client: Pinned,
    pub(super) node: Pinned,
    pod: Pinned,
}

impl Node {
    /// Builds everything but the daemons. `name` and `number` (from 1) tell it from all others of the run.
    pub(super) fn build(run: &Path, cp: &NetNs, variant: Variant, name: &str, number: u8) -> Result<Self> {
        let pinned = |part: &str| Pinned::create(run, &format!("{name}-{part}"));
        let host = number.checked_add(20).context("more nodes than addresses")?;
        let (client, node, pod) = (pinned("client")?, pinned("node")?, pinned("pod")?);
        let (at_node, at_client) = (plan::NODE_ADDRESS, plan::CLIENT_ADDRESS);
        node.0.ip(&format!(
            "link add eth0 type veth peer name eth0 netns {}\nlink add pods type veth peer name eth0 netns {}\n\
             link add mgmt type veth peer name n{number} netns {}\n",
            client.0.path().display(),
            pod.0.path().display(),
            cp.path().display(),
        ))?;
        cp.ip(&format!("link set n{number} master br0\nlink set n{number} up\n"))?;
        let (gateway, link, local) = (plan::POD_GATEWAY, plan::POD_LINK, plan::LOCAL_PODS);
        node.0.ip(&format!(
            "addr add {at_node}/24 dev eth0\nlink set eth0 up\naddr add {gateway}/30 dev pods\nlink set pods up\n\
             addr add 172.30.0.{host}/24 dev mgmt\nlink set mgmt up\nroute add {local} via {link}\n"
        ))?;
        node.0.sysctl(&[("net/ipv4/ip_forward", "1")])?;
        client
            .0
            .ip(&format!("addr add {at_client}/24 dev eth0\nlink set eth0 up\nroute add default via {at_node}\n"))?;
        pod.0.ip(&format!(
            "addr add {link}/30 dev eth0\nlink set eth0 up\nroute add default via {gateway}\nroute add local {local} dev lo\n"
        ))?;
        // Slices come back after a pause: each would begin with a small window. And a sender that paces itself, as the
        // machine's default may do, would be measured by its timers.
        for end in [&client, &pod] {
            end.0
                .sysctl(&[("net/ipv4/tcp_slow_start_after_idle", "0"), ("net/ipv4/tcp_congestion_control", "reno")])?;
        }
        // A listener's queue is as long as the namespace allows when it begins to listen.
        pod.0.sysctl(&[("net/core/somaxconn", "8192")])?;
        if variant == Variant::OneRule {
            node.0.nft(&one_rule()).context("the one rule")?;
        }
        let server = Server::start(&pod.0)?;
        Ok(Self { variant, server, client, node, pod })
    }

    /// Lets both ends build segments of one packet only, or of many: with many, veth carries 64 KiB at a time and hides what
    /// a packet costs.
    pub(super) fn set_offloads(&self, on: bool) -> Result<()> {
        let segments = if on { 65_535 } else { 1 };
        for end in [&self.client, &self.pod] {
            end.0.ip(&format!("link set dev eth0 gso_max_segs {segments}\n"))?;
        }
        Ok(())
    }
}

/// Every port of the node, so that the rule serves whichever Service is dialled.
fn one_rule() -> String {
    format!(
        "table ip floor {{\n chain prerouting {{\n  type nat hook prerouting priority dstnat;\n\
         \x20 ip daddr {} tcp dport {} dnat to {}:{}\n }}\n}}\n",
        plan::NODE_ADDRESS,
        plan::NODE_PORTS,
        plan::local_pod(0, plan::Pod::First),
        plan::POD_PORT
    )
}
