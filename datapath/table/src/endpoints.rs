//! Which endpoints take new flows: kube-proxy's choice for `Local`, per port and family.

use crate::input::{EndpointInput, PortInput, SliceInput};
use crate::key::Family;
use crate::table::{Hop, Standing, Target};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// One endpoint after all slices have been merged.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    local: bool,
    pub(crate) ready: bool,
    pub(crate) draining: bool,
    keeps: bool,
}

/// What one port of one family comes to.
pub(crate) struct Selected {
    pub(crate) standing: Standing,
    pub(crate) targets: Vec<Target>,
    pub(crate) kept: Vec<SocketAddr>,
}

/// Endpoints of `port` in `family`, by address. While a Pod moves between slices it is in both for a moment: the better
/// condition and the local place win, so that the order of slices cannot matter.
pub(crate) fn merge<'a>(
    slices: impl Iterator<Item = &'a SliceInput>,
    port: &PortInput,
    family: Family,
    node: &str,
) -> BTreeMap<SocketAddr, Seen> {
    let mut merged: BTreeMap<SocketAddr, Seen> = BTreeMap::new();
    for slice in slices {
        let named = slice.ports.iter().filter(|have| have.name == port.name && have.protocol == port.protocol);
        for slice_port in named {
            for endpoint in slice.endpoints.iter().filter(|endpoint| Family::of(endpoint.address) == family) {
                let seen = Seen {
                    local: is_local(endpoint, node),
                    ready: endpoint.ready,
                    draining: endpoint.is_draining(),
                    keeps: endpoint.keeps_flows(port.protocol),
                };
                merged
                    .entry(SocketAddr::new(endpoint.address, slice_port.port))
                    .and_modify(|known| {
                        known.local |= seen.local;
                        known.ready |= seen.ready;
                        known.draining |= seen.draining;
                        known.keeps |= seen.keeps;
                    })
                    .or_insert(seen);
            }
        }
    }
    merged
}

fn is_local(endpoint: &EndpointInput, node: &str) -> bool {
    endpoint.node.as_deref() == Some(node)
}

/// Standing and targets of one port: local ready endpoints; without any, local ones that serve while they terminate;
/// without those, none. The other local ones keep the flows they have.
pub(crate) fn select<'a>(
    slices: impl Iterator<Item = &'a SliceInput>,
    port: &PortInput,
    family: Family,
    node: &str,
) -> Selected {
    let merged = merge(slices, port, family, node);
    let local = |wanted: &dyn Fn(&Seen) -> bool| -> Vec<SocketAddr> {
        merged.iter().filter(|(_, seen)| seen.local && wanted(seen)).map(|(address, _)| *address).collect()
    };
    let (ready, draining) = (local(&|seen| seen.ready), local(&|seen| !seen.ready && seen.draining));
    let (standing, chosen) = if !ready.is_empty() {
        (Standing::LocalReady, ready)
    } else if !draining.is_empty() {
        (Standing::LocalDraining, draining)
    } else if merged.values().any(|seen| seen.ready || seen.draining) {
        (Standing::Elsewhere, Vec::new())
    } else {
        (Standing::Nowhere, Vec::new())
    };
    let mut kept = local(&|seen| seen.keeps);
    kept.retain(|address| chosen.binary_search(address).is_err());
    let targets = chosen.into_iter().map(|address| Target { hop: Hop::Pod(address), weight: 1 }).collect();
    Selected { standing, targets, kept }
}

/// Unique addresses of ready local endpoints over all ports: the number kube-proxy's health check reports. An endpoint
/// that terminates counts as soon as it stops being ready as not there, although it may still take flows.
pub(crate) fn local_ready<'a>(slices: impl Iterator<Item = &'a SliceInput>, family: Family, node: &str) -> usize {
    let addresses: BTreeSet<IpAddr> = slices
        .filter(|slice| !slice.ports.is_empty())
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| endpoint.ready && is_local(endpoint, node) && Family::of(endpoint.address) == family)
        .map(|endpoint| endpoint.address)
        .collect();
    addresses.len()
}
