//! What the compiler is told: Services, slices of endpoints, directives and this node, trimmed to what decides a packet.

use crate::key::{Family, PerFamily, Protocol, ServiceKey};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Everything that a table follows from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Input {
    /// The node that compiles.
    pub this_node: ThisNode,
    /// Ranges of the cluster's Pods: what comes from them un-translated is in-cluster.
    pub pod_ranges: Vec<IpNet>,
    /// Most that may be claimed.
    pub capacity: Capacity,
    /// Services by key.
    pub services: BTreeMap<ServiceKey, ServiceInput>,
    /// Slices by the Service they belong to, then by their own name.
    pub slices: BTreeMap<ServiceKey, BTreeMap<Arc<str>, SliceInput>>,
    /// Directives by Service.
    pub directives: BTreeMap<ServiceKey, Directive>,
}

impl Input {
    /// Whether flows to `pod` of a Service go on, by its slices alone: for flows that outlive the claim on their Service.
    /// Those of a claimed one ask its [entry](crate::ServiceEntry::keeps).
    #[must_use]
    pub fn keeps(&self, service: &ServiceKey, protocol: Protocol, pod: SocketAddr) -> bool {
        let slices = self.slices.get(service).into_iter().flat_map(BTreeMap::values);
        slices
            .filter(|slice| slice.ports.iter().any(|port| port.protocol == protocol && port.port == pod.port()))
            .flat_map(|slice| &slice.endpoints)
            .filter(|endpoint| endpoint.address == pod.ip() && endpoint.node.as_ref() == Some(&self.this_node.name))
            .any(|endpoint| endpoint.keeps_flows(protocol))
    }
}

/// One Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInput {
    /// Creation time, seconds since 1970; decides who is older when capacity runs out.
    pub created: i64,
    /// `spec.type`.
    pub kind: ServiceKind,
    /// `spec.externalTrafficPolicy` is `Local`.
    pub external_local: bool,
    /// `spec.clusterIP` is `None`.
    pub headless: bool,
    /// Label `service.kubernetes.io/service-proxy-name` is set, to whatever value: another proxy serves it.
    pub other_proxy: bool,
    /// Our opt-out label is `"true"`.
    pub ignored: bool,
    /// Families that the Service serves.
    pub families: PerFamily<bool>,
    /// Ports.
    pub ports: Box<[PortInput]>,
    /// Load balancer addresses with `ipMode` VIP (or none given).
    pub load_balancer: Box<[IpAddr]>,
    /// Number of load balancer addresses with `ipMode: Proxy`: their traffic must leave the node (KEP-1860).
    pub proxied_addresses: u16,
    /// `spec.externalIPs`.
    pub external_ips: Box<[IpAddr]>,
    /// `spec.loadBalancerSourceRanges`.
    pub source_ranges: Box<[IpNet]>,
    /// `sessionAffinity: ClientIP` with its timeout in seconds.
    pub affinity_seconds: Option<u32>,
    /// `spec.healthCheckNodePort`.
    pub health_check_node_port: Option<u16>,
}

/// `spec.type` of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// Inside the cluster, or through externalIPs.
    ClusterIp,
    /// On a port of every node.
    NodePort,
    /// Through a load balancer.
    LoadBalancer,
    /// An alias in DNS.
    ExternalName,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInput {
    /// Name; empty when the Service has one unnamed port. Slices refer to it.
    pub name: Arc<str>,
    /// Transport.
    pub protocol: Protocol,
    /// Port on the Service's addresses.
    pub port: u16,
    /// Port on the nodes, if one is allocated.
    pub node_port: Option<u16>,
}

/// One EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceInput {
    /// Ports by name; a slice port belongs to the Service port of the same name and protocol.
    pub ports: Box<[SlicePort]>,
    /// Endpoints.
    pub endpoints: Box<[EndpointInput]>,
}

/// One port of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// Name of the Service port.
    pub name: Arc<str>,
    /// Transport.
    pub protocol: Protocol,
    /// Port on the endpoints.
    pub port: u16,
}

/// One endpoint: the first address, since the API says that the others are equivalent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointInput {
    /// The Pod's address.
    pub address: IpAddr,
    /// `nodeName`; without one the endpoint is never local.
    pub node: Option<Arc<str>>,
    /// Condition ready (absent in the API means true).
    pub ready: bool,
    /// Condition serving (absent in the API means true).
    pub serving: bool,
    /// Condition terminating.
    pub terminating: bool,
}

impl EndpointInput {
    /// Whether the endpoint may still take new flows when no ready one is left (KEP-1669).
    #[must_use]
    pub const fn is_draining(&self) -> bool {
        self.serving && self.terminating
    }

    /// Whether flows that it has go on. Those of UDP end when it stops serving, since its clients are not told when nobody
    /// answers (kube-proxy's conntrack cleanup draws the same line).
    #[must_use]
    pub fn keeps_flows(&self, protocol: Protocol) -> bool {
        self.ready || self.serving || protocol != Protocol::Udp
    }
}

/// What policies ask of agents for one Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directive {
    /// Whether, and how, its external traffic is taken.
    pub mode: Mode,
    /// What happens to a new flow when this node has no Pod and another has.
    pub on_no_local: OnNoLocal,
    /// Whether `loadBalancerSourceRanges` guards the node ports too.
    pub source_ranges_on_node_ports: bool,
}

/// Whether, and how, a Service's external traffic is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// kube-proxy keeps it.
    #[default]
    Off,
    /// It is counted and not touched.
    Observe,
    /// New flows go to local Pods.
    Local,
    /// As `Local`, with a share for other nodes.
    Balance,
}

/// What happens to a new flow when no Pod is local and another node has one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnNoLocal {
    /// Dropped silently, as kube-proxy does.
    #[default]
    Drop,
    /// Refused with ICMP port unreachable.
    Reject,
    /// Left to kube-proxy.
    Passthrough,
    /// Handed to another node, with the client's address kept.
    Forward,
}

/// The node that compiles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThisNode {
    /// Its name, as `nodeName` of endpoints spells it.
    pub name: Arc<str>,
    /// Its addresses (`status.addresses` of types InternalIP and ExternalIP, in this order): of each family the first is the
    /// one by which kube-proxy knows it.
    pub addresses: Vec<IpAddr>,
}

/// Most that is claimed; a Service beyond it is refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Frontends.
    pub frontends: usize,
    /// Local backends, counted per Service port.
    pub backends: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self { frontends: 65_536, backends: 262_144 }
    }
}

impl ServiceInput {
    /// Whether clients outside the cluster can reach it: by type, or a ClusterIP Service by its externalIPs.
    #[must_use]
    pub fn is_external(&self) -> bool {
        match self.kind {
            ServiceKind::NodePort | ServiceKind::LoadBalancer => true,
            ServiceKind::ClusterIp => !self.external_ips.is_empty(),
            ServiceKind::ExternalName => false,
        }
    }

    /// Whether it serves `family`.
    #[must_use]
    pub const fn serves(&self, family: Family) -> bool {
        *self.families.get(family)
    }
}
