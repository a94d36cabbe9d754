//! What a Service asks of its load balancer. Pure.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;

use crate::fabric::plan::Dual;

/// `v1` or `v2`: a proxy sends the PROXY protocol header of that version to the backend.
pub const PROXY_PROTOCOL_ANNOTATION: &str = "testbed.portreeve.io/proxy-protocol";
/// `"true"`: a forwarder spreads flows by `X-Load-Balancing-Endpoint-Weight` instead of evenly over nodes.
pub const WEIGHTED_ANNOTATION: &str = "testbed.portreeve.io/weighted";

/// kube-proxy's own health port, checked where every node may take traffic (KEP-3458).
const KUBE_PROXY_HEALTH_PORT: u16 = 10256;

/// The kinds of load balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Kind {
    /// Routes flows to nodes and leaves the packets alone: the client's address is kept.
    #[default]
    Forwarder,
    /// Terminates connections and makes new ones to node ports: the node sees the load balancer.
    Proxy,
    /// One node has the address on its link and says so by ARP and neighbour discovery.
    Announcer,
}

impl Kind {
    /// The `spec.loadBalancerClass` that chooses this kind.
    pub fn class(self) -> &'static str {
        match self {
            Self::Forwarder => "testbed.portreeve.io/forwarder",
            Self::Proxy => "testbed.portreeve.io/proxy",
            Self::Announcer => "testbed.portreeve.io/announcer",
        }
    }

    fn from_class(class: &str) -> Option<Self> {
        [Self::Forwarder, Self::Proxy, Self::Announcer].into_iter().find(|kind| kind.class() == class)
    }

    /// `ipMode` of the addresses: traffic from inside the cluster may short-cut a VIP, but not a proxy (KEP-1860).
    pub(super) fn ip_mode(self) -> &'static str {
        match self {
            Self::Forwarder | Self::Announcer => "VIP",
            Self::Proxy => "Proxy",
        }
    }
}

/// Version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProxyProtocol {
    V1,
    V2,
}

/// One TCP port to be proxied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PortPair {
    pub(super) port: u16,
    pub(super) node_port: u16,
}

/// The load balancer one Service wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) kind: Kind,
    /// `true` for IPv4, in the Service's order of families.
    pub(super) families: Vec<bool>,
    /// TCP ports with a node port; forwarder and announcer do not look at ports.
    pub(super) ports: Vec<PortPair>,
    pub(super) check_port: u16,
    pub(super) proxy_protocol: Option<ProxyProtocol>,
    pub(super) weighted: bool,
}

impl Wanted {
    /// `None` for a Service that is not ours: another type, another class, or on its way out.
    pub(super) fn by(service: &Service, default_kind: Kind) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        if spec.type_.as_deref() != Some("LoadBalancer") || service.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let kind = match &spec.load_balancer_class {
            None => default_kind,
            Some(class) => Kind::from_class(class)?,
        };
        let local = spec.external_traffic_policy.as_deref() == Some("Local");
        let check_port = spec.health_check_node_port.filter(|_| local).and_then(|port| u16::try_from(port).ok());
        let annotation = |key| service.metadata.annotations.as_ref()?.get(key).map(String::as_str);
        Some(Self {
            kind,
            families: spec.ip_families.iter().flatten().map(|family| family == "IPv4").collect(),
            ports: spec.ports.iter().flatten().filter_map(tcp_pair).collect(),
            check_port: check_port.filter(|port| *port != 0).unwrap_or(KUBE_PROXY_HEALTH_PORT),
            proxy_protocol: match annotation(PROXY_PROTOCOL_ANNOTATION) {
                Some("v1") => Some(ProxyProtocol::V1),
                Some("v2") => Some(ProxyProtocol::V2),
                _ => None,
            },
            weighted: annotation(WEIGHTED_ANNOTATION) == Some("true"),
        })
    }

    /// The addresses it gets out of a pair.
    pub(super) fn vips(&self, pair: Dual) -> Vec<IpAddr> {
        self.families.iter().map(|v4| if *v4 { pair.v4.into() } else { pair.v6.into() }).collect()
    }
}

fn tcp_pair(port: &k8s_openapi::api::core::v1::ServicePort) -> Option<PortPair> {
    if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
        return None;
    }
    Some(PortPair { port: u16::try_from(port.port).ok()?, node_port: u16::try_from(port.node_port?).ok()? })
}

#[cfg(test)]
mod tests;
