//! One scenario, played with real packets.

use crate::Subject;
use crate::catch::{Catch, SECOND_LOOK, Wrong};
use crate::frame::{Outgoing, SYN};
use crate::judge::{ANSWER, Ledger, SURE, Tally};
use crate::scenario::{Phase, Scenario, Shot};
use crate::site::{Side, Site};
use crate::world::SHORT_AFFINITY;
use portreeve_table::{FlowKey, ForwardingTable, Protocol, diff};
use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

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
    let mut play = Play { site, subject, ledger: Ledger::default(), catch: Catch::default() };
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
}

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
            self.catch.fence(self.site)?;
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
        self.catch.fence(self.site)?;
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
