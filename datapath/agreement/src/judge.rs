//! Whether what became of a packet is what the oracle says, and what a node remembers of it.

use crate::differences::Difference;
use crate::ends::{Ends, hosts};
use crate::field::Fate;
use crate::frame::{ACK, SYN};
use crate::scenario::{Phase, Shot};
use crate::world::{NODE_ADDRESSES, OTHER_LOCAL, POD_LINK, ip};
use portreeve_table::{
    Action, AffinityKey, Bound, ClaimedMode, Flow, FlowKey, ForwardingTable, Hop, Memory, Packet, PortEntry, Protocol,
    Reason, ServiceEntry, ServiceKey, Verdict, oracle,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// What may be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Delivery(Vec<SocketAddr>),
    Pass,
    Rejection,
    Reset,
    Nothing,
}

impl Expected {
    pub(crate) fn of(action: &Action) -> Option<Self> {
        Some(match action {
            Action::Pass | Action::Observe { .. } => Self::Pass,
            Action::Deliver { candidates } => Self::Delivery(candidates.iter().map(|target| pod(target.hop)).collect()),
            Action::Drop => Self::Nothing,
            Action::Reject => Self::Rejection,
            Action::Reset => Self::Reset,
            Action::Forward => return None,
        })
    }

    pub(crate) fn allows(&self, fates: &[Fate]) -> bool {
        let own = NODE_ADDRESSES.iter().chain(&OTHER_LOCAL).chain(&POD_LINK);
        let local = |address| own.clone().any(|own| ip(own) == address);
        match (self, fates) {
            (Self::Delivery(pods), [Fate::Delivered(to)]) => pods.contains(to),
            (Self::Rejection, [Fate::Rejected(from)]) => local(*from),
            (Self::Pass, [Fate::Passed]) | (Self::Reset, [Fate::Reset]) | (Self::Nothing, []) => true,
            _ => false,
        }
    }
}

const fn pod(hop: Hop) -> SocketAddr {
    let Hop::Pod(pod) = hop;
    pod
}

/// Counts of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) packets: usize,
    pub(crate) fates: BTreeMap<&'static str, usize>,
    pub(crate) reasons: BTreeMap<Reason, usize>,
    pub(crate) differences: BTreeMap<Difference, usize>,
    /// Where refusals came from.
    pub(crate) refusing: BTreeSet<IpAddr>,
}

/// What a node remembers, and what is known of flows besides.
#[derive(Clone, Default)]
pub(crate) struct Ledger {
    memory: Memory,
    /// When clients were bound; the oracle's clock is too coarse to say who is near the end of its time.
    bound: BTreeMap<AffinityKey, Instant>,
    /// Bindings that something in between may have ended.
    unsettled: BTreeMap<AffinityKey, Difference>,
    /// TCP flows that were answered, and the numbers of the packets that opened flows.
    pub(crate) answered: BTreeSet<FlowKey>,
    pub(crate) opened: BTreeMap<FlowKey, u32>,
    refused: BTreeSet<FlowKey>,
    /// Tables that the engine has known, but for the one in force.
    past: Vec<ForwardingTable>,
    /// Flows whose Pod went while no engine could tell that they are its own.
    stranded: BTreeSet<FlowKey>,
    /// Flows whose Pod went with the last change; it has ended them, whether or not a packet comes to ask.
    ending: BTreeSet<FlowKey>,
}

/// How far from the end of its time a binding is for sure.
pub(crate) const SURE: Duration = Duration::from_millis(300);
/// A clock that leaves room for any age.
const NOW: u64 = 1_000_000;

impl Ledger {
    /// Notes what the change from one table to the other makes uncertain. An engine that is new knows but one.
    pub(crate) fn turn(&mut self, before: &ForwardingTable, phase: &Phase, known: &[Difference], tally: &mut Tally) {
        let Phase { table, anew, .. } = phase;
        let anew = *anew;
        if anew {
            self.past.clear();
        } else {
            self.past.push(before.clone());
        }
        for key in std::mem::take(&mut self.ending) {
            self.forget(key);
        }
        let mut inherited = Vec::new();
        for (key, Flow { service, pod }) in &self.memory.flows {
            let ends = Ends { key, pod: *pod, past: &self.past, table };
            if known.contains(&Difference::Inherited)
                && !matches!(ends.of(service), Some(true))
                && table.services.keys().any(|other| other != service && ends.of(other) == Some(true))
            {
                inherited.push(*key);
            } else if let Some(told) = ends.of(service) {
                if told {
                    self.ending.insert(*key)
                } else {
                    self.stranded.insert(*key)
                };
            }
        }
        for key in inherited {
            *tally.differences.entry(Difference::Inherited).or_default() += 1;
            self.forget(key);
        }
        for (key, bound) in &self.memory.clients {
            let seconds = |table: &ForwardingTable| table.services.get(&key.service)?.affinity_seconds;
            let holds = table.services.get(&key.service).is_some_and(|entry| {
                let ports = entry.ports.iter().filter(|port| port.name == key.port && port.protocol == key.protocol);
                let delivers = entry.mode != ClaimedMode::Observe;
                delivers && ports.flat_map(|port| &port.targets).any(|target| pod(target.hop) == bound.pod)
            });
            if !holds || seconds(table) != seconds(before) {
                self.unsettled.insert(key.clone(), Difference::AffinityForgotten);
            } else if anew {
                self.unsettled.entry(key.clone()).or_insert(Difference::AffinityAnew);
            }
        }
    }

