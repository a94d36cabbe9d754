//! Both engines do with packets what the oracle says.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use portreeve_agreement::namespace::privileged;
use portreeve_agreement::{Difference, Subject, agree, disagreement};
use portreeve_netfilter::{iptables, nftables};
use portreeve_table::{Applied, Engine, EngineError, ForwardingTable, Goal, Integrity, Keeps, OnNoLocal, Op, diff};
use std::env;
use std::sync::Arc;

const DIFFERENCES: &[Difference] = &[
    Difference::Reassembled,
    Difference::NoForward,
    Difference::AffinityForgotten,
    Difference::Stranded,
    Difference::Inherited,
];

const NFTABLES: Subject = Subject { open: open_nftables, clear: clear_nftables, differences: DIFFERENCES };
const IPTABLES: Subject = Subject { open: open_iptables, clear: clear_iptables, differences: DIFFERENCES };

fn open_nftables() -> Box<dyn Engine> {
    Box::new(nftables::Programmed::open().unwrap())
}

fn clear_nftables() {
    open_nftables().remove().unwrap();
}

fn open_iptables() -> Box<dyn Engine> {
    Box::new(iptables::Programmed::open(&env::var_os("PATH").unwrap()).unwrap())
}

fn clear_iptables() {
    open_iptables().remove().unwrap();
    // Rules that reset clients are nftables' to remove, whoever had them made.
    clear_nftables();
}

#[test]
fn nftables_does_with_any_packet_what_the_oracle_says() {
    privileged("nftables_does_with_any_packet_what_the_oracle_says", || agree(&NFTABLES));
}

#[test]
fn iptables_does_with_any_packet_what_the_oracle_says() {
    privileged("iptables_does_with_any_packet_what_the_oracle_says", || agree(&IPTABLES));
}

/// nftables with one mistake: it rejects what is to be dropped.
struct Mistaken(nftables::Programmed, ForwardingTable);

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
        let open = || -> Box<dyn Engine> {
            Box::new(Mistaken(nftables::Programmed::open().unwrap(), ForwardingTable::default()))
        };
        let small = disagreement(&Subject { open, ..NFTABLES }, 7, 20);
        let small = small.expect("twenty scenarios have a Service that drops");
        assert_eq!((small.tables, small.services, small.packets), (1, 1, 1), "{}", small.text);
        assert!(small.text.contains("[42] no Pod here") && small.text.contains("that is rejected"), "{}", small.text);
    });
}
