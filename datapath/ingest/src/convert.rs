//! The reading itself. Total: every object gives an input, nothing, or an error that names the field.
//! An object with a field that cannot be read is left out as a whole, so that no half of it is claimed.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Node, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use portreeve_crds::policy::{DataPathMode, OnNoLocal as OnNoLocalField};
use portreeve_crds::{DatapathConfigSpec, ServiceTrafficSpec, names};
use portreeve_table::input::{PortInput, ServiceKind, SlicePort};
use portreeve_table::{
    Capacity, Directive, EndpointInput, Mode, Names, OnNoLocal, PerFamily, Protocol, ServiceInput, ServiceKey,
    SliceInput, ThisNode,
};
use std::net::IpAddr;

/// Label by which a Service belongs to another proxy, whatever its value.
const SERVICE_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Label by which a slice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Timeout of `sessionAffinity: ClientIP` where none is given, as the API server defaults it.
const AFFINITY_SECONDS: u32 = 10_800;

/// A field that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConvertError {
    /// An address is none.
    #[error("{field} {value:?} is no IP address")]
    Address {
        /// Its path in the object.
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// A range is none.
    #[error("{field} {value:?} is no address range")]
    Range {
        /// Its path in the object.
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// A port is not within 1 to 65535.
    #[error("{field} {value} is no port")]
    Port {
        /// Its path in the object.
        field: &'static str,
        /// What it holds.
        value: i32,
    },
    /// A protocol or type that this version does not know.
    #[error("{field} {value:?} is unknown")]
    Unknown {
        /// Its path in the object.
        field: &'static str,
        /// What it holds.
        value: String,
    },
}

/// A Service.
pub fn service(service: &Service, names: &mut Names) -> Result<ServiceInput, ConvertError> {
    let empty = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    let kind = match spec.type_.as_deref() {
        None | Some("ClusterIP") => ServiceKind::ClusterIp,
        Some("NodePort") => ServiceKind::NodePort,
        Some("LoadBalancer") => ServiceKind::LoadBalancer,
        Some("ExternalName") => ServiceKind::ExternalName,
        Some(other) => return Err(ConvertError::Unknown { field: "spec.type", value: other.to_owned() }),
    };
    let (load_balancer, proxied_addresses) =
        if kind == ServiceKind::LoadBalancer { load_balancer(service)? } else { (Box::default(), 0) };
    let ports = spec.ports.iter().flatten().map(|port| service_port(port, names)).collect::<Result<_, _>>()?;
    let source_ranges =
        spec.load_balancer_source_ranges.iter().flatten().map(|text| range(text)).collect::<Result<_, _>>()?;
    Ok(ServiceInput {
        created: service.creation_timestamp().map_or(0, |time| time.0.as_second()),
        kind,
        external_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        headless: spec.cluster_ip.as_deref() == Some("None"),
        other_proxy: service.labels().contains_key(SERVICE_PROXY_NAME),
        ignored: service.labels().get(names::LABEL_IGNORE).is_some_and(|value| value == "true"),
        families: families(spec),
        ports,
        load_balancer,
        proxied_addresses,
        external_ips: addresses("spec.externalIPs", spec.external_ips.iter().flatten())?,
        source_ranges,
        affinity_seconds: affinity(spec),
        health_check_node_port: optional_port("spec.healthCheckNodePort", spec.health_check_node_port)?,
    })
}

/// Addresses with `ipMode` VIP (the meaning of its absence), and the number of those with `Proxy`.
fn load_balancer(service: &Service) -> Result<(Box<[IpAddr]>, u16), ConvertError> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.iter().flat_map(|balancer| balancer.ingress.iter().flatten());
    let with_ip = ingress.filter(|point| point.ip.as_deref().is_some_and(|ip| !ip.is_empty()));
    let (proxied, vips): (Vec<_>, Vec<_>) = with_ip.partition(|point| point.ip_mode.as_deref() == Some("Proxy"));
    let vips = addresses("status.loadBalancer.ingress", vips.iter().filter_map(|point| point.ip.as_ref()))?;
    Ok((vips, u16::try_from(proxied.len()).unwrap_or(u16::MAX)))
}

