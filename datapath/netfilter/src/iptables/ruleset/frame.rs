//! What all Services share.

use super::{Content, Outcome, Shared};
use crate::iptables::lookup::{Lookup, Place};
use crate::iptables::names;
use crate::iptables::rules::{Chains, Match, Rule, Table, Verdict};
use ipnet::IpNet;
use portreeve_table::{Family, Protocol};

/// The chains through which a packet comes to the frontends of a table; none if that has no frontends. Those of nat are
/// always there: the kernel tracks connections only as long as a rule asks for it, and without that the translation of
/// established ones ends.
pub(super) fn frame(family: Family, table: Table, content: &Content, shared: &Shared) -> Chains {
    let mut chains = Chains::new();
    let empty = content.lookups.values().all(Lookup::is_empty);
    if empty && table != Table::Nat {
        return chains;
    }
    let of_family = |address: &&std::net::IpAddr| Family::of(**address) == family;
    let own: Vec<IpNet> = shared.node_addresses.iter().filter(of_family).copied().map(IpNet::from).collect();
    let ranges: Vec<IpNet> =
        shared.pod_ranges.iter().filter(|range| Family::of(range.addr()) == family).copied().collect();
    let from_pods =
        IpNet::aggregate(&ranges).into_iter().map(|range| Rule::new([Match::Source(range)], Verdict::Return));
    let mut arrival: Vec<Rule> = from_pods.collect();
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
        let rules = transport(protocol, content, &own);
        if !rules.is_empty() {
            let chain = names::transport(protocol);
            arrival.push(Rule::new([Match::Protocol(protocol)], Verdict::Goto(chain.clone())));
            chains.insert(chain, rules);
        }
    }
    let to_arrival = || Verdict::Goto(names::shared(names::ARRIVAL));
    let entry = shared.uplinks.iter().map(|uplink| Rule::new([Match::Arrival(uplink.clone())], to_arrival()));
    chains.insert(names::shared(names::ENTRY), entry.collect());
    chains.insert(names::shared(names::ARRIVAL), arrival);
    if table == Table::Nat {
        let stay = own.iter().map(|own| Rule::new([Match::Destination(*own)], Verdict::Stay(own.addr())));
        chains.insert(names::shared(names::HOLD), stay.collect());
        for outcome in Outcome::ALL {
            chains.insert(outcome.would(), vec![Rule::new([], Verdict::Return)]);
        }
    }
    chains
}

/// Frontends with an address are looked up by a jump, from which a packet comes back that is for none of them.
fn transport(protocol: Protocol, content: &Content, own: &[IpNet]) -> Vec<Rule> {
    let root = |place| content.lookups.get(&(protocol, place)).and_then(Lookup::root);
    let mut rules = Vec::new();
    if let Some((matches, chain)) = root(Place::Address) {
        rules.push(Rule::new(matches, Verdict::Jump(chain)));
    }
    if let Some((ports, chain)) = root(Place::NodePort) {
        rules.extend(own.iter().map(|own| {
            let mut matches = vec![Match::Destination(*own)];
            matches.extend(ports.iter().cloned());
            Rule::new(matches, Verdict::Goto(chain.clone()))
        }));
    }
    if protocol == Protocol::Tcp && !rules.is_empty() {
        rules.insert(0, Rule::new([Match::NotOpening], Verdict::Return));
    }
    rules
}
