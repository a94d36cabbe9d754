//! What one Service adds to the tables.

use super::{Outcome, Part, Shared};
use crate::iptables::lookup::{Key, Leaf, Place};
use crate::iptables::names::{self, Own, Word};
use crate::iptables::rules::{Chance, Match, Name, Rule, Table, Verdict};
use ipnet::IpNet;
use portreeve_table::{
    ClaimedMode, Family, FrontendEntry, FrontendHost, FrontendKind, Hop, OnNoLocal, PortEntry, ServiceEntry,
    ServiceKey, SourceFilter, Standing, Target,
};
use std::net::{IpAddr, SocketAddr};

pub(super) fn add(part: &mut Part, key: &ServiceKey, entry: &ServiceEntry, shared: &Shared) {
    let own = Own::service(key);
    for port in &entry.ports {
        let outcome = outcome(entry, port);
        for front in &port.frontends {
            let accepted = accepted(entry, port.family, front);
            let mut at = Adding { part: &mut *part, own: &own, port, front, shared };
            if entry.mode == ClaimedMode::Observe {
                at.observe(outcome, accepted.as_deref());
            } else {
                at.guard(outcome, accepted.as_deref());
                at.decide(outcome, entry.affinity_seconds);
            }
        }
    }
}

/// What is done with new flows of `port` from accepted sources.
fn outcome(entry: &ServiceEntry, port: &PortEntry) -> Outcome {
    match (port.standing, entry.on_no_local) {
        (Standing::LocalReady | Standing::LocalDraining, _) if takers(port).next().is_some() => Outcome::Deliver,
        (Standing::Elsewhere, OnNoLocal::Drop) => Outcome::Drop,
        (Standing::Elsewhere, OnNoLocal::Passthrough | OnNoLocal::Forward) => Outcome::Pass,
        (Standing::Elsewhere, OnNoLocal::Reject)
        | (Standing::Nowhere | Standing::LocalReady | Standing::LocalDraining, _) => Outcome::Reject,
    }
}

/// Pods that take new flows, with their weights.
fn takers(port: &PortEntry) -> impl Iterator<Item = (SocketAddr, u64)> {
    port.targets
        .iter()
        .filter(|target| target.weight > 0)
        .map(|Target { hop: Hop::Pod(pod), weight }| (*pod, u64::from(*weight)))
}

/// Sources that a frontend accepts; `None` if it does not ask.
fn accepted(entry: &ServiceEntry, family: Family, front: &FrontendEntry) -> Option<Vec<IpNet>> {
    let SourceFilter::Only { ranges, own_address } = entry.sources.get(family) else { return None };
    let addresses = entry.frontends().filter_map(|front| match (front.kind, front.frontend.host) {
        (FrontendKind::LoadBalancer, FrontendHost::Address(address)) if Family::of(address) == family => {
            Some(IpNet::from(address))
        }
        _ => None,
    });
    let all: Vec<IpNet> = ranges.iter().copied().chain(addresses.filter(|_| *own_address)).collect();
    front.guarded.then(|| IpNet::aggregate(&all))
}

/// One frontend on its way into the tables.
struct Adding<'a> {
    part: &'a mut Part,
    own: &'a Own,
    port: &'a PortEntry,
    front: &'a FrontendEntry,
    shared: &'a Shared,
}

