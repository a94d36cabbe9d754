//! The forwarding table as iptables chains: pure, from one to the other and from one ruleset to the next.
//!
//! A new flow that arrived on an uplink meets our chains in up to three tables, in front of everybody else's. **mangle**,
//! in front of all translation, drops what is to be dropped, refused sources included, so that no proxy behind us, of
//! whichever mode, can deliver it. **nat** delivers; what is to be rejected it translates to itself, since of all that ask
//! there the first translation wins. **filter** rejects it, behind the routing decision, the only place where iptables can.
//! In each the frontend is found through a tree of chains ([`lookup`](super::lookup)), and a table without work has no
//! chain of ours. No mark is needed, and none can be taken for ours: a packet is held against the frontend's own address
//! and port in all three.
//!
//! Each rule that delivers counts the new flows of its Pod, in a chain that nobody but its Service changes.
//!
//! Tables are committed one after the other. So that no flow falls between them, what refuses is there before nat stops
//! delivering, and goes after it has begun ([`Ruleset::follow`]).
//!
//! Where this engine cannot do as that of nftables does, or as the oracle says:
//! - `onNoLocal: Forward` leaves the packet to kube-proxy, and the mode `Balance` delivers as `Local` does (both engines).
//! - Beside a kube-proxy in nftables mode it does nothing: whichever of it and us came later to the hook of translation is
//!   asked first, and that is not ours to say. It leaves all to kube-proxy and tells so.
//! - A rejected flow to an address that the node has no route for gets the kernel's "unreachable" and not ours.
//! - A Pod remembers the last 100 clients that are bound to it (`ip_list_tot` of the module `xt_recent`), as kube-proxy's
//!   in iptables mode does, and not 8,192.

mod changes;
mod frame;
mod service;

pub(crate) use changes::Section;

use super::found::Owners;
use super::lookup::{Key, Leaf, Lookup, Place};
use super::names;
use super::rules::{Chains, Match, Name, Rule, Table, Verdict};
use ipnet::IpNet;
use portreeve_table::{Family, FrontendHost, Goal, Interface, Protocol, ServiceEntry, ServiceKey};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Everything that our chains hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    shared: Shared,
    services: BTreeMap<ServiceKey, Arc<ServiceEntry>>,
    tables: BTreeMap<(Family, Table), Content>,
}

/// What decides about all Services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shared {
    uplinks: BTreeSet<Interface>,
    node_addresses: Vec<IpAddr>,
    pod_ranges: Vec<IpNet>,
    /// Frontends with an address that is one of the node's: they hide node ports.
    on_node: BTreeSet<(Protocol, u16, IpAddr)>,
}

/// What a table of a family holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    frame: Chains,
    lookups: BTreeMap<(Protocol, Place), Lookup>,
    own: Chains,
}

/// A frontend within the lookups of a table.
type Spot = (Protocol, Place, Key);

/// By chain of nat: places of rules that deliver, with the flows that they count.
pub(crate) type Counters = BTreeMap<(Family, Name), Vec<(usize, Protocol, SocketAddr)>>;

/// What some Services add, by family and table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Part {
    leaves: BTreeMap<(Family, Table), BTreeMap<Spot, Leaf>>,
    chains: BTreeMap<(Family, Table), Chains>,
}

impl Ruleset {
    /// The ruleset that does what `goal` says.
    pub(crate) fn render(goal: Goal<'_>) -> Self {
        let mut ruleset = Self::default();
        ruleset.turn_to(goal, goal.table.services.keys().cloned().collect());
        ruleset
    }

    /// All chains of a table. Packets come to them from the table's built-in chains if there is any.
    pub(crate) fn chains(&self, family: Family, table: Table) -> Chains {
        let Some(Content { frame, lookups, own }) = self.tables.get(&(family, table)) else { return Chains::new() };
        let mut chains = frame.clone();
        chains.extend(own.iter().map(|(name, rules)| (name.clone(), rules.clone())));
        chains.extend(lookups.values().flat_map(Lookup::chains));
        chains
    }

