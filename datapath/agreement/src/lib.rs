//! Whether an engine does with packets what the oracle says: random tables, one after the other, and real packets.
//!
//! This room knows the table, its oracle, network namespaces and packets as bytes. It may not know an engine, Kubernetes
//! or a policy: whoever wants an engine tried hands it over as a [`Subject`]. It is a proof: nothing that ships may use it.
//!
//! `PORTREEVE_FUZZ_PACKETS` and `PORTREEVE_FUZZ_SEED` say how many packets and which. What differs without leave is made as
//! small as it comes, and told with its tables.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod catch;
mod dice;
mod differences;
mod ends;
mod field;
mod flows;
mod frame;
mod judge;
pub mod namespace;
mod run;
mod scenario;
mod shrink;
mod site;
mod world;

pub use dice::Dice;
pub use differences::Difference;
pub use field::{Bindings, Fate, Field};
pub use frame::SYN;
pub use scenario::{CLIENTS, IN_POD_RANGES, Shot};
pub use site::Side;
pub use world::{NODE_ADDRESSES, OTHER_LOCAL, POD_LINK};

use judge::Tally;
use portreeve_table::{Engine, Reason};
use run::{Divergence, run};
use site::Site;
use std::env;
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
#[derive(Clone, Copy)]
pub struct Subject {
    /// Opens it, in the network namespace of the calling thread.
    pub open: fn() -> Box<dyn Engine>,
    /// Takes away all that it ever left there.
    pub clear: fn(),
    /// What it may do in its own way.
    pub differences: &'static [Difference],
}

/// Tries `subject` with as many packets as are asked for, and panics with the smallest case in which it does something else
/// than the oracle says. Needs root, at least of a user namespace.
pub fn agree(subject: &Subject) {
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

/// What is left of a disagreement after all that it does not need was taken away.
#[derive(Clone, Debug)]
pub struct Smallest {
    /// Tables that are put in force.
    pub tables: usize,
    /// Services in the first of them.
    pub services: usize,
    /// Packets that come while it is in force.
    pub packets: usize,
    /// All that a person needs to see it.
    pub text: String,
}

/// The first disagreement within so many scenarios of a seed, made small.
pub fn disagreement(subject: &Subject, seed: u64, scenarios: usize) -> Option<Smallest> {
    let (site, mut dice) = (Site::new(), Dice::new(seed));
    (0..scenarios).find_map(|_| {
        let scenario = scenario::draw(&mut dice, false);
        let divergence = run(&site, subject, &scenario, &mut Tally::default()).err()?;
        let (small, divergence) = shrink::shrink(&site, subject, scenario, divergence);
        let text = shrink::describe(&small, &divergence);
        let first = small.0.first()?;
        Some(Smallest { tables: small.0.len(), services: first.table.services.len(), packets: first.shots.len(), text })
    })
}
