//! The forwarding table as an nftables table: pure, from one to the other and from one ruleset to the next.
//!
//! A packet that opens a connection goes through one base chain, `prerouting`, in front of kube-proxy's; packets of
//! connections that are under way never see it, since the kernel asks nat chains about the first packet alone. There its
//! destination is looked up in a map of all frontends, which names the chain that decides: `choose-2` where two Pods are
//! to choose from, and from there `slot-0` or `slot-1`, where another map has the first or second Pod of that frontend.
//! Those chains are the same for all Services, so that nearly every change of a Service is one of elements; chains of their
//! own have Services with source ranges and with session affinity.
//!
//! Refusals are made in the same chain and not at the filter hooks behind it, so that established flows pay nothing for
//! them and a proxy behind us cannot translate what was to be refused. `reject` works at prerouting since Linux 5.9
//! (`nft_reject_validate`).
//!
//! Each element of those maps counts what it sends to its Pod, and so does the chain of a Pod that remembers its clients:
//! new flows, by Pod, read by name and without listing anything. A map has Pods of this node alone, so that the memory
//! which a counter takes of each processor is little.
//!
//! What netfilter cannot do here: [`OnNoLocal::Forward`](portreeve_table::OnNoLocal::Forward) leaves the packet to
//! kube-proxy, the mode `Balance` delivers as `Local` does, and a client of SCTP whose Pod is gone gets no ABORT.

mod changes;
mod counters;
mod health;
mod model;
mod names;
mod resets;
mod service;
mod text;

pub use changes::{Client, Command, replace};
pub(crate) use counters::{Counter, counters};
pub(crate) use health::{CHAIN as HEALTH_CHECKS, renewed, rules as steering_rules, steering};
pub(crate) use model::REMEMBERED;
pub use model::{Chain, ChainKind, Datum, Field, Key, Name, Part, Rule, Set, SetKind, Statement, Value};
pub(crate) use names::{Place, TABLE};
#[cfg(test)]
pub(crate) use resets::resets;
pub(crate) use resets::resetting;

use ipnet::IpNet;
use names::{PREROUTING, UPLINKS};
use portreeve_table::{Family, ForwardingTable, Goal, ServiceEntry, ServiceKey};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// In front of kube-proxy's nat chains, which are at `dstnat` (-100).
pub(crate) const BEFORE_DSTNAT: i32 = -105;

/// Everything that our table holds.
///
/// The parts of Services are rendered when they are needed, so that a change costs what it touches and not the size of the
/// table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    frame: Part,
    services: BTreeMap<ServiceKey, Arc<ServiceEntry>>,
    /// Numbers of targets among which the shared chains choose, each with the number of ports that need it.
    widths: BTreeMap<usize, usize>,
}

impl Ruleset {
    /// What all Services share.
    #[must_use]
    pub const fn frame(&self) -> &Part {
        &self.frame
    }

    /// What one Service adds; `None` if it is not in the table.
    #[must_use]
    pub fn part(&self, key: &ServiceKey) -> Option<Part> {
        self.services.get(key).map(|entry| service::part(key, entry))
    }

    /// What each Service adds.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&ServiceKey, Part)> {
        self.services.iter().map(|(key, entry)| (key, service::part(key, entry)))
    }

    /// The sets in which Pods remember their clients, with the family of these and how long they are remembered.
    pub(crate) fn remembering(&self) -> impl Iterator<Item = (Name, Family, Duration)> {
        let sticky = self.services.iter().filter(|(_, entry)| entry.affinity_seconds.is_some());
        let sets = sticky.flat_map(|(key, entry)| service::part(key, entry).sets);
        sets.filter_map(|(name, Set { fields, kind })| match (fields.as_slice(), kind) {
            ([Field::Source(family)], SetKind::Remembered { seconds }) => {
                Some((name, *family, Duration::from_secs(seconds.into())))
            }
            _ => None,
        })
    }

    /// All parts together.
    #[must_use]
    pub fn whole(&self) -> Part {
        let mut whole = self.frame.clone();
        for (key, entry) in &self.services {
            whole.extend(service::part(key, entry));
        }
        whole
    }
}

/// The ruleset that does what `goal` says.
#[must_use]
pub fn render(goal: Goal<'_>) -> Ruleset {
    let services = goal.table.services.clone();
    let mut widths = BTreeMap::new();
    for width in services.values().flat_map(service::widths) {
        *widths.entry(width).or_default() += 1;
    }
    Ruleset { frame: frame(goal, &widths), services, widths }
}