    /// A flow that was ended: a datagram may open it anew, and of what is under way nothing more is asked.
    fn forget(&mut self, key: FlowKey) {
        self.memory.flows.remove(&key);
        self.answered.remove(&key);
        self.stranded.remove(&key);
        self.refused.insert(key);
    }

    /// Whether a packet with the addresses of an earlier one has anything to tell.
    pub(crate) fn is_due(&self, shot: &Shot) -> bool {
        let key = FlowKey { protocol: shot.protocol, client: shot.source, frontend: shot.destination };
        let opens = shot.protocol != Protocol::Tcp || shot.flags & SYN != 0;
        !shot.again
            || self.answered.contains(&key)
            || opens && (self.memory.flows.contains_key(&key) || self.refused.contains(&key))
    }

    /// The Pod of a flow.
    pub(crate) fn pod_of(&self, key: &FlowKey) -> Option<SocketAddr> {
        self.memory.flows.get(key).map(|flow| flow.pod)
    }

    /// Judges what was seen of `shot`, sent at `sent`, and remembers it; tells what is wrong with it.
    pub(crate) fn judge(
        &mut self,
        phase: &Phase,
        shot: &Shot,
        sent: Instant,
        fates: &[Fate],
        known: &[Difference],
        tally: &mut Tally,
    ) -> Result<(), String> {
        tally.packets += 1;
        *tally.fates.entry(name(fates)).or_default() += 1;
        tally.refusing.extend(fates.iter().filter_map(|fate| match fate {
            Fate::Rejected(from) => Some(*from),
            _ => None,
        }));
        let Some(packet) = shot.packet(&phase.uplinks) else {
            let passed = Expected::Pass.allows(fates);
            return passed.then_some(()).ok_or_else(|| format!("it came on no uplink, and was {fates:?}"));
        };
        let table = &phase.table;
        let whole = Packet { fragment: false, ..packet };
        let claimed = owner(table, &whole);
        let affinity = claimed.and_then(|(service, entry, port)| {
            let client = packet.source.ip();
            let (port, protocol) = (port.name.clone(), port.protocol);
            entry
                .affinity_seconds
                .map(|seconds| (AffinityKey { service: service.clone(), port, protocol, client }, seconds))
        });
        let uncertain = affinity.as_ref().is_some_and(|(key, seconds)| self.set_age(key, *seconds, sent));
        let verdict = oracle(table, &whole, &self.memory);
        let said = if packet.fragment { oracle(table, &packet, &self.memory) } else { verdict.clone() };
        let fragment = said.because.iter().filter(|_| packet.fragment);
        for because in fragment.chain(&verdict.because) {
            *tally.reasons.entry(because.reason).or_default() += 1;
        }
        let mut differs = |difference: Difference| -> bool {
            let knows = known.contains(&difference);
            if knows {
                *tally.differences.entry(difference).or_default() += 1;
            }
            knows
        };
        let mut expected = Expected::of(&said.action);
        if packet.fragment && Expected::of(&verdict.action) != expected && differs(Difference::Reassembled) {
            expected = Expected::of(&verdict.action);
        }
        if expected.is_none() && differs(Difference::NoForward) {
            expected = Some(Expected::Pass);
        }
        let last = verdict.because.last().map(|because| because.reason);
        let candidates = claimed.map(|(_, _, port)| port.targets.iter().map(|target| pod(target.hop)).collect());
        let candidates = Expected::Delivery(candidates.unwrap_or_default());
        let fits = expected.as_ref().is_some_and(|expected| expected.allows(fates));
        let excused =
            matches!(last, Some(Reason::AffinityKept | Reason::AffinityExpired)) && candidates.allows(fates) && {
                let key = affinity.as_ref().map(|(key, _)| key);
                uncertain || key.and_then(|key| self.unsettled.get(key)).is_some_and(|difference| differs(*difference))
            };
        let ended = matches!(verdict.because[0].reason, Reason::FlowForgotten | Reason::FlowReset);
        let same = self.pod_of(&packet.flow()).is_some_and(|pod| fates == [Fate::Delivered(pod)]);
        // Where a new flow might go to the same Pod too, it is the old one that does.
        if ended && same && self.stranded.contains(&packet.flow()) && differs(Difference::Stranded) {
            return Ok(());
        }
        if !fits && !excused {
            return Err(told(&said, &packet, fates));
        }
        let service = claimed.map(|(service, ..)| service);
        let client = affinity.map(|(key, _)| key);
        let first = verdict.because[0].reason;
        if matches!(first, Reason::FlowKept | Reason::FlowOfLeft) {
            let key = packet.flow();
            if packet.protocol == Protocol::Tcp && packet.opening && !self.answered.contains(&key) {
                self.opened.insert(key, shot.number);
            }
        } else {
            self.remember(&whole, shot.number, fates, service, client.map(|client| (client, sent)));
        }
        Ok(())
    }

