//! Services and policies out of small, hostile worlds: few names, so that they meet; every type, value and mistake.

use k8s_openapi::api::core::v1::Service;
use portreeve_crds::{ClusterTrafficPolicy, TrafficPolicy};
use portreeve_policy::{ClusterFacts, EndpointFacts, NamespaceFacts, Operation, Outcome, Phase, PolicySet, Review};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The same cases on every run and every machine.
pub(crate) fn seeded() -> ProptestConfig {
    ProptestConfig {
        cases: 512,
        rng_seed: RngSeed::Fixed(0x0e7b),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("invariant: generators write valid objects")
}

pub(crate) fn shop() -> NamespaceFacts {
    NamespaceFacts { name: "shop".to_owned(), labels: BTreeMap::from([("team".to_owned(), "blue".to_owned())]) }
}

fn annotations() -> impl Strategy<Value = BTreeMap<String, String>> {
    let words =
        select(vec!["OnlyLocal", "Global", "onlylocal", "", "31000", "Auto", "10.0.0.0/8", "10.0.0.0/8, 192.0.2.0/24"]);
    let keys = select(vec![
        "service.beta.kubernetes.io/external-traffic",
        "service.alpha.kubernetes.io/external-traffic",
        "service.beta.kubernetes.io/healthcheck-nodeport",
        "service.beta.kubernetes.io/load-balancer-source-ranges",
        "service.kubernetes.io/topology-mode",
        "example.com/other~/key",
    ]);
    prop::collection::btree_map(keys.prop_map(str::to_owned), words.prop_map(str::to_owned), 0..4)
}

/// A Service `shop/web`, such as a user may send it.
pub(crate) fn service() -> impl Strategy<Value = Service> {
    let kinds = select(vec![None, Some("ClusterIP"), Some("NodePort"), Some("LoadBalancer"), Some("ExternalName")]);
    let policies = select(vec![None, Some("Local"), Some("Cluster")]);
    let addresses = subsequence(vec!["203.0.113.1", "203.0.113.2", "203.0.113.3"], 0..=2);
    let distribution = select(vec![None, Some("PreferClose"), Some("PreferClose"), Some("PreferSameZone")]);
    let ranges = select(vec![None, Some(vec!["10.0.0.0/8"]), Some(vec!["192.0.2.0/24", "10.0.0.0/8"])]);
    let rest =
        (annotations(), select(vec!["web", "db"]), select(vec!["false", "false", "false", "true"]), any::<bool>());
    (kinds, policies, addresses, distribution, ranges, rest).prop_map(
        |(kind, policy, addresses, distribution, ranges, (annotations, app, ignore, headless))| {
            parse(json!({
                "metadata": {
                    "name": "web", "namespace": "shop", "annotations": annotations,
                    "labels": {"app": app, "portreeve.io/ignore": ignore},
                },
                "spec": {
                    "type": kind, "externalTrafficPolicy": policy, "externalIPs": addresses, "selector": {"app": app},
                    "trafficDistribution": distribution, "loadBalancerSourceRanges": ranges,
                    "clusterIP": headless.then_some("None"),
                },
            }))
        },
    )
}

/// Label selectors; about one in six is none that Kubernetes knows.
fn selector() -> impl Strategy<Value = Value> {
    select(vec![
        Value::Null,
        json!({}),
        json!({"matchLabels": {"app": "web"}}),
        json!({"matchExpressions": [{"key": "team", "operator": "NotIn", "values": ["red"]}]}),
        json!({"matchExpressions": [{"key": "app", "operator": "Exists"}]}),
        json!({"matchExpressions": [{"key": "app", "operator": "exists"}]}),
    ])
}

fn body() -> impl Strategy<Value = Value> {
    let rule = (
        select(vec!["ETP001", "ETP003", "ETP005", "ETP006", "ETP008", "ETP013", "ETP015", "ETP016"]),
        select(vec!["Off", "Audit", "Warn", "Fix", "Fix", "Fix", "Deny", "Deny"]),
        select(vec![None, Some(1), Some(2), Some(3)]),
    );
    let rules = prop::collection::vec(rule, 0..5).prop_map(|rules| {
        let by_id: BTreeMap<_, _> = rules.into_iter().map(|(id, action, nodes)| (id, (action, nodes))).collect();
        let rules = by_id.into_iter().map(|(id, (action, nodes))| match nodes.filter(|_| id == "ETP005") {
            Some(nodes) => json!({"id": id, "action": action, "params": {"minNodes": nodes}}),
            None => json!({"id": id, "action": action}),
        });
        rules.collect::<Vec<_>>()
    });
    let required = select(vec![Value::Null, json!({"required": "Local"}), json!({"required": "Any"})]);
    let limit = select(vec![Value::Null, json!({"maxRatioPermille": 1000}), json!({"maxRatioPermille": 1500})]);
    let spread = select(vec![Value::Null, json!({"mode": "Off"}), json!({"mode": "Inject", "weight": 7})]);
    let path = select(vec![Value::Null, json!({"mode": "Balance"}), json!({"mode": "Local", "onNoLocal": "Forward"})]);
    (rules, required, limit, spread, path).prop_map(|(rules, required, limit, spread, path)| {
        json!({
            "rules": rules, "externalTrafficPolicy": required, "imbalance": limit, "spread": spread, "dataPath": path,
        })
    })
}

/// Mode, priority and creation time.
fn head() -> impl Strategy<Value = (&'static str, i32, Option<&'static str>)> {
    let times = select(vec![None, Some("2026-01-01T00:00:00Z"), Some("2026-02-01T00:00:00Z")]);
    (select(vec!["Audit", "Warn", "Enforce", "Enforce", "Enforce"]), 0..3, times)
}

/// Cluster policies of different names, all under `defaults`, all under `overrides`, or mixed.
pub(crate) fn cluster_policies(levels: &'static [&'static str]) -> impl Strategy<Value = Vec<ClusterTrafficPolicy>> {
    let one = (select(levels), body(), head(), selector(), selector());
    prop::collection::vec(one, 0..4).prop_map(|policies| {
        let policies = policies.into_iter().enumerate();
        policies
            .map(|(i, (level, body, (mode, priority, created), namespaces, services))| {
                parse(json!({
                    "apiVersion": "portreeve.io/v1alpha1", "kind": "ClusterTrafficPolicy",
                    "metadata": {"name": format!("c{i}"), "creationTimestamp": created},
                    "spec": {
                        "match": {"namespaceSelector": namespaces, "serviceSelector": services},
                        "priority": priority, "enforcement": {"mode": mode}, level: body,
                    },
                }))
            })
            .collect()
    })
}

