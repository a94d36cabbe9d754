//! What is seen of the packets of a batch, told apart by their numbers.

use crate::field::Fate;
use crate::frame::{Outgoing, Sight};
use crate::judge::ANSWER;
use crate::scenario::Shot;
use crate::site::{Seen, Side, Site, fence};
use portreeve_table::{Family, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Numbers from here on are those of fences.
const FENCES: u32 = 1 << 30;
/// Longest wait for what was sent last.
const PATIENCE: Duration = Duration::from_secs(3);
/// What came too late for a batch is waited for so long before it is missed.
pub(crate) const SECOND_LOOK: Duration = Duration::from_millis(300);

/// The number of a packet, and what is wrong with it.
pub(crate) type Wrong = (u32, String);

/// What was caught, by the number of the packet that it is about.
pub(crate) struct Catch {
    open: BTreeMap<u32, (Shot, Vec<Fate>)>,
    by_flow: BTreeMap<(SocketAddr, SocketAddr), u32>,
    fences: BTreeSet<u32>,
    last_fence: u32,
    pub(crate) answers: BTreeMap<u32, (SocketAddr, SocketAddr)>,
    pub(crate) inside: BTreeSet<u32>,
    late: Option<Wrong>,
}

impl Default for Catch {
    fn default() -> Self {
        Self {
            open: BTreeMap::new(),
            by_flow: BTreeMap::new(),
            fences: BTreeSet::new(),
            last_fence: FENCES,
            answers: BTreeMap::new(),
            inside: BTreeSet::new(),
            late: None,
        }
    }
}

impl Catch {
    /// Waits until everything that was sent has gone its way.
    pub(crate) fn fence(&mut self, site: &Site) -> Result<(), Wrong> {
        for family in Family::BOTH {
            self.last_fence += 1;
            let destination = fence(family);
            let client = match family {
                Family::V4 => [203, 0, 113, 77].into(),
                Family::V6 => [0x2001, 0xdb8, 2, 0, 0, 0, 0, 77].into(),
            };
            let port = 1024 + u16::try_from(self.last_fence % 60_000).unwrap();
            let packet = Outgoing {
                number: self.last_fence,
                protocol: Protocol::Udp,
                source: SocketAddr::new(client, port),
                destination,
                flags: 0,
                opened_by: None,
                init: false,
            };
            site.send(Side::Uplink, &packet, false);
        }
        let start = Instant::now();
        loop {
            self.take(site.caught());
            if self.fences.contains(&self.last_fence) && self.fences.contains(&(self.last_fence - 1)) {
                self.fences.clear();
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                return Err((0, "a packet to an address that nobody claims was not passed on".to_owned()));
            }
            site.wait();
        }
    }

    pub(crate) fn expect(&mut self, shot: &Shot) {
        self.open.insert(shot.number, (*shot, Vec::new()));
        self.by_flow.insert((shot.source, shot.destination), shot.number);
    }

    pub(crate) fn fates(&self, number: u32) -> &[Fate] {
        self.open.get(&number).map_or(&[], |(_, fates)| fates)
    }

    /// What comes of these from now on comes too late.
    pub(crate) fn close(&mut self, numbers: impl Iterator<Item = u32>) -> Result<(), Wrong> {
        numbers.for_each(|number| drop(self.open.remove(&number)));
        self.by_flow.clear();
        self.late.take().map_or(Ok(()), Err)
    }

    pub(crate) fn take(&mut self, seen: Vec<Seen>) {
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
