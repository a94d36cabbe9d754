//! Which flows must end: plain, from what the kernel tells and what the table says.

use super::flow::Flow;
use portreeve_table::{
    ClaimedMode, Family, ForwardingTable, Frontend, FrontendHost, Op, Protocol, ServiceEntry, ServiceKey,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// Pods that no longer keep the flows of a Service, each with the frontends through which they came.
#[derive(Debug, Default)]
pub(super) struct Endings(BTreeMap<(Protocol, SocketAddr), BTreeMap<ServiceKey, BTreeSet<Frontend>>>);

impl Endings {
    /// Adds what `steps` say. A Service that was only observed until now has no flows of ours.
    pub(super) fn note<'a>(
        &mut self,
        steps: &[Op],
        before: impl Fn(&ServiceKey) -> Option<&'a ServiceEntry>,
        goal: &ForwardingTable,
    ) {
        for step in steps {
            let Op::Gone { service, protocol, pod } = step else { continue };
            let entries = [before(service), goal.services.get(service).map(AsRef::as_ref)];
            let mut entries = entries.into_iter().flatten().peekable();
            if entries.peek().is_none_or(|entry| entry.mode == ClaimedMode::Observe) {
                continue;
            }
            let frontends = entries.flat_map(ServiceEntry::frontends).map(|front| front.frontend);
            let frontends = frontends.filter(|frontend| frontend.protocol == *protocol);
            self.0.entry((*protocol, *pod)).or_default().entry(service.clone()).or_default().extend(frontends);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn pods(&self) -> impl Iterator<Item = (Protocol, SocketAddr)> {
        self.0.keys().copied()
    }

    /// A Pod that came back before its flows were ended has them again.
    pub(super) fn drop_those_kept(&mut self, table: &ForwardingTable) {
        self.0.retain(|(protocol, pod), services| {
            services
                .retain(|service, _| !table.services.get(service).is_some_and(|entry| entry.keeps(*protocol, *pod)));
            !services.is_empty()
        });
    }

    /// Whether `flow` is one of those.
    pub(super) fn has(&self, flow: &Flow, table: &ForwardingTable) -> bool {
        let services = self.0.get(&(flow.protocol, flow.pod));
        let through = |frontends: &BTreeSet<Frontend>| {
            hosts(flow.frontend.ip(), table).any(|host| frontends.contains(&frontend(host, flow)))
        };
        services.is_some_and(|services| services.values().any(through)) && from_outside(flow, table)
    }
}

/// Which claimed Service has which frontend.
pub(super) struct Owners<'a> {
    table: &'a ForwardingTable,
    services: BTreeMap<Frontend, (&'a ServiceKey, ClaimedMode)>,
}

impl<'a> Owners<'a> {
    pub(super) fn of(table: &'a ForwardingTable) -> Self {
        let fronts = table
            .services
            .iter()
            .flat_map(|(key, entry)| entry.frontends().map(move |front| (front.frontend, (key, entry.mode))));
        Self { table, services: fronts.collect() }
    }

    /// The Service through whose frontend `flow` came to us; one that is only observed takes none.
    pub(super) fn find(&self, flow: &Flow) -> Option<&'a ServiceKey> {
        let mut hosts = hosts(flow.frontend.ip(), self.table);
        let (service, mode) = hosts.find_map(|host| self.services.get(&frontend(host, flow)).copied())?;
        (mode != ClaimedMode::Observe && from_outside(flow, self.table)).then_some(service)
    }
}

fn frontend(host: FrontendHost, flow: &Flow) -> Frontend {
    Frontend { host, port: flow.frontend.port(), protocol: flow.protocol }
}

/// What a packet to `address` is looked up as, in order.
fn hosts(address: IpAddr, table: &ForwardingTable) -> impl Iterator<Item = FrontendHost> {
    let own = table.node_addresses.contains(&address);
    [FrontendHost::Address(address)].into_iter().chain(own.then(|| FrontendHost::NodePort(Family::of(address))))
}

/// Whether our rules can have taken it: they leave what Pods and processes of this node send to others, and keep the source.
/// A source port that was taken may be another behind us, so ports are not compared.
fn from_outside(flow: &Flow, table: &ForwardingTable) -> bool {
    let client = flow.client.ip();
    flow.answered == client
        && client != flow.frontend.ip()
        && !table.node_addresses.contains(&client)
        && !table.pod_ranges.iter().any(|range| range.contains(&client))
}

#[cfg(test)]
mod tests;