/// Policies of different names in one namespace.
pub(crate) fn policies_of(namespace: &'static str) -> impl Strategy<Value = Vec<TrafficPolicy>> {
    prop::collection::vec((body(), head(), selector()), 0..4).prop_map(move |policies| {
        let policies = policies.into_iter().enumerate();
        policies
            .map(|(i, (mut spec, (mode, priority, created), services))| {
                spec["match"] = json!({"serviceSelector": services});
                spec["priority"] = json!(priority);
                spec["enforcement"] = json!({"mode": mode});
                parse(json!({
                    "apiVersion": "portreeve.io/v1alpha1", "kind": "TrafficPolicy",
                    "metadata": {"name": format!("n{i}"), "namespace": namespace, "creationTimestamp": created},
                    "spec": spec,
                }))
            })
            .collect()
    })
}

/// Any mixture of both kinds, for namespace `shop`.
pub(crate) fn policy_set() -> impl Strategy<Value = PolicySet> {
    let cluster = cluster_policies(&["defaults", "overrides"]);
    (cluster, policies_of("shop")).prop_map(|(cluster, own)| PolicySet::compile(&cluster, &own).set)
}

/// Ready Pods on up to three nodes.
pub(crate) fn endpoints() -> impl Strategy<Value = EndpointFacts> {
    let nodes = select(vec!["", "a", "b", "c"]).prop_map(str::to_owned);
    prop::collection::btree_map(nodes, 0_u32..4, 0..4)
        .prop_map(|ready_by_node| EndpointFacts { ready_by_node, ..EndpointFacts::default() })
}

pub(crate) fn ask(
    set: &PolicySet,
    phase: Phase,
    old: Option<&Service>,
    service: &Service,
    facts: &EndpointFacts,
) -> Outcome {
    let operation = if old.is_some() { Operation::Update } else { Operation::Create };
    let (namespace, cluster) = (shop(), ClusterFacts { nodes: 3, zones: 1 });
    portreeve_policy::evaluate(
        set,
        &Review { operation, phase, namespace: &namespace, service, old, endpoints: Some(facts), cluster },
    )
}
