//! From inputs to the table, one Service at a time.

use crate::admission::{Admission, Refusal};
use crate::claim::{self, Claim};
use crate::endpoints::{self, Selected};
use crate::input::{Directive, Input, PortInput, ServiceInput, SliceInput, ThisNode};
use crate::key::{Family, PerFamily, ServiceKey};
use crate::table::{
    ForwardingTable, Frontend, FrontendEntry, FrontendHost, FrontendKind, PortEntry, ServiceEntry, SourceFilter,
};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What the inputs come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// What the node does.
    pub table: ForwardingTable,
    /// Claimed Services that were not admitted, and why.
    pub refused: BTreeMap<ServiceKey, Refusal>,
    /// The claim on every Service that was seen.
    pub claims: BTreeMap<ServiceKey, Claim>,
    /// Sizes.
    pub counts: Counts,
}

/// Sizes of a compiled table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Services seen.
    pub seen: usize,
    /// Services in the table.
    pub claimed: usize,
    /// Services refused.
    pub refused: usize,
    /// Frontends in the table.
    pub frontends: usize,
    /// Targets in the table, draining ones included.
    pub backends: usize,
    /// Targets in the table that are ready.
    pub ready_backends: usize,
}

/// Compiles everything from scratch.
#[must_use]
pub fn compile(input: &Input) -> Compiled {
    let Input { this_node, pod_ranges, capacity, services, slices, directives } = input;
    let mut claims = BTreeMap::new();
    let mut candidates = BTreeMap::new();
    for (key, service) in services {
        let (claim, entry) = compile_service(service, directives.get(key), slices.get(key), this_node);
        claims.insert(key.clone(), claim);
        candidates.extend(entry.map(|entry| (key.clone(), Arc::new(entry))));
    }
    let (admission, services, refused) = Admission::from_scratch(&candidates, *capacity);
    let counts = admission.counts(claims.len(), services.len(), refused.len());
    let table =
        ForwardingTable { node_addresses: node_addresses(this_node), pod_ranges: sorted_ranges(pod_ranges), services };
    Compiled { table, refused, claims, counts }
}

/// The node's addresses as the table holds them.
pub(crate) fn node_addresses(node: &ThisNode) -> Vec<IpAddr> {
    let unique: BTreeSet<IpAddr> = node.addresses.iter().copied().collect();
    unique.into_iter().collect()
}

/// Ranges as the table holds them: without host bits and duplicates.
pub(crate) fn sorted_ranges(ranges: &[IpNet]) -> Vec<IpNet> {
    let unique: BTreeSet<IpNet> = ranges.iter().map(IpNet::trunc).collect();
    unique.into_iter().collect()
}

/// Slices of one Service, by name.
pub(crate) type Slices = BTreeMap<Arc<str>, SliceInput>;

/// The claim on one Service and, if it is ours, its entry before admission.
pub(crate) fn compile_service(
    service: &ServiceInput,
    directive: Option<&Directive>,
    slices: Option<&Slices>,
    node: &ThisNode,
) -> (Claim, Option<ServiceEntry>) {
    let claim = claim::before_frontends(service, directive);
    let (Claim::Claimed(mode), Some(directive)) = (claim, directive) else { return (claim, None) };
    let slices = || slices.into_iter().flat_map(BTreeMap::values);
    let sources = PerFamily::from_fn(|family| source_filter(service, family, node));
    let mut taken = BTreeSet::new();
    let mut ports = Vec::new();
    for port in &service.ports {
        for family in Family::BOTH.into_iter().filter(|family| service.serves(*family)) {
            let frontends = frontends(service, port, family, directive, &mut taken);
            if frontends.is_empty() {
                continue;
            }
            let Selected { standing, targets, kept } = endpoints::select(slices(), port, family, &node.name);
            ports.push(PortEntry {
                name: Arc::clone(&port.name),
                family,
                protocol: port.protocol,
                frontends,
                standing,
                targets,
                kept,
            });
        }
    }
    if ports.is_empty() {
        return (Claim::Left(claim::without_frontends(service)), None);
    }
    let entry = ServiceEntry {
        created: service.created,
        mode,
        on_no_local: directive.on_no_local,
        sources,
        affinity_seconds: service.affinity_seconds,
        health_check_node_port: service.health_check_node_port,
        local_ready: PerFamily::from_fn(|family| endpoints::local_ready(slices(), family, &node.name)),
        ports,
    };
    (claim, Some(entry))
}

/// Frontends of one port and family that no earlier port of the Service has, sorted.
///
/// An address that is both a load balancer's and an external IP counts as the load balancer's: kube-proxy's two modes
/// disagree about its source ranges, and the guarded reading is the safe one.
pub(crate) fn frontends(
    service: &ServiceInput,
    port: &PortInput,
    family: Family,
    directive: &Directive,
    taken: &mut BTreeSet<Frontend>,
) -> Vec<FrontendEntry> {
    let at = |address: &IpAddr, kind, guarded| {
        let frontend = Frontend { host: FrontendHost::Address(*address), port: port.port, protocol: port.protocol };
        FrontendEntry { frontend, kind, guarded }
    };
    let vips = service.load_balancer.iter().map(|address| at(address, FrontendKind::LoadBalancer, true));
    let external = service.external_ips.iter().map(|address| at(address, FrontendKind::ExternalIp, false));
    let node = port.node_port.map(|number| FrontendEntry {
        frontend: Frontend { host: FrontendHost::NodePort(family), port: number, protocol: port.protocol },
        kind: FrontendKind::NodePort,
        guarded: directive.source_ranges_on_node_ports,
    });
    let mut found: Vec<FrontendEntry> = vips
        .chain(external)
        .chain(node)
        .filter(|entry| match entry.frontend.host {
            FrontendHost::Address(address) => Family::of(address) == family,
            FrontendHost::NodePort(_) => true,
        })
        .filter(|entry| taken.insert(entry.frontend))
        .collect();
    found.sort_unstable();
    found
}

/// kube-proxy's reading of `loadBalancerSourceRanges`: each family on its own (ranges of one leave the other open), a zero
/// range opens its family, and the node is the first of its addresses.
pub(crate) fn source_filter(service: &ServiceInput, family: Family, node: &ThisNode) -> SourceFilter {
    let ranges: BTreeSet<IpNet> =
        service.source_ranges.iter().map(IpNet::trunc).filter(|range| Family::of(range.addr()) == family).collect();
    if ranges.is_empty() || ranges.iter().any(|range| range.prefix_len() == 0) {
        return SourceFilter::Open;
    }
    let own = node.addresses.iter().find(|address| Family::of(**address) == family);
    let own_address = own.is_some_and(|own| ranges.iter().any(|range| range.contains(own)));
    SourceFilter::Only { ranges: ranges.into_iter().collect(), own_address }
}

#[cfg(test)]
mod tests;
