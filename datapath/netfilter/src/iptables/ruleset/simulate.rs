//! What iptables does with the first packet of a flow, for tests: our chains in the order of the tables.

use super::{Ruleset, hook};
use crate::iptables::names;
use crate::iptables::rules::{Chains, Match, Name, Rule, Table, Verdict};
use portreeve_table::{Action, Family, Hop, Interface, Packet, Protocol, Target};
use std::collections::BTreeSet;

/// What becomes of a packet, as the oracle says it; what is observed alone passes. It is delivered to each Pod to which dice
/// or an earlier flow of its client may send it.
pub(crate) fn simulate(ruleset: &Ruleset, uplink: &Interface, packet: &Packet) -> Action {
    let family = Family::of(packet.destination.ip());
    let meets = |table| {
        let chains = ruleset.chains(family, table);
        let mut ends = BTreeSet::new();
        let walk = Walk { chains: &chains, uplink, packet };
        let Rule { matches, verdict } = hook();
        let begins = matches.iter().all(|wanted| walk.holds(wanted) == Some(true));
        walk.all(if begins { &verdict } else { &Verdict::Return }, &mut Vec::new(), &mut ends);
        ends
    };
    let dropped = meets(Table::Mangle);
    if dropped == BTreeSet::from([End::Dropped]) {
        return Action::Drop;
    }
    assert_eq!(dropped, BTreeSet::from([End::Passed]), "nothing else is done in mangle");
    let ends = meets(Table::Nat);
    if ends == BTreeSet::from([End::Stays]) {
        assert_eq!(meets(Table::Filter), BTreeSet::from([End::Rejected]), "{packet:?}");
        return Action::Reject;
    }
    // Another proxy may leave it as it is: then nothing of ours may meet it.
    if ends == BTreeSet::from([End::Passed]) {
        assert_eq!(meets(Table::Filter), BTreeSet::from([End::Passed]), "{packet:?}");
        return Action::Pass;
    }
    let candidates = ends.into_iter().map(|end| match end {
        End::Delivered(pod) => Target { hop: Hop::Pod(pod), weight: 1 },
        end => panic!("{packet:?} is not always delivered: {end:?}"),
    });
    Action::Deliver { candidates: candidates.collect() }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Passed,
    Dropped,
    Rejected,
    Stays,
    Delivered(std::net::SocketAddr),
}

struct Walk<'a> {
    chains: &'a Chains,
    uplink: &'a Interface,
    packet: &'a Packet,
}

impl Walk<'_> {
    /// Follows `verdict`, with the rules to come back to; where a match is a matter of chance, both ways.
    fn all(&self, verdict: &Verdict, back: &mut Vec<(Name, usize)>, ends: &mut BTreeSet<End>) {
        let end = match verdict {
            Verdict::Jump(chain) | Verdict::Goto(chain) => return self.chain(chain, 0, back, ends),
            Verdict::Return => match back.pop() {
                Some((chain, next)) => return self.chain(&chain, next, back, ends),
                None => End::Passed,
            },
            Verdict::Drop => End::Dropped,
            Verdict::Reject(_) => End::Rejected,
            Verdict::Stay(address) => {
                assert_eq!(*address, self.packet.destination.ip(), "only to itself");
                End::Stays
            }
            Verdict::Deliver(pod) => End::Delivered(*pod),
        };
        ends.insert(end);
    }

    fn chain(&self, name: &Name, from: usize, back: &mut Vec<(Name, usize)>, ends: &mut BTreeSet<End>) {
        let empty = Vec::new();
        let missing_entry = *name == names::shared(names::ENTRY) && self.chains.is_empty();
        let rules = if missing_entry { &empty } else { &self.chains[name] };
        for (number, Rule { matches, verdict }) in rules.iter().enumerate().skip(from) {
            let answers: Vec<Option<bool>> = matches.iter().map(|wanted| self.holds(wanted)).collect();
            if answers.contains(&Some(false)) {
                continue;
            }
            let mut then = back.clone();
            if matches!(verdict, Verdict::Jump(_)) {
                then.push((name.clone(), number + 1));
            }
            self.all(verdict, &mut then, ends);
            if !answers.contains(&None) {
                return;
            }
        }
        self.all(&Verdict::Return, back, ends);
    }

    /// `None` if it may or may not.
    fn holds(&self, wanted: &Match) -> Option<bool> {
        let Packet { protocol, source, destination, opening, .. } = self.packet;
        Some(match wanted {
            Match::Source(range) => range.contains(&source.ip()),
            Match::Destination(range) => range.contains(&destination.ip()),
            Match::Arrival(interface) => interface == self.uplink,
            Match::Protocol(wanted) => wanted == protocol,
            Match::Ports(wanted, first, last) => wanted == protocol && (*first..=*last).contains(&destination.port()),
            Match::NotOpening => *protocol == Protocol::Tcp && !opening,
            // Without an INIT the kernel takes SCTP for part of no flow at all, a new one included.
            Match::First => *protocol != Protocol::Sctp || *opening,
            Match::Bind(..) => true,
            Match::Bound(..) | Match::Chance(_) => return None,
        })
    }
}
