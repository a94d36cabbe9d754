//! What one Service adds to the table.

use super::model::{Datum, Field, Key, Part, Rule, SetKind, Statement, Value};
use super::names::{self, Own, Place};
use super::{Name, Outcome, Refusal, fields};
use ipnet::IpNet;
use portreeve_table::{
    ClaimedMode, Family, FrontendEntry, FrontendHost, FrontendKind, Hop, OnNoLocal, PortEntry, ServiceEntry,
    ServiceKey, SourceFilter, Standing,
};
use std::net::SocketAddr;
use std::sync::Arc;

/// The part of the ruleset that `entry` stands for.
pub(crate) fn part(key: &ServiceKey, entry: &ServiceEntry) -> Part {
    let own = Own::service(key);
    let mut part = Part::default();
    super::health::of_service(&mut part, entry);
    for family in Family::BOTH {
        guard(&mut part, &own, entry, family);
    }
    for port in &entry.ports {
        port_part(&mut part, &own, entry, port);
    }
    part
}

/// What is done with new flows of `port`.
pub(super) fn outcome(entry: &ServiceEntry, port: &PortEntry) -> Outcome {
    match (port.standing, entry.on_no_local) {
        (Standing::LocalReady | Standing::LocalDraining, _) if port.targets.is_empty() => {
            Outcome::Refuse(Refusal::Reject)
        }
        (Standing::LocalReady | Standing::LocalDraining, _) => Outcome::Deliver,
        (Standing::Elsewhere, OnNoLocal::Drop) => Outcome::Refuse(Refusal::Drop),
        (Standing::Elsewhere, OnNoLocal::Reject) => Outcome::Refuse(Refusal::Reject),
        (Standing::Elsewhere, OnNoLocal::Passthrough | OnNoLocal::Forward) => Outcome::Refuse(Refusal::Pass),
        (Standing::Nowhere, _) => Outcome::Refuse(Refusal::Reject),
    }
}

/// Number of targets among which the shared chains choose for `port`; `None` if they do not deliver for it.
fn width(entry: &ServiceEntry, port: &PortEntry) -> Option<usize> {
    let shared = entry.mode != ClaimedMode::Observe && entry.affinity_seconds.is_none();
    (shared && outcome(entry, port) == Outcome::Deliver).then_some(port.targets.len())
}

/// The [width] of each port for which the shared chains deliver.
pub(super) fn widths(entry: &Arc<ServiceEntry>) -> impl Iterator<Item = usize> {
    entry.ports.iter().filter_map(|port| width(entry, port))
}

/// Whether a frontend of this family asks the source filter.
fn filter(entry: &ServiceEntry, family: Family) -> Option<(&[IpNet], bool)> {
    match entry.sources.get(family) {
        SourceFilter::Open => None,
        SourceFilter::Only { ranges, own_address } => Some((ranges, *own_address)),
    }
}

/// Chain and set that accept the sources of guarded frontends.
fn guard(part: &mut Part, own: &Own, entry: &ServiceEntry, family: Family) {
    let mut guarded =
        entry.ports.iter().filter(|port| port.family == family).flat_map(|port| &port.frontends).map(|f| f.guarded);
    let (Some((ranges, own_address)), true) = (filter(entry, family), guarded.any(|guarded| guarded)) else { return };
    let addresses = entry.frontends().filter_map(|front| match (front.kind, front.frontend.host) {
        (FrontendKind::LoadBalancer, FrontendHost::Address(address)) if Family::of(address) == family => {
            Some(IpNet::from(address))
        }
        _ => None,
    });
    let mut accepted: Vec<IpNet> = ranges.to_vec();
    accepted.extend(addresses.filter(|_| own_address));
    let (sources, chain) = guard_names(own, family);
    part.set(sources.clone(), vec![Field::Source(family)], SetKind::Ranges);
    // A set of ranges refuses those that overlap.
    for range in IpNet::aggregate(&accepted) {
        part.element(sources.clone(), Key::Range(range), Datum::Nothing);
    }
    let refused = match entry.mode {
        ClaimedMode::Observe => Outcome::Refuse(Refusal::Drop).would(),
        ClaimedMode::Local | ClaimedMode::Balance => Refusal::Drop.chain(),
    };
    let go_on = |place: Place| Rule(vec![Statement::Dispatch(fields(place), place.guarded())]);
    let refuse = Rule(vec![Statement::NotIn(vec![Field::Source(family)], sources), Statement::Goto(refused)]);
    part.chain(chain, vec![refuse, go_on(Place::Address(family)), go_on(Place::NodePort(family))]);
}

