//! One scenario, played with real packets.

use crate::Subject;
use crate::frame::{Outgoing, SYN, Sight};
use crate::judge::{ANSWER, Fate, Ledger, SURE, Tally};
use crate::scenario::{Phase, Scenario, Shot};
use crate::site::{Seen, Side, Site, fence};
use crate::world::SHORT_AFFINITY;
use portreeve_table::{Family, FlowKey, ForwardingTable, Protocol, diff};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// Numbers from here on are those of fences.
const FENCES: u32 = 1 << 30;
/// Longest wait for what was sent last.
const PATIENCE: Duration = Duration::from_secs(3);
/// What came too late for a batch is waited for so long before it is missed.
const SECOND_LOOK: Duration = Duration::from_millis(300);

/// A packet that was not treated as the oracle says.
pub(crate) struct Divergence {
    pub(crate) phase: usize,
    pub(crate) number: u32,
    pub(crate) what: String,
}

/// Plays a scenario to its end or to the first divergence.
pub(crate) fn run(site: &Site, subject: &Subject, scenario: &Scenario, tally: &mut Tally) -> Result<(), Divergence> {
    site.clear(subject.clear);
    site.caught();
    let mut play = Play { site, subject, ledger: Ledger::default(), catch: Catch::default(), fences: FENCES };
    let mut engine = site.open(subject.open);
    let mut before = ForwardingTable::default();
    for (number, phase) in scenario.0.iter().enumerate() {
        let at = |number: u32, what: String, phase| Divergence { phase, number, what };
        if phase.anew {
            engine = site.open(subject.open);
        }
        let told = if phase.anew { &ForwardingTable::default() } else { &before };
        let steps = diff(told, &phase.table);
        let applied;
        (engine, applied) = site.apply(engine, &phase.table, &phase.uplinks, steps, phase.anew);
        applied.map_err(|error| at(0, format!("the table cannot be put in force: {error}"), number))?;
        play.ledger.turn(&before, phase, subject.differences, tally);
        before = phase.table.clone();
        if phase.late {
            #[allow(
                clippy::disallowed_methods,
                reason = "a timeout of the kernel's own must pass, and no runtime is here"
            )]
            thread::sleep(Duration::from_secs(SHORT_AFFINITY.into()) + SURE + SURE / 4);
        }
        play.phase(phase, tally).map_err(|(shot, what)| at(shot, what, number))?;
        play.answer(&scenario.0[number + 1..]).map_err(|(shot, what)| at(shot, what, number))?;
    }
    Ok(())
}

struct Play<'a> {
    site: &'a Site,
    subject: &'a Subject,
    ledger: Ledger,
    catch: Catch,
    fences: u32,
}

type Wrong = (u32, String);

impl Play<'_> {
    fn phase(&mut self, phase: &Phase, tally: &mut Tally) -> Result<(), Wrong> {
        for batch in phase.shots.chunks(50) {
            let mut flows = BTreeSet::new();
            let mut sent = Vec::new();
            for shot in batch {
                // Of one flow one packet at a time, so that each knows what became of the one before.
                if self.ledger.is_due(shot) && flows.insert(flow(shot)) {
                    let known = self.ledger.opened.get(&flow(shot)).filter(|_| shot.again && shot.flags & SYN == 0);
                    self.catch.expect(shot);
                    sent.push((shot, Instant::now()));
                    self.site.send(shot.side, &shot.outgoing(known.copied()), shot.in_fragments);
                }
            }
            self.fence()?;
            let looked = Instant::now();
            loop {
                let (mut ledger, mut counted) = (self.ledger.clone(), tally.clone());
                match self.judged(phase, &sent, &mut ledger, &mut counted) {
                    Ok(()) => {
                        (self.ledger, *tally) = (ledger, counted);
                        break;
                    }
                    Err(wrong) if looked.elapsed() > SECOND_LOOK => return Err(wrong),
                    Err(_) => {
                        self.site.wait();
                        self.catch.take(self.site.caught());
                    }
                }
            }
            self.catch.close(sent.iter().map(|(shot, _)| shot.number))?;
        }
        Ok(())
    }

    fn judged(
        &self,
        phase: &Phase,
        sent: &[(&Shot, Instant)],
        ledger: &mut Ledger,
        tally: &mut Tally,
    ) -> Result<(), Wrong> {
        for (shot, at) in sent {
            let fates = self.catch.fates(shot.number);
            ledger
                .judge(phase, shot, *at, fates, self.subject.differences, tally)
                .map_err(|what| (shot.number, what))?;
        }
        Ok(())
    }

    /// Waits until everything that was sent has gone its way.
    fn fence(&mut self) -> Result<(), Wrong> {
        for family in Family::BOTH {
            self.fences += 1;
            let destination = fence(family);
            let client = match family {
                Family::V4 => [203, 0, 113, 77].into(),
                Family::V6 => [0x2001, 0xdb8, 2, 0, 0, 0, 0, 77].into(),
            };
            let port = 1024 + u16::try_from(self.fences % 60_000).unwrap();
            let packet = Outgoing {
                number: self.fences,
                protocol: Protocol::Udp,
                source: SocketAddr::new(client, port),
                destination,
                flags: 0,
                opened_by: None,
                init: false,
            };
            self.site.send(Side::Uplink, &packet, false);
        }
        let start = Instant::now();
        loop {
            self.catch.take(self.site.caught());
            if self.catch.fences.contains(&self.fences) && self.catch.fences.contains(&(self.fences - 1)) {
                self.catch.fences.clear();
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                return Err((0, "a packet to an address that nobody claims was not passed on".to_owned()));
            }
            self.site.wait();
        }
    }

    /// Lets Pods answer the TCP flows that later packets belong to.
    fn answer(&mut self, later: &[Phase]) -> Result<(), Wrong> {
        let shots = later.iter().flat_map(|phase| &phase.shots);
        let wanted: BTreeSet<FlowKey> =
            shots.filter(|shot| shot.again && shot.protocol == Protocol::Tcp).map(flow).collect();
        let mut asked = Vec::new();
        for key in wanted.into_iter().filter(|key| !self.ledger.answered.contains(key)) {
            let (Some(pod), Some(number)) = (self.ledger.pod_of(&key), self.ledger.opened.get(&key).copied()) else {
                continue;
            };
            let answer = Outgoing {
                number,
                protocol: Protocol::Tcp,
                source: pod,
                destination: key.client,
                flags: ANSWER,
                opened_by: None,
                init: false,
            };
            asked.push((key, number));
            self.site.send(Side::Pods, &answer, false);
        }
        self.fence()?;
        for (key, number) in asked {
            match self.catch.answers.get(&number) {
                Some((source, destination)) if (*source, *destination) == (key.frontend, key.client) => {
                    self.ledger.answered.insert(key);
                }
                // Where the client's address leads back among the Pods it is not seen outside.
                _ if self.catch.inside.contains(&number) => {}
                seen => return Err((number, format!("the Pod's answer to {key:?} was seen outside as {seen:?}"))),
            }
        }
        self.catch.answers.clear();
        self.catch.inside.clear();
        Ok(())
    }
}

