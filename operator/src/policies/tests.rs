use super::build::{Prepared, build};
use super::dereference::dereference;
use super::tally::Summaries;
use super::validate::validate;
use crate::index::tests::{mk_index, mk_policy, web};
use crate::index::{Delta, Event, Index};
use portreeve_crds::ClusterTrafficPolicy;
use portreeve_crds::condition::is_true;
use portreeve_policy::policies::{PolicyKind, PolicyRef};
use serde_json::json;

fn policy(name: &str) -> PolicyRef {
    PolicyRef { kind: PolicyKind::Cluster, namespace: None, name: name.to_owned() }
}

fn status_of(index: &mut Index, name: &str) -> Option<Prepared> {
    let found = crate::service_traffic::dereference::dereference(index, web());
    let summary = found.live.map(|live| live.assessed.summary);
    let mut summaries = Summaries::default();
    summaries.set(&web(), summary);
    let tallies = summaries.by_policy();
    build(validate(dereference(index, &tallies, policy(name)))?, jiff::Timestamp::UNIX_EPOCH)
}

#[test]
fn a_policy_counts_the_services_it_matches_and_the_violations_it_decided() {
    let mut index = mk_index();
    let rules = json!({"rules": [{"id": "ETP004", "action": "Deny"}]});
    index.apply(Event::ClusterPolicy(Delta::Applied(mk_policy("base", 1, rules))));
    let status = status_of(&mut index, "base").unwrap().status;
    assert_eq!((status.services, status.violations), (Some(1), Some(1)));
    assert!(["Accepted", "Programmed", "Ready"].iter().all(|type_| is_true(&status.conditions, type_)));
}

#[test]
fn a_policy_that_another_outranks_names_it() {
    let mut index = mk_index();
    let rules = json!({"rules": [{"id": "ETP004", "action": "Deny"}]});
    index.apply(Event::ClusterPolicy(Delta::Applied(mk_policy("low", 1, rules.clone()))));
    let mut high = mk_policy("zz-high", 1, rules);
    high.spec.priority = Some(7);
    index.apply(Event::ClusterPolicy(Delta::Applied(high)));
    let status = status_of(&mut index, "low").unwrap().status;
    assert_eq!(status.overridden_by, Some(vec!["ctp/zz-high".to_owned()]));
    assert_eq!(status.violations, Some(0));
    assert_eq!(status_of(&mut index, "zz-high").unwrap().status.overridden_by, Some(vec![]));
}

#[test]
fn a_policy_with_a_broken_selector_is_invalid_and_stalled() {
    let mut index = mk_index();
    let broken: ClusterTrafficPolicy = crate::index::tests::object(json!({
        "metadata": {"name": "broken", "uid": "u", "resourceVersion": "1", "generation": 3},
        "spec": {"enforcement": {"mode": "Enforce"}, "defaults": {"rules": [{"id": "ETP004", "action": "Deny"}]},
            "match": {"serviceSelector": {"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]}}},
    }));
    index.apply(Event::ClusterPolicy(Delta::Applied(broken)));
    let status = status_of(&mut index, "broken").unwrap().status;
    assert!(is_true(&status.conditions, "Stalled") && !is_true(&status.conditions, "Accepted"));
    assert_eq!(status.observed_generation, Some(3));
}

#[test]
fn a_status_that_says_it_all_is_not_written_again() {
    let mut index = mk_index();
    let mut base = mk_policy("base", 1, json!({"rules": [{"id": "ETP004", "action": "Warn"}]}));
    index.apply(Event::ClusterPolicy(Delta::Applied(base.clone())));
    base.status = Some(status_of(&mut index, "base").unwrap().status);
    base.metadata.resource_version = Some("2".to_owned());
    index.apply(Event::ClusterPolicy(Delta::Applied(base)));
    assert!(status_of(&mut index, "base").is_none());
}
