//! The forwarding table: what is claimed and where new flows to it go.

use crate::input::{Directive, OnNoLocal};
use crate::key::{Family, PerFamily, Protocol, ServiceKey};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Everything claimed on this node. A Service is in it as a whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardingTable {
    /// Addresses that a [`FrontendHost::NodePort`] stands for, sorted.
    pub node_addresses: Vec<IpAddr>,
    /// Ranges of the cluster's Pods, sorted: a packet from them is in-cluster and kube-proxy's.
    pub pod_ranges: Vec<IpNet>,
    /// Claimed Services that were admitted.
    pub services: BTreeMap<ServiceKey, Arc<ServiceEntry>>,
}

/// One claimed Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Creation time, seconds since 1970.
    pub created: i64,
    /// How its traffic is taken.
    pub mode: ClaimedMode,
    /// What happens to new flows of a port whose standing is [`Standing::Elsewhere`].
    pub on_no_local: OnNoLocal,
    /// Sources that guarded frontends accept.
    pub sources: PerFamily<SourceFilter>,
    /// Session affinity by client address, timeout in seconds. The key is (port entry, client), not the frontend.
    pub affinity_seconds: Option<u32>,
    /// Health check node port, where the Service has one.
    pub health_check_node_port: Option<u16>,
    /// Unique addresses of ready local endpoints: the number a health check reports.
    pub local_ready: PerFamily<usize>,
    /// One entry per port and family that has a frontend, in the order of the Service's ports.
    pub ports: Vec<PortEntry>,
}

impl ServiceEntry {
    /// All frontends, in the order of the ports.
    pub fn frontends(&self) -> impl Iterator<Item = &FrontendEntry> {
        self.ports.iter().flat_map(|port| &port.frontends)
    }

    /// Number of targets over all ports: what the Service uses of the capacity for backends.
    #[must_use]
    pub fn backends(&self) -> usize {
        self.ports.iter().map(|port| port.targets.len()).sum()
    }

    /// Pods that keep their flows, by transport, port by port.
    pub fn keeping(&self) -> impl Iterator<Item = (Protocol, SocketAddr)> {
        self.ports.iter().flat_map(|port| port.keeping().map(|pod| (port.protocol, pod)))
    }

    /// Whether flows of `protocol` to `pod` that are under way go on.
    #[must_use]
    pub fn keeps(&self, protocol: Protocol, pod: SocketAddr) -> bool {
        self.ports.iter().any(|port| port.protocol == protocol && port.keeps(pod))
    }

    /// Whether its directive asks for flows to be handed to other nodes.
    #[must_use]
    pub fn hands_over(&self) -> bool {
        self.mode == ClaimedMode::Balance || self.on_no_local == OnNoLocal::Forward
    }

    /// Number of targets that are ready rather than draining.
    #[must_use]
    pub fn ready_backends(&self) -> usize {
        self.ports.iter().filter(|port| port.standing == Standing::LocalReady).map(|port| port.targets.len()).sum()
    }
}

/// How a claimed Service's traffic is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimedMode {
    /// Counted, not touched.
    Observe,
    /// To local Pods.
    Local,
    /// To local Pods and, for the surplus, to other nodes.
    Balance,
}

impl ClaimedMode {
    /// The mode as directives spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "Observe",
            Self::Local => "Local",
            Self::Balance => "Balance",
        }
    }
}

/// One port of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortEntry {
    /// Name of the Service port; may be empty.
    pub name: Arc<str>,
    /// Family of every frontend and target below.
    pub family: Family,
    /// Transport.
    pub protocol: Protocol,
    /// What clients use, sorted.
    pub frontends: Vec<FrontendEntry>,
    /// Where the endpoints are.
    pub standing: Standing,
    /// Where new flows go, sorted by hop; empty unless the standing is local.
    pub targets: Vec<Target>,
    /// Pods of this node that take no new flows and keep those they have
    /// ([`EndpointInput::keeps_flows`](crate::EndpointInput::keeps_flows)), sorted.
    pub kept: Vec<SocketAddr>,
}