fn guard_names(own: &Own, family: Family) -> (Name, Name) {
    let word = |four, six| match family {
        Family::V4 => four,
        Family::V6 => six,
    };
    (own.name(word("sources4", "sources6")), own.name(word("guard4", "guard6")))
}

fn port_part(part: &mut Part, own: &Own, entry: &ServiceEntry, port: &PortEntry) {
    let own_port = own.port(&port.name, port.family, port.protocol);
    let width = width(entry, port);
    let decides = match (entry.mode, outcome(entry, port), entry.affinity_seconds) {
        (ClaimedMode::Observe, outcome, _) => outcome.would(),
        (_, Outcome::Refuse(refusal), _) => refusal.chain(),
        (_, Outcome::Deliver, Some(seconds)) => sticky(part, &own_port, port, seconds),
        (_, Outcome::Deliver, None) => names::choose(port.targets.len()),
    };
    for front in &port.frontends {
        let FrontendEntry { frontend, guarded, .. } = front;
        let (place, address) = match frontend.host {
            FrontendHost::Address(address) => (Place::Address(port.family), Some(address)),
            FrontendHost::NodePort(family) => (Place::NodePort(family), None),
        };
        let key = Key::Exact(names::frontend_key(address, frontend.protocol, frontend.port));
        if *guarded && filter(entry, port.family).is_some() {
            let (_, guard) = guard_names(own, port.family);
            part.element(place.frontends(), key.clone(), Datum::Goto(guard));
            part.element(place.guarded(), key.clone(), Datum::Goto(decides.clone()));
        } else {
            part.element(place.frontends(), key.clone(), Datum::Goto(decides.clone()));
        }
        for (number, pod) in pods(port).enumerate().take(width.unwrap_or(0)) {
            part.element(place.slot(number), key.clone(), Datum::Pod(pod));
        }
    }
}

fn pods(port: &PortEntry) -> impl Iterator<Item = SocketAddr> {
    port.targets.iter().map(|target| {
        let Hop::Pod(pod) = target.hop;
        pod
    })
}

/// The chain that sends a client where it went before, or chooses. As in kube-proxy each Pod remembers its clients, for all
/// frontends of the port together; a Pod that takes no new flows forgets them.
fn sticky(part: &mut Part, own: &Own, port: &PortEntry, seconds: u32) -> Name {
    let (mut rules, mut chains) = (Vec::new(), Vec::new());
    let source = || vec![Field::Source(port.family)];
    for pod in pods(port) {
        let own_pod = own.pod(pod);
        // The seconds are part of the name: another timeout is another set.
        let (bound, chain) = (own_pod.name(&format!("bound-{seconds}")), own_pod.name("pod"));
        part.set(bound.clone(), source(), SetKind::Remembered { seconds });
        let remember = Rule(vec![Statement::Remember(port.family, bound.clone())]);
        let deliver = vec![Statement::Protocol(port.protocol), Statement::Count, Statement::TranslateTo(pod)];
        part.chain(chain.clone(), vec![remember, Rule(deliver)]);
        rules.push(Rule(vec![Statement::In(source(), bound), Statement::Goto(chain.clone())]));
        chains.push(chain);
    }
    rules.push(Rule(vec![Statement::Choose(chains)]));
    let name = own.name("sticky");
    part.chain(name.clone(), rules);
    name
}

/// Elements of a set of addresses or ranges.
pub(super) fn addresses(part: &mut Part, set: &Name, addresses: impl IntoIterator<Item = std::net::IpAddr>) {
    for address in addresses {
        part.element(set.clone(), Key::Exact(vec![Value::Address(address)]), Datum::Nothing);
    }
}