    /// Where new flows of a Service are counted.
    pub(crate) fn counters(&self, key: &ServiceKey) -> Counters {
        let mut counters = Counters::new();
        for ((family, table), chains) in self.part(&[key.clone()].into()).chains {
            for (name, rules) in chains.into_iter().filter(|_| table == Table::Nat) {
                let delivers = rules.iter().enumerate().filter_map(|(number, rule)| {
                    let protocol = rule.matches.iter().find_map(|wanted| match wanted {
                        Match::Protocol(protocol) => Some(*protocol),
                        _ => None,
                    });
                    match rule.verdict {
                        Verdict::Deliver(pod) => Some((number, protocol?, pod)),
                        _ => None,
                    }
                });
                let delivers: Vec<_> = delivers.collect();
                if !delivers.is_empty() {
                    counters.insert((family, name), delivers);
                }
            }
        }
        counters
    }

    /// Whose what is.
    pub(crate) fn owners(&self, family: Family, table: Table) -> Owners {
        let mut owners = Owners::default();
        let lookups = self.tables.get(&(family, table)).map(|content| &content.lookups);
        for key in self.services.keys() {
            let mut part = self.part(&[key.clone()].into());
            let chains = part.chains.remove(&(family, table)).unwrap_or_default();
            owners.chains.extend(chains.into_keys().map(|name| (name, key.clone())));
            for ((protocol, place, at), leaf) in part.leaves.remove(&(family, table)).unwrap_or_default() {
                let lookup = lookups.and_then(|lookups| lookups.get(&(protocol, place)));
                let rules = lookup.map(|lookup| lookup.leaf(at, &leaf)).unwrap_or_default();
                owners.matches.extend(rules.iter().map(|rule| (rule.matched(), key.clone())));
            }
        }
        owners
    }

    /// Whether anything is claimed in a family.
    pub(crate) fn claims(&self, family: Family) -> bool {
        self.services.values().flat_map(|entry| &entry.ports).any(|port| port.family == family)
    }

    fn part(&self, services: &BTreeSet<ServiceKey>) -> Part {
        let mut part = Part::default();
        for (key, entry) in services.iter().filter_map(|key| self.services.get_key_value(key)) {
            service::add(&mut part, key, entry, &self.shared);
        }
        part
    }
}

impl Shared {
    /// Addresses of the node at which this port is a frontend of its own.
    fn hides(&self, family: Family, protocol: Protocol, port: u16) -> Vec<IpAddr> {
        let at = self.node_addresses.iter().filter(|address| Family::of(**address) == family);
        at.filter(|address| self.on_node.contains(&(protocol, port, **address))).copied().collect()
    }

    /// Frontends of a Service with an address that is one of the node's.
    fn on_node<'a>(&'a self, entry: &'a ServiceEntry) -> impl Iterator<Item = (Protocol, u16, IpAddr)> + 'a {
        entry.frontends().filter_map(|front| match front.frontend.host {
            FrontendHost::Address(address) if self.node_addresses.contains(&address) => {
                Some((front.frontend.protocol, front.frontend.port, address))
            }
            _ => None,
        })
    }
}

/// The rule in a built-in chain that leads to ours.
pub(crate) fn hook() -> Rule {
    Rule::new([Match::First], Verdict::Jump(names::shared(names::ENTRY)))
}

/// What is done with a new flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Deliver,
    Drop,
    Reject,
    Pass,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Deliver, Self::Drop, Self::Reject, Self::Pass];

    /// The chain that counts it, for mode Observe.
    fn would(self) -> Name {
        names::shared(match self {
            Self::Deliver => "WOULD-DELIVER",
            Self::Drop => "WOULD-DROP",
            Self::Reject => "WOULD-REJECT",
            Self::Pass => "WOULD-PASS",
        })
    }
}

#[cfg(test)]
mod simulate;
#[cfg(test)]
mod tests;
