//! Which flows an engine that knows them by their addresses can end when their Pod goes.

use portreeve_table::{
    ClaimedMode, Family, FlowKey, ForwardingTable, FrontendHost, Protocol, ServiceEntry, ServiceKey,
};
use std::net::{IpAddr, SocketAddr};

/// What a change of tables does to a flow.
pub(crate) struct Ends<'a> {
    pub(crate) key: &'a FlowKey,
    pub(crate) pod: SocketAddr,
    /// All tables that the engine was told before; none if it begins.
    pub(crate) past: &'a [ForwardingTable],
    pub(crate) table: &'a ForwardingTable,
}

impl Ends<'_> {
    /// Whether an engine can tell that the flow is one of `service` that must end; `None` if it need not.
    pub(crate) fn of(&self, service: &ServiceKey) -> Option<bool> {
        let (now, before) = (self.table.services.get(service)?, self.past.last());
        let keeps = |entry: &ServiceEntry| entry.keeps(self.key.protocol, self.pod);
        let known: Vec<&ServiceEntry> =
            self.past.iter().filter_map(|table| table.services.get(service)).map(AsRef::as_ref).collect();
        // The last word about it, which it may have had when it left the table.
        let last = known.last().copied();
        if keeps(now) || last.is_some_and(|last| !keeps(last)) {
            return None;
        }
        let ours = |entry: &ServiceEntry| entry.mode != ClaimedMode::Observe;
        if before.is_none() {
            // A new engine looks at all flows once.
            return Some(ours(now) && self.is_through(now) && self.is_from_outside());
        }
        let stayed = before.and_then(|table| table.services.get(service));
        let claimed = match (stayed, last) {
            (Some(before), _) => ours(before),
            (None, Some(last)) => ours(last) && ours(now),
            (None, None) => false,
        };
        let own = self.is_through(now) || stayed.is_some_and(|before| self.is_through(before));
        let former = || known.iter().any(|entry| ours(entry) && self.is_through(entry)) && !self.is_taken();
        Some(claimed && self.is_from_outside() && (own || former()))
    }

    /// Whether it comes through a frontend of this Service, at any address that the node had.
    fn is_through(&self, entry: &ServiceEntry) -> bool {
        let tables = self.past.iter().chain([self.table]);
        let addresses: Vec<IpAddr> = tables.flat_map(|table| table.node_addresses.iter().copied()).collect();
        has(entry, self.key.protocol, self.key.frontend, &addresses)
    }

    /// Whether its frontend is that of a Service which has the Pod.
    fn is_taken(&self) -> bool {
        let FlowKey { protocol, frontend, .. } = *self.key;
        let at = |host: FrontendHost| {
            let fits = |entry: &ServiceEntry| {
                entry
                    .frontends()
                    .map(|front| front.frontend)
                    .any(|front| front.host == host && front.port == frontend.port() && front.protocol == protocol)
            };
            self.table.services.values().find(|entry| fits(entry))
        };
        let owner = hosts(frontend.ip(), &self.table.node_addresses).find_map(at);
        owner.is_some_and(|owner| owner.mode != ClaimedMode::Observe && owner.keeps(protocol, self.pod))
    }

    fn is_from_outside(&self) -> bool {
        !self.table.pod_ranges.iter().any(|range| range.contains(&self.key.client.ip()))
    }
}

/// Whether a Service has this frontend.
fn has(entry: &ServiceEntry, protocol: Protocol, frontend: SocketAddr, own: &[IpAddr]) -> bool {
    hosts(frontend.ip(), own).any(|host| {
        let mut fronts = entry.frontends().map(|front| front.frontend);
        fronts.any(|front| front.host == host && front.port == frontend.port() && front.protocol == protocol)
    })
}

/// What an address is looked up as, in order, where these are the node's own.
pub(crate) fn hosts(address: IpAddr, own: &[IpAddr]) -> impl Iterator<Item = FrontendHost> {
    let node = own.contains(&address).then(|| FrontendHost::NodePort(Family::of(address)));
    [Some(FrontendHost::Address(address)), node].into_iter().flatten()
}