/// What all Services share.
fn frame(goal: Goal<'_>, widths: &BTreeMap<usize, usize>) -> Part {
    let mut frame = Part::default();
    let entrance = names::shared(UPLINKS);
    frame.set(entrance.clone(), vec![Field::Interface], SetKind::Keys);
    for uplink in goal.uplinks {
        frame.element(entrance.clone(), Key::Exact(vec![Value::Interface(uplink.clone())]), Datum::Nothing);
    }
    let mut rules = vec![
        Rule(vec![Statement::NotIn(vec![Field::Interface], entrance), Statement::Return]),
        Rule(vec![Statement::NotOpening, Statement::Return]),
    ];
    let ForwardingTable { node_addresses, pod_ranges, services: _ } = goal.table;
    for family in Family::BOTH {
        rules.extend(entrance_of_family(&mut frame, family, node_addresses, pod_ranges));
    }
    let prerouting = Chain { kind: ChainKind::NatPrerouting(BEFORE_DSTNAT), rules };
    frame.chains.insert(names::shared(PREROUTING), prerouting);
    for outcome in Outcome::ALL {
        frame.chain(outcome.would(), vec![Rule(vec![Statement::Count])]);
    }
    for refusal in Refusal::ALL {
        frame.chain(refusal.chain(), vec![refusal.rule()]);
    }
    health::entrance(&mut frame);
    shared_delivery(&mut frame, widths);
    frame
}

/// Sets of one family, and the rules that ask them.
fn entrance_of_family(frame: &mut Part, family: Family, node: &[IpAddr], pod_ranges: &[IpNet]) -> [Rule; 3] {
    let (pods, own) = (names::of_family("pods", family), names::of_family("nodes", family));
    frame.set(pods.clone(), vec![Field::Source(family)], SetKind::Ranges);
    let ranges: Vec<IpNet> = pod_ranges.iter().filter(|range| Family::of(range.addr()) == family).copied().collect();
    for range in IpNet::aggregate(&ranges) {
        frame.element(pods.clone(), Key::Range(range), Datum::Nothing);
    }
    frame.set(own.clone(), vec![Field::Destination(family)], SetKind::Keys);
    service::addresses(frame, &own, node.iter().filter(|address| Family::of(**address) == family).copied());
    let [address, node_port] = [Place::Address(family), Place::NodePort(family)];
    for place in [address, node_port] {
        frame.set(place.frontends(), fields(place), SetKind::Chains);
        frame.set(place.guarded(), fields(place), SetKind::Chains);
    }
    [
        Rule(vec![Statement::In(vec![Field::Source(family)], pods), Statement::Return]),
        Rule(vec![Statement::Dispatch(fields(address), address.frontends())]),
        Rule(vec![
            Statement::In(vec![Field::Destination(family)], own),
            Statement::Dispatch(fields(node_port), node_port.frontends()),
        ]),
    ]
}

/// Chains that choose among so many targets, and those that deliver to the first, second and so on.
fn shared_delivery(frame: &mut Part, widths: &BTreeMap<usize, usize>) {
    for width in widths.keys() {
        let slots = (0..*width).map(names::slot).collect();
        frame.chain(names::choose(*width), vec![Rule(vec![Statement::Choose(slots)])]);
    }
    // The first slot is there even if nobody delivers: the kernel tracks connections only as long as a rule needs it, and
    // without that no packet comes to a nat chain and the translation of established connections ends.
    for number in 0..widths.keys().next_back().copied().unwrap_or(0).max(1) {
        // A frontend with an address is in the first map, so that a node port cannot take its packets here either.
        let rules = Place::ALL.map(|place| {
            let family = place.family();
            frame.set(place.slot(number), fields(place), SetKind::Pods(family));
            let translate = Statement::TranslateBy(family, fields(place), place.slot(number));
            // The fields of a node port do not tell the family.
            Rule(match place {
                Place::Address(_) => vec![translate],
                Place::NodePort(_) => vec![Statement::Family(family), translate],
            })
        });
        frame.chain(names::slot(number), rules.to_vec());
    }
}

/// Fields that find a frontend of this place.
fn fields(place: Place) -> Vec<Field> {
    match place {
        Place::Address(family) => vec![Field::Destination(family), Field::Protocol, Field::Port],
        Place::NodePort(_) => vec![Field::Protocol, Field::Port],
    }
}

/// What is done with a new flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Deliver,
    Refuse(Refusal),
}

impl Outcome {
    const ALL: [Self; 4] =
        [Self::Deliver, Self::Refuse(Refusal::Drop), Self::Refuse(Refusal::Reject), Self::Refuse(Refusal::Pass)];

    /// The chain that counts it, for mode Observe.
    fn would(self) -> Name {
        names::shared(match self {
            Self::Deliver => "would-deliver",
            Self::Refuse(Refusal::Drop) => "would-drop",
            Self::Refuse(Refusal::Reject) => "would-reject",
            Self::Refuse(Refusal::Pass) => "would-pass",
        })
    }
}

/// What is done with a new flow that is not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Drop,
    Reject,
    Pass,
}

impl Refusal {
    const ALL: [Self; 3] = [Self::Drop, Self::Reject, Self::Pass];

    /// The chain that does it.
    fn chain(self) -> Name {
        names::shared(match self {
            Self::Drop => "do-drop",
            Self::Reject => "do-reject",
            Self::Pass => "do-pass",
        })
    }

    fn rule(self) -> Rule {
        let last = match self {
            Self::Drop => Statement::Drop,
            Self::Reject => Statement::Reject,
            Self::Pass => Statement::Return,
        };
        Rule(vec![Statement::Count, last])
    }
}

#[cfg(test)]
mod tests;
