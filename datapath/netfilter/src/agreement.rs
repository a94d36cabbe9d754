//! Engines do with packets what the oracle says: random tables, one after the other, and real packets.
//!
//! `PORTREEVE_FUZZ_PACKETS` and `PORTREEVE_FUZZ_SEED` say how many and which. What differs without leave is made as small as
//! it comes, and told with its tables.

mod dice;
mod differences;
mod frame;
mod judge;
mod run;
mod scenario;
mod shrink;
mod site;
mod world;

use crate::namespace::privileged;
use crate::nftables::Programmed;
use dice::Dice;
use differences::Difference;
use judge::Tally;
use portreeve_table::{
    Applied, Engine, EngineError, ForwardingTable, Goal, Integrity, Keeps, OnNoLocal, Op, Reason, diff,
};
use run::{Divergence, run};
use site::Site;
use std::env;
use std::sync::Arc;
use std::time::Instant;

/// Packets of a run that nobody asked for.
const PACKETS: usize = 10_000;
/// Its seed: one that meets everything so early.
const SEED: usize = 4;
/// With any seed so many packets meet everything.
const ENOUGH: usize = 50_000;
/// Every so many scenarios one waits until bindings of clients are over.
const LATE: usize = 6;

/// An engine on trial.
struct Subject {
    open: fn() -> Box<dyn Engine>,
    differences: &'static [Difference],
}

const NFTABLES: &[Difference] = &[
    Difference::Reassembled,
    Difference::NoForward,
    Difference::AffinityForgotten,
    Difference::AffinityAnew,
    Difference::Stranded,
    Difference::Inherited,
];

#[test]
fn nftables_does_with_any_packet_what_the_oracle_says() {
    privileged("nftables_does_with_any_packet_what_the_oracle_says", || {
        agree(&Subject { open: || Box::new(Programmed::open().unwrap()), differences: NFTABLES });
    });
}

#[test]
fn iptables_does_with_any_packet_what_the_oracle_says() {
    privileged("iptables_does_with_any_packet_what_the_oracle_says", || {
        let open = || -> Box<dyn Engine> {
            let path = env::var_os("PATH").unwrap();
            Box::new(crate::iptables::Programmed::open(&path).unwrap())
        };
        agree(&Subject { open, differences: NFTABLES });
    });
}

/// nftables with one mistake: it rejects what is to be dropped.
struct Mistaken(Programmed, ForwardingTable);

impl Engine for Mistaken {
    fn apply(&mut self, goal: Goal<'_>, _: &[Op]) -> Result<Applied, EngineError> {
        let mut table = goal.table.clone();
        for entry in table.services.values_mut().filter(|entry| entry.on_no_local == OnNoLocal::Drop) {
            Arc::make_mut(entry).on_no_local = OnNoLocal::Reject;
        }
        let steps = diff(&self.1, &table);
        self.1 = table;
        self.0.apply(Goal { table: &self.1, ..goal }, &steps)
    }

    fn end_flows(&mut self, table: &ForwardingTable) -> Result<(), EngineError> {
        self.0.end_flows(table)
    }

    fn sweep(&mut self, table: &ForwardingTable, keeps: Keeps<'_>) -> Result<usize, EngineError> {
        self.0.sweep(table, keeps)
    }

    fn integrity(&mut self) -> Result<Integrity, EngineError> {
        self.0.integrity()
    }

    fn remove(&mut self) -> Result<(), EngineError> {
        self.0.remove()
    }
}

#[test]
fn a_mistake_is_found_and_told_by_one_service_and_one_packet() {
    privileged("a_mistake_is_found_and_told_by_one_service_and_one_packet", || {
        let subject = Subject {
            open: || Box::new(Mistaken(Programmed::open().unwrap(), ForwardingTable::default())),
            differences: NFTABLES,
        };
        let (site, mut dice) = (Site::new(), Dice::new(7));
        let found = (0..20).find_map(|_| {
            let scenario = scenario::draw(&mut dice, false);
            let divergence = run(&site, &subject, &scenario, &mut Tally::default()).err()?;
            Some(shrink::shrink(&site, &subject, scenario, divergence))
        });
        let (small, divergence) = found.expect("twenty scenarios have a Service that drops");
        let [phase] = small.0.as_slice() else { panic!("{}", shrink::describe(&small, &divergence)) };
        assert_eq!((phase.table.services.len(), phase.shots.len()), (1, 1));
        let text = shrink::describe(&small, &divergence);
        assert!(text.contains("[42] no Pod here") && text.contains("that is rejected"), "{text}");
    });
}

fn agree(subject: &Subject) {
    let number = |name, default| env::var(name).map_or(default, |text| text.parse().unwrap());
    let (packets, seed) = (number("PORTREEVE_FUZZ_PACKETS", PACKETS), number("PORTREEVE_FUZZ_SEED", SEED));
    let (site, start, mut tally) = (Site::new(), Instant::now(), Tally::default());
    let mut scenarios = 0;
    while tally.packets < packets {
        let mut dice = Dice::new(((seed as u64) << 32) + scenarios as u64);
        let scenario = scenario::draw(&mut dice, scenarios % LATE == 0);
        if let Err(divergence) = run(&site, subject, &scenario, &mut tally) {
            let Divergence { what, .. } = &divergence;
            eprintln!("seed {seed}, scenario {scenarios}: {what}\nIt is being made smaller.");
            let (small, divergence) = shrink::shrink(&site, subject, scenario, divergence);
            panic!("seed {seed}, scenario {scenarios}:\n{}", shrink::describe(&small, &divergence));
        }
        scenarios += 1;
    }
    eprintln!("{scenarios} scenarios in {:?}: {tally:#?}", start.elapsed());
    if packets >= ENOUGH || (packets, seed) == (PACKETS, SEED) {
        let unmet: Vec<Reason> = Reason::ALL.into_iter().filter(|reason| !tally.reasons.contains_key(reason)).collect();
        assert!(unmet.is_empty(), "no packet met {unmet:?}");
        for difference in subject.differences {
            let met = tally.differences.contains_key(difference);
            assert!(met, "no packet met {difference:?} any more, which was known because {}", difference.why());
        }
    }
}