    /// Writes the age of a binding where the oracle reads it. Tells whether it is too near the end of its time to say.
    fn set_age(&mut self, key: &AffinityKey, seconds: u32, sent: Instant) -> bool {
        let (Some(bound), Some(since)) = (self.memory.clients.get_mut(key), self.bound.get(key)) else { return false };
        let (age, end) = (sent.duration_since(*since), Duration::from_secs(seconds.into()));
        self.memory.now = NOW;
        bound.last = if age < end { NOW } else { NOW - u64::from(seconds) - 1 };
        age.abs_diff(end) < SURE
    }

    /// What becomes of the first packet of a flow.
    fn remember(
        &mut self,
        packet: &Packet,
        number: u32,
        fates: &[Fate],
        service: Option<&ServiceKey>,
        client: Option<(AffinityKey, Instant)>,
    ) {
        let key = packet.flow();
        self.refused.remove(&key);
        self.stranded.remove(&key);
        self.ending.remove(&key);
        self.memory.flows.remove(&key);
        self.answered.remove(&key);
        match (fates, service) {
            ([Fate::Delivered(pod)], Some(service)) => {
                self.memory.flows.insert(key, Flow { service: service.clone(), pod: *pod });
                self.opened.insert(key, number);
                if let Some((client, sent)) = client {
                    self.unsettled.remove(&client);
                    self.bound.insert(client.clone(), sent);
                    self.memory.clients.insert(client, Bound { pod: *pod, last: NOW });
                }
            }
            ([Fate::Rejected(_)] | [], _) if packet.opening => {
                self.refused.insert(key);
            }
            _ => {}
        }
    }
}

const fn name(fates: &[Fate]) -> &'static str {
    match fates {
        [] => "dropped",
        [Fate::Delivered(_)] => "delivered",
        [Fate::Passed] => "passed on",
        [Fate::Rejected(_)] => "rejected",
        [Fate::Reset] => "reset",
        _ => "garbled",
    }
}

fn told(verdict: &Verdict, packet: &Packet, fates: &[Fate]) -> String {
    let mut text = format!("{packet:?}\nThe oracle: {verdict}\nSeen: {fates:?}, that is {}", name(fates));
    if packet.protocol == Protocol::Tcp && !packet.opening {
        let _: Result<(), std::fmt::Error> = write!(text, " (it opens nothing)");
    }
    text
}

/// The claimed Service port that a packet's destination belongs to.
pub(crate) fn owner<'a>(
    table: &'a ForwardingTable,
    packet: &Packet,
) -> Option<(&'a ServiceKey, &'a ServiceEntry, &'a PortEntry)> {
    hosts(packet.destination.ip(), &table.node_addresses).find_map(|host| {
        table.services.iter().find_map(|(key, entry)| {
            let fits = |port: &&PortEntry| {
                port.frontends.iter().any(|front| {
                    let front = front.frontend;
                    front.host == host && front.port == packet.destination.port() && front.protocol == packet.protocol
                })
            };
            entry.ports.iter().find(fits).map(|port| (key, entry.as_ref(), port))
        })
    })
}

/// Flags of the answer that a Pod gives to a TCP packet that opens a flow.
pub(crate) const ANSWER: u8 = SYN | ACK;