fn service_port(port: &ServicePort, names: &mut Names) -> Result<PortInput, ConvertError> {
    Ok(PortInput {
        name: names.share(port.name.as_deref().unwrap_or_default()),
        protocol: protocol(port.protocol.as_deref())?,
        port: number("spec.ports.port", port.port)?,
        node_port: optional_port("spec.ports.nodePort", port.node_port)?,
    })
}

/// Families that the Service serves: as it says or, on an object from before dual-stack, that of its cluster address.
fn families(spec: &ServiceSpec) -> PerFamily<bool> {
    let named = spec.ip_families.as_deref().unwrap_or_default();
    if !named.is_empty() {
        let has = |family: &str| named.iter().any(|name| name == family);
        return PerFamily { v4: has("IPv4"), v6: has("IPv6") };
    }
    let address = spec.cluster_ip.as_deref().and_then(|text| text.parse::<IpAddr>().ok());
    PerFamily {
        v4: address.is_none_or(|address| address.is_ipv4()),
        v6: address.is_some_and(|address| address.is_ipv6()),
    }
}

fn affinity(spec: &ServiceSpec) -> Option<u32> {
    (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| {
        let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
        let seconds = config.and_then(|config| config.timeout_seconds);
        seconds.and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(AFFINITY_SECONDS)
    })
}

/// A slice and its Service; nothing for a slice that belongs to none or holds names instead of addresses.
pub fn slice(slice: &EndpointSlice, names: &mut Names) -> Result<Option<(ServiceKey, SliceInput)>, ConvertError> {
    let Some(service) = slice.labels().get(SERVICE_NAME) else { return Ok(None) };
    if !matches!(slice.address_type.as_str(), "IPv4" | "IPv6") {
        return Ok(None);
    }
    let key = ServiceKey { namespace: names.share(&slice.namespace().unwrap_or_default()), name: names.share(service) };
    let mut ports = Vec::new();
    for port in slice.ports.iter().flatten() {
        // A port without a number means "all ports", which no Service port can be matched with.
        if let Some(value) = port.port {
            ports.push(SlicePort {
                name: names.share(port.name.as_deref().unwrap_or_default()),
                protocol: protocol(port.protocol.as_deref())?,
                port: number("ports.port", value)?,
            });
        }
    }
    let listed = slice.endpoints.as_deref().unwrap_or_default();
    let mut endpoints = Vec::with_capacity(listed.len());
    for endpoint in listed {
        let Some(first) = endpoint.addresses.first() else { continue };
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        endpoints.push(EndpointInput {
            address: address("endpoints.addresses", first)?,
            node: endpoint.node_name.as_deref().map(|node| names.share(node)),
            ready,
            serving: conditions.and_then(|conditions| conditions.serving).unwrap_or(true),
            terminating: conditions.and_then(|conditions| conditions.terminating).unwrap_or(false),
        });
    }
    Ok(Some((key, SliceInput { ports: ports.into(), endpoints: endpoints.into() })))
}

/// A directive.
pub fn directive(spec: &ServiceTrafficSpec) -> Directive {
    // How a forwarded flow is answered matters once flows are forwarded.
    let ServiceTrafficSpec { mode, on_no_local, return_: _, source_ranges_on_node_ports } = spec;
    Directive {
        mode: match mode {
            None | Some(DataPathMode::Off) => Mode::Off,
            Some(DataPathMode::Observe) => Mode::Observe,
            Some(DataPathMode::Local) => Mode::Local,
            Some(DataPathMode::Balance) => Mode::Balance,
        },
        on_no_local: match on_no_local {
            None | Some(OnNoLocalField::Drop) => OnNoLocal::Drop,
            Some(OnNoLocalField::Reject) => OnNoLocal::Reject,
            Some(OnNoLocalField::Passthrough) => OnNoLocal::Passthrough,
            Some(OnNoLocalField::Forward) => OnNoLocal::Forward,
        },
        source_ranges_on_node_ports: source_ranges_on_node_ports.unwrap_or(false),
    }
}

