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
use portreeve_table::{Engine, Reason};
use run::{Divergence, run};
use site::Site;
use std::env;
use std::time::Instant;

/// Packets of a run that nobody asked for.
const PACKETS: usize = 12_000;
/// Every so many scenarios one waits until bindings of clients are over.
const LATE: usize = 6;

/// An engine on trial.
struct Subject {
    open: fn() -> Box<dyn Engine>,
    differences: &'static [Difference],
}

#[test]
fn nftables_does_with_any_packet_what_the_oracle_says() {
    privileged("nftables_does_with_any_packet_what_the_oracle_says", || {
        agree(&Subject {
            open: || Box::new(Programmed::open().unwrap()),
            differences: &[
                Difference::Reassembled,
                Difference::NoForward,
                Difference::OddSyn,
                Difference::SctpMidFlow,
                Difference::AffinityForgotten,
                Difference::AffinityAnew,
                Difference::Stranded,
                Difference::Inherited,
            ],
        });
    });
}

fn agree(subject: &Subject) {
    let number = |name, default| env::var(name).map_or(default, |text| text.parse().unwrap());
    let (packets, seed) = (number("PORTREEVE_FUZZ_PACKETS", PACKETS), number("PORTREEVE_FUZZ_SEED", 1));
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
    if packets >= PACKETS {
        let unmet: Vec<Reason> = Reason::ALL.into_iter().filter(|reason| !tally.reasons.contains_key(reason)).collect();
        assert!(unmet.is_empty(), "no packet met {unmet:?}");
        for difference in subject.differences {
            let met = tally.differences.contains_key(difference);
            assert!(met, "no packet met {difference:?} any more, which was known because {}", difference.why());
        }
    }
}
