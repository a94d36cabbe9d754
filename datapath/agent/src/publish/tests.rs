use super::*;
use crate::report::{Facts, report};
use crate::state::State;
use crate::uplinks::Dump;
use crate::watch::{Kind, Object, ObjectName, Seen};
use k8s_openapi::api::core::v1::Node;

fn state() -> State {
    let mut state = State::of_node("n1");
    let mut node = Node::default();
    node.metadata.name = Some("n1".into());
    node.metadata.uid = Some("u1".into());
    state.take(Seen::Put(ObjectName::of(&node), Object::Node(Box::new(node))));
    state
}

fn said(state: &State) -> Report {
    let facts = Facts {
        kernel: "6.1.0".into(),
        probes: Vec::new(),
        links: Ok(Dump::default()),
        health_checks: None,
        lingering: None,
    };
    report(state, &facts, &crate::program::Standing::NotYet).unwrap()
}

fn after(failures: u32, published: Option<Report>, wanted: &Report) -> Duration {
    let now = Instant::now();
    Past { published, at: Some(now), failures }.due(wanted, now) - now
}

#[test]
fn the_first_report_is_published_at_once() {
    let now = Instant::now();
    assert_eq!(Past::default().due(&said(&state()), now), now);
}

#[test]
fn what_is_new_rests_briefly_and_what_is_not_is_only_looked_at() {
    let mut state = state();
    let old = said(&state);
    assert_eq!(after(0, Some(old.clone()), &old), LOOK);
    state.take(Seen::Synced(Kind::Service));
    assert_eq!(after(0, Some(old), &said(&state)), REST);
}

#[test]
fn failures_wait_longer_each_time_up_to_a_limit() {
    let report = said(&state());
    let waits: Vec<u64> = (1..8).map(|failures| after(failures, None, &report).as_secs()).collect();
    assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60]);
}

#[test]
fn an_applied_status_carries_its_kind_and_nothing_of_the_spec() {
    let value = applied_status("n1", &NodeDatapathStatus::default());
    let keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["apiVersion", "kind", "metadata", "status"]);
    assert_eq!((&value["apiVersion"], &value["kind"]), (&json!("portreeve.io/v1alpha1"), &json!("NodeDatapath")));
}