/// This node, its InternalIPs before all other addresses, and those alone (by which uplinks are found).
pub fn node(node: &Node) -> Result<(ThisNode, Vec<IpAddr>), ConvertError> {
    let listed = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    let (mut internal, mut external) = (Vec::new(), Vec::new());
    for entry in listed.filter(|entry| matches!(entry.type_.as_str(), "InternalIP" | "ExternalIP")) {
        let parsed = address("status.addresses", &entry.address)?;
        if entry.type_ == "InternalIP" { &mut internal } else { &mut external }.push(parsed);
    }
    let addresses = [&*internal, &*external].concat();
    Ok((ThisNode { name: node.name_any().into(), addresses }, internal))
}

/// Addresses that the node gives to its Pods: as it says or, on an object from before dual-stack, the one range of then.
/// None on clusters whose network hands out addresses by itself.
pub fn pod_ranges(node: &Node) -> Result<Vec<IpNet>, ConvertError> {
    let spec = node.spec.as_ref();
    let ranges = spec.and_then(|spec| spec.pod_cidrs.as_deref()).unwrap_or_default();
    let old = spec.and_then(|spec| spec.pod_cidr.as_ref()).filter(|_| ranges.is_empty());
    let read = |text: &String| {
        let parsed = text.parse::<IpNet>();
        parsed.map_err(|_| ConvertError::Range { field: "spec.podCIDRs", value: text.clone() })
    };
    ranges.iter().chain(old).map(read).collect()
}

/// The capacity that the configuration gives; the default where it is silent.
pub fn capacity(spec: Option<&DatapathConfigSpec>) -> Capacity {
    let given = spec.and_then(|spec| spec.capacity.as_ref());
    let or = |value: Option<i32>, default| value.and_then(|value| usize::try_from(value).ok()).unwrap_or(default);
    let default = Capacity::default();
    Capacity {
        frontends: or(given.and_then(|given| given.frontends), default.frontends),
        backends: or(given.and_then(|given| given.backends), default.backends),
    }
}

fn addresses<'a>(field: &'static str, texts: impl Iterator<Item = &'a String>) -> Result<Box<[IpAddr]>, ConvertError> {
    texts.map(|text| address(field, text)).collect()
}

fn address(field: &'static str, text: &str) -> Result<IpAddr, ConvertError> {
    text.parse().map_err(|_| ConvertError::Address { field, value: text.to_owned() })
}

/// A range; kube-proxy too forgives spaces around it.
fn range(text: &str) -> Result<IpNet, ConvertError> {
    let field = "spec.loadBalancerSourceRanges";
    text.trim().parse().map_err(|_| ConvertError::Range { field, value: text.to_owned() })
}

fn protocol(text: Option<&str>) -> Result<Protocol, ConvertError> {
    match text {
        None | Some("TCP") => Ok(Protocol::Tcp),
        Some("UDP") => Ok(Protocol::Udp),
        Some("SCTP") => Ok(Protocol::Sctp),
        Some(other) => Err(ConvertError::Unknown { field: "protocol", value: other.to_owned() }),
    }
}

fn number(field: &'static str, value: i32) -> Result<u16, ConvertError> {
    u16::try_from(value).ok().filter(|port| *port != 0).ok_or(ConvertError::Port { field, value })
}

/// A port that is absent or zero is none.
fn optional_port(field: &'static str, value: Option<i32>) -> Result<Option<u16>, ConvertError> {
    value.filter(|value| *value != 0).map(|value| number(field, value)).transpose()
}

#[cfg(test)]
mod tests;