impl Adding<'_> {
    fn address(&self) -> Option<IpAddr> {
        match self.front.frontend.host {
            FrontendHost::Address(address) => Some(address),
            FrontendHost::NodePort(_) => None,
        }
    }

    fn leaf(&mut self, table: Table, verdict: Verdict) {
        let (family, frontend) = (self.port.family, self.front.frontend);
        let (place, hidden_at) = match self.address() {
            Some(_) => (Place::Address, Vec::new()),
            None => (Place::NodePort, self.shared.hides(family, frontend.protocol, frontend.port)),
        };
        let spot = (frontend.protocol, place, Key::new(self.address(), frontend.port));
        self.part.leaves.entry((family, table)).or_default().insert(spot, Leaf { verdict, hidden_at });
    }

    fn chain(&mut self, table: Table, name: Name, rules: Vec<Rule>) {
        self.part.chains.entry((self.port.family, table)).or_default().insert(name, rules);
    }

    /// In mangle: what is dropped, and which sources are.
    fn guard(&mut self, outcome: Outcome, accepted: Option<&[IpNet]>) {
        let verdict = match (outcome, accepted) {
            (Outcome::Drop, _) => Verdict::Drop,
            (_, None) => return,
            (_, Some(accepted)) => {
                let name = self.own.family(self.port.family).name(Word::Src);
                let accept = accepted.iter().map(|range| Rule::new([Match::Source(*range)], Verdict::Return));
                let rules = accept.chain([Rule::new([], Verdict::Drop)]).collect();
                self.chain(Table::Mangle, name.clone(), rules);
                Verdict::Goto(name)
            }
        };
        self.leaf(Table::Mangle, verdict);
    }

    /// In nat and filter: what becomes of a flow that was not dropped.
    fn decide(&mut self, outcome: Outcome, affinity_seconds: Option<u32>) {
        match outcome {
            Outcome::Deliver => {
                let verdict = self.delivery(affinity_seconds);
                self.leaf(Table::Nat, verdict);
            }
            Outcome::Reject => {
                let hold = self.address().map_or_else(|| Verdict::Goto(names::shared(names::HOLD)), Verdict::Stay);
                self.leaf(Table::Nat, hold);
                self.leaf(Table::Filter, Verdict::Reject(self.port.family));
            }
            Outcome::Drop | Outcome::Pass => {}
        }
    }

    /// Counts in nat, which is asked once for each flow.
    fn observe(&mut self, outcome: Outcome, accepted: Option<&[IpNet]>) {
        let would = Verdict::Goto(outcome.would());
        let Some(accepted) = accepted else { return self.leaf(Table::Nat, would) };
        let own = self.own.port(&self.port.name, self.port.family, self.port.protocol);
        let name = own.name(Word::Obs);
        let accept = accepted.iter().map(|range| Rule::new([Match::Source(*range)], would.clone()));
        let refuse = Rule::new([], Verdict::Goto(Outcome::Drop.would()));
        self.chain(Table::Nat, name.clone(), accept.chain([refuse]).collect());
        self.leaf(Table::Nat, Verdict::Goto(name));
    }

    /// Through a chain that all frontends of the port share, even to an only Pod: the chains of a lookup are written anew
    /// when frontends beside it come and go, and what their rules have counted is forgotten with them.
    fn delivery(&mut self, affinity_seconds: Option<u32>) -> Verdict {
        let takers: Vec<(SocketAddr, u64)> = takers(self.port).collect();
        let own = self.own.port(&self.port.name, self.port.family, self.port.protocol);
        let rules = match affinity_seconds {
            None => self.draw(&takers, Verdict::Deliver),
            Some(seconds) => self.bound(&takers, seconds, &own),
        };
        let name = own.name(Word::Svc);
        self.chain(Table::Nat, name.clone(), rules);
        Verdict::Goto(name)
    }

    /// Draws one of the Pods by weight: each rule takes its share of what those before it left.
    fn draw(&self, takers: &[(SocketAddr, u64)], verdict: impl Fn(SocketAddr) -> Verdict) -> Vec<Rule> {
        let mut left: u64 = takers.iter().map(|(_, weight)| weight).sum();
        let rules = takers.iter().map(|(pod, weight)| {
            let mut matches = vec![Match::Protocol(self.port.protocol)];
            matches.extend((*weight < left).then(|| Match::Chance(Chance::of(*weight, left))));
            left -= weight;
            Rule::new(matches, verdict(*pod))
        });
        rules.collect()
    }

    /// Sends a client where it went before, or draws. As in kube-proxy each Pod remembers its clients, for all frontends of
    /// the port together; a Pod that takes no new flows forgets them with its rules.
    fn bound(&mut self, takers: &[(SocketAddr, u64)], seconds: u32, own: &Own) -> Vec<Rule> {
        let PortEntry { family, protocol, .. } = *self.port;
        let chain = |pod| own.pod(pod).name(Word::Pod);
        let again = takers
            .iter()
            .map(|(pod, _)| Rule::new([Match::Bound(family, chain(*pod), seconds)], Verdict::Goto(chain(*pod))));
        let rules = again.chain(self.draw(takers, |pod| Verdict::Goto(chain(pod)))).collect();
        for (pod, _) in takers {
            let bind = [Match::Protocol(protocol), Match::Bind(family, chain(*pod))];
            self.chain(Table::Nat, chain(*pod), vec![Rule::new(bind, Verdict::Deliver(*pod))]);
        }
        rules
    }
}
