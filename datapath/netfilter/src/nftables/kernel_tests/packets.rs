//! Real packets through our table: what every engine does ([`crate::packets`]), and what this one does alone.

mod flows;
mod health;

use super::super::testing::{Driven, port, service, table};
use super::namespace::privileged;
use crate::nftables::Programmed;
use crate::packets::{PATIENCE, POD, World, answers, ask, fails, read, serve};

fn open() -> Programmed {
    Programmed::open().unwrap()
}

#[test]
fn a_client_reaches_a_pod_and_keeps_its_address() {
    privileged("packets::a_client_reaches_a_pod_and_keeps_its_address", || {
        crate::packets::a_client_reaches_a_pod_and_keeps_its_address(open)
    });
}

#[test]
fn without_a_local_pod_a_client_waits_is_refused_or_is_passed_on() {
    privileged("packets::without_a_local_pod_a_client_waits_is_refused_or_is_passed_on", || {
        crate::packets::without_a_local_pod_a_client_waits_is_refused_or_is_passed_on(open)
    });
}

/// Whether one packet that opens a TCP connection has been counted as one that would be delivered.
fn counted() -> bool {
    let listed = super::listed();
    let counted = listed.iter().find(|block| block.starts_with("chain would-deliver"));
    counted.is_some_and(|chain| chain.contains("counter packets 1 bytes 60"))
}

#[test]
fn what_is_not_ours_is_passed_on() {
    privileged("packets::what_is_not_ours_is_passed_on", || {
        crate::packets::what_is_not_ours_is_passed_on(open, counted)
    });
}

#[test]
fn an_established_connection_outlives_its_service() {
    privileged("packets::an_established_connection_outlives_its_service", || {
        crate::packets::an_established_connection_outlives_its_service(open)
    });
}

#[test]
fn all_pods_are_chosen_and_a_bound_client_stays_with_one() {
    privileged("packets::all_pods_are_chosen_and_a_bound_client_stays_with_one", || {
        crate::packets::all_pods_are_chosen_and_a_bound_client_stays_with_one(open)
    });
}

#[test]
fn a_guarded_address_accepts_its_ranges_alone() {
    privileged("packets::a_guarded_address_accepts_its_ranges_alone", || {
        crate::packets::a_guarded_address_accepts_its_ranges_alone(open)
    });
}

#[test]
fn as_many_new_flows_are_counted_as_came() {
    privileged("packets::as_many_new_flows_are_counted_as_came", || {
        crate::packets::as_many_new_flows_are_counted_as_came(open)
    });
}

#[test]
fn a_bound_client_keeps_its_pod_when_another_engine_begins() {
    privileged("packets::a_bound_client_keeps_its_pod_when_another_engine_begins", || {
        crate::packets::a_bound_client_keeps_its_pod_when_another_engine_begins(open)
    });
}