fn flow(shot: &Shot) -> FlowKey {
    FlowKey { protocol: shot.protocol, client: shot.source, frontend: shot.destination }
}

/// What was caught, by the number of the packet that it is about.
#[derive(Default)]
struct Catch {
    open: BTreeMap<u32, (Shot, Vec<Fate>)>,
    by_flow: BTreeMap<(SocketAddr, SocketAddr), u32>,
    fences: BTreeSet<u32>,
    answers: BTreeMap<u32, (SocketAddr, SocketAddr)>,
    inside: BTreeSet<u32>,
    late: Option<Wrong>,
}

impl Catch {
    fn expect(&mut self, shot: &Shot) {
        self.open.insert(shot.number, (*shot, Vec::new()));
        self.by_flow.insert((shot.source, shot.destination), shot.number);
    }

    fn fates(&self, number: u32) -> &[Fate] {
        self.open.get(&number).map_or(&[], |(_, fates)| fates)
    }

    /// What comes of these from now on comes too late.
    fn close(&mut self, numbers: impl Iterator<Item = u32>) -> Result<(), Wrong> {
        numbers.for_each(|number| drop(self.open.remove(&number)));
        self.by_flow.clear();
        self.late.take().map_or(Ok(()), Err)
    }

    fn take(&mut self, seen: Vec<Seen>) {
        for seen in seen {
            let (sight, among_pods) = match seen {
                Seen::AmongPods(sight) => (sight, true),
                Seen::Outside(sight) => (sight, false),
            };
            match sight {
                Sight::Packet { number, .. } if number > FENCES => drop(self.fences.insert(number)),
                Sight::Packet { number, source, destination, flags }
                    if flags == ANSWER && !self.open.contains_key(&number) =>
                {
                    if among_pods {
                        self.inside.insert(number);
                    } else {
                        self.answers.insert(number, (source, destination));
                    }
                }
                Sight::Packet { number, source, destination, .. } => {
                    self.add(number, |shot| arrived(shot, among_pods, source, destination));
                }
                Sight::Reset { source, destination } => {
                    if let Some(number) = self.by_flow.get(&(destination, source)).copied() {
                        self.add(number, |_| Fate::Reset);
                    }
                }
                Sight::Error { kind, from, about, source, destination } => self.add(about, |shot| {
                    let port_unreachable = matches!(kind, (3, 3) | (1, 4));
                    if !port_unreachable {
                        Fate::Garbled("an ICMP error that is not port unreachable")
                    } else if (source, destination) != (shot.source, shot.destination) {
                        Fate::Garbled("an ICMP error about other addresses")
                    } else {
                        Fate::Rejected(from)
                    }
                }),
            }
        }
    }

    fn add(&mut self, number: u32, fate: impl FnOnce(&Shot) -> Fate) {
        match self.open.get_mut(&number) {
            Some((shot, fates)) => {
                let fate = fate(shot);
                fates.push(fate);
            }
            None => {
                let what = "it was seen after its batch had been judged".to_owned();
                self.late.get_or_insert((number, what));
            }
        }
    }
}

fn arrived(shot: &Shot, among_pods: bool, source: SocketAddr, destination: SocketAddr) -> Fate {
    if !among_pods {
        Fate::Garbled("sent outside")
    } else if source != shot.source {
        Fate::Garbled("with another source")
    } else if destination == shot.destination || Site::is_proxy(destination.ip()) {
        Fate::Passed
    } else {
        Fate::Delivered(destination)
    }
}