/// Where a port's endpoints are, in order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Ready ones on this node: the targets.
    LocalReady,
    /// None ready here, but serving and terminating ones: the targets, while load balancers learn of it.
    LocalDraining,
    /// None here, at least one usable on another node.
    Elsewhere,
    /// No usable endpoint in the cluster: new flows are rejected.
    Nowhere,
}

/// One place that new flows go to, with its share.
///
/// Nodes that take a share of another node's flows are further kinds of [`Hop`] in this same list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Where to.
    pub hop: Hop,
    /// Share relative to the other targets of the port; local Pods have equal ones.
    pub weight: u32,
}

/// Where a flow goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hop {
    /// A Pod of this node, by destination NAT.
    Pod(SocketAddr),
}

impl fmt::Display for Hop {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(address) => write!(out, "{address}"),
        }
    }
}

/// What a client uses: where, port, protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frontend {
    /// Destination address, or any address of the node.
    pub host: FrontendHost,
    /// Destination port.
    pub port: u16,
    /// Transport.
    pub protocol: Protocol,
}

impl fmt::Display for Frontend {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, protocol } = self;
        match host {
            FrontendHost::Address(address) => write!(out, "{}/{protocol}", SocketAddr::new(*address, *port)),
            FrontendHost::NodePort(family) => write!(out, "node port {port}/{protocol} ({family})"),
        }
    }
}

/// Where a frontend is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrontendHost {
    /// One address. Looked up before the node port.
    Address(IpAddr),
    /// Every address of the node of this family ([`ForwardingTable::node_addresses`]).
    NodePort(Family),
}

/// A frontend and how it came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrontendEntry {
    /// What clients use.
    pub frontend: Frontend,
    /// Where it comes from.
    pub kind: FrontendKind,
    /// Whether the Service's [`SourceFilter`] is asked before a new flow is taken.
    pub guarded: bool,
}

/// Where a frontend comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FrontendKind {
    /// Address of a load balancer.
    LoadBalancer,
    /// One of `spec.externalIPs`.
    ExternalIp,
    /// A node port.
    NodePort,
}

/// Sources that a guarded frontend accepts, in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceFilter {
    /// All: no range of the family was given, or one of them is the zero range.
    Open,
    /// Only these; a new flow from elsewhere is dropped.
    Only {
        /// Accepted ranges, sorted, without duplicates.
        ranges: Vec<IpNet>,
        /// The Service's load balancer addresses are accepted as sources too, since this node's address lies in a range:
        /// a process of the node that talks to a load balancer address bound on it has that address as source
        /// (kube-proxy's `KUBE-FW-` chain accepts each of them for each of them).
        own_address: bool,
    },
}

impl PortEntry {
    /// Whether flows to `pod` that are under way go on: it takes new ones or is [kept](Self::kept).
    #[must_use]
    pub fn keeps(&self, pod: SocketAddr) -> bool {
        self.keeping().any(|keeping| keeping == pod)
    }

    /// Pods that keep their flows: those that take new ones, then the [kept](Self::kept).
    pub fn keeping(&self) -> impl Iterator<Item = SocketAddr> {
        let taking = self.targets.iter().map(|target| {
            let Hop::Pod(pod) = target.hop;
            pod
        });
        taking.chain(self.kept.iter().copied())
    }
}

impl Directive {
    /// The mode, if it is one that claims.
    #[must_use]
    pub const fn claimed_mode(self) -> Option<ClaimedMode> {
        match self.mode {
            crate::input::Mode::Off => None,
            crate::input::Mode::Observe => Some(ClaimedMode::Observe),
            crate::input::Mode::Local => Some(ClaimedMode::Local),
            crate::input::Mode::Balance => Some(ClaimedMode::Balance),
        }
    }
}
