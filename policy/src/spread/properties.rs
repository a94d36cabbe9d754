//! What holds for every Pod.

use super::tests::{Ask, named, pod};
use super::{Injection, MAX_TERMS, SkipReason};
use crate::facts::ClusterFacts;
use k8s_openapi::api::core::v1::Pod;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::select;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn selector() -> impl Strategy<Value = Value> {
    btree_map(select(vec!["app", "tier"]), select(vec!["web", "front"]), 0..3)
        .prop_map(|labels| json!({"matchLabels": labels}))
}

fn key() -> impl Strategy<Value = &'static str> {
    select(vec!["kubernetes.io/hostname", "topology.kubernetes.io/zone"])
}

fn anti_affinity() -> impl Strategy<Value = Value> {
    let term =
        || (key(), selector()).prop_map(|(key, selector)| json!({"topologyKey": key, "labelSelector": selector}));
    let preferred = vec(term().prop_map(|term| json!({"weight": 1, "podAffinityTerm": term})), 0..3);
    (option::of(preferred), option::of(vec(term(), 0..2))).prop_map(|(preferred, required)| {
        json!({
            "preferredDuringSchedulingIgnoredDuringExecution": preferred,
            "requiredDuringSchedulingIgnoredDuringExecution": required,
        })
    })
}

fn arriving() -> impl Strategy<Value = Pod> {
    let constraint = (key(), selector(), select(vec!["ScheduleAnyway", "DoNotSchedule"])).prop_map(|(key, selector, when)| {
        json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": when, "labelSelector": selector})
    });
    let affinity = option::of(anti_affinity()).prop_map(|anti| json!({"podAntiAffinity": anti}));
    let affinity = prop_oneof![Just(Value::Null), affinity];
    (affinity, option::of(vec(constraint, 0..2)), any::<bool>()).prop_map(|(affinity, constraints, annotated)| {
        let spec = json!({"containers": [], "affinity": affinity, "topologySpreadConstraints": constraints});
        let mut pod = pod(&spec.to_string());
        pod.metadata.annotations = annotated.then(|| crate::testing::map(&[("example.org/note", "mine")]));
        pod
    })
}

fn question() -> impl Strategy<Value = Ask> {
    let selector = select(vec!["{app: web}", "{tier: front}", "{app: web, tier: front}", "{app: api}"]);
    let service = (selector, select(vec!["Local", "Local", "Cluster"])).prop_map(|(selector, policy)| {
        format!("{{type: LoadBalancer, externalTrafficPolicy: {policy}, selector: {selector}}}")
    });
    let services = btree_map("[a-e]", service, 0..5);
    (arriving(), services, select(vec![3, 301]), 0_u32..3, select(vec!["web-5b8c7d9f", "api-5b8c7d9f"])).prop_map(
        |(pod, services, nodes, zones, backing)| {
            let services: Vec<_> = services.iter().map(|(name, spec)| named(name, spec)).collect();
            let mut ask = Ask { services, cluster: ClusterFacts { nodes, zones }, ..Ask::about(pod) };
            let stems = BTreeSet::from([backing.to_owned()]);
            ask.facts.stems = ask
                .services
                .iter()
                .filter_map(|service| Some((service.metadata.name.clone()?, stems.clone())))
                .collect();
            ask
        },
    )
}

/// Whether `after` is `before` with members and elements added, and nothing else.
fn only_adds(before: &Value, after: &Value) -> bool {
    match (before, after) {
        (Value::Null, _) => true,
        (Value::Object(before), Value::Object(after)) => {
            before.iter().all(|(name, value)| after.get(name).is_some_and(|after| only_adds(value, after)))
        }
        (Value::Array(before), Value::Array(after)) => after.starts_with(before),
        _ => before == after,
    }
}

fn length(pod: &Value, path: &str) -> usize {
    pod.pointer(path).and_then(Value::as_array).map_or(0, Vec::len)
}

const PREFERRED: &str = "/spec/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution";
const CONSTRAINTS: &str = "/spec/topologySpreadConstraints";

fn seeded() -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(14), failure_persistence: None, cases: 512, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn an_injected_pod_is_left_alone_the_second_time(mut ask in question()) {
        if let Injection::Patch { .. } = ask.answer() {
            ask.pod = serde_json::from_value(ask.patched()).unwrap();
            prop_assert_eq!(ask.skipped(), Some(SkipReason::AlreadySpreads));
        }
    }

    #[test]
    fn a_patch_only_adds_and_at_most_two_terms(ask in question()) {
        if let Injection::Patch { services, .. } = ask.answer() {
            let (before, after) = (serde_json::to_value(&ask.pod).unwrap(), ask.patched());
            prop_assert!(only_adds(&before, &after));
            prop_assert!((1..=MAX_TERMS).contains(&services.len()));
            let added = |path| length(&after, path) - length(&before, path);
            prop_assert!((1..=MAX_TERMS).contains(&(added(PREFERRED) + added(CONSTRAINTS))));
        }
    }

    #[test]
    fn no_two_constraints_share_key_and_rule_unless_the_user_wrote_them(ask in question()) {
        let pairs = |pod: &Value| {
            let constraints = pod.pointer(CONSTRAINTS).and_then(Value::as_array).cloned().unwrap_or_default();
            let mut pairs: Vec<String> = constraints
                .iter()
                .map(|one| format!("{} {}", one["topologyKey"], one["whenUnsatisfiable"]))
                .collect();
            let all = pairs.len();
            pairs.sort();
            pairs.dedup();
            all - pairs.len()
        };
        if let Injection::Patch { .. } = ask.answer() {
            prop_assert_eq!(pairs(&ask.patched()), pairs(&serde_json::to_value(&ask.pod).unwrap()));
        }
    }

    #[test]
    fn the_order_of_services_changes_nothing(mut ask in question()) {
        let answer = ask.answer();
        ask.services.reverse();
        prop_assert_eq!(ask.answer(), answer);
    }
}
