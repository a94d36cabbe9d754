use super::{default_action, rule_docs};
use crate::evaluate::{Operation, Phase, Review, evaluate};
use crate::facts::{ClusterFacts, EndpointFacts, NamespaceFacts};
use crate::policies::PolicySet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use portreeve_crds::{Action, RuleId, TrafficPolicy};
use serde::Deserialize as _;
use serde_yaml::Value;

/// The fields that the rule finds in an example, under action Warn or what the example's own policy says.
fn found(rule: RuleId, yaml: &str) -> Vec<String> {
    let (mut services, mut slices, mut policies) =
        (Vec::new(), Vec::<EndpointSlice>::new(), Vec::<TrafficPolicy>::new());
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let value = Value::deserialize(document).unwrap();
        match value["kind"].as_str().unwrap() {
            "Service" => services.push(serde_yaml::from_value::<Service>(value).unwrap()),
            "EndpointSlice" => slices.push(serde_yaml::from_value(value).unwrap()),
            "TrafficPolicy" => policies.push(serde_yaml::from_value(value).unwrap()),
            other => panic!("an example holds a {other}"),
        }
    }
    let [service] = services.as_slice() else { panic!("an example holds exactly one Service") };
    let endpoints = EndpointFacts::from_slices(&slices);
    let review = Review {
        operation: Operation::Update,
        phase: Phase::Scan,
        namespace: &NamespaceFacts { name: "shop".to_owned(), ..NamespaceFacts::default() },
        service,
        old: None,
        endpoints: (!slices.is_empty()).then_some(&endpoints),
        cluster: ClusterFacts { nodes: 3, zones: 1 },
    };
    let compiled = PolicySet::compile(&[], &policies);
    assert!(compiled.problems.is_empty());
    let findings = evaluate(&compiled.set, &review).findings.into_iter();
    findings.filter(|finding| finding.rule == rule).map(|finding| finding.field).collect()
}

#[test]
fn the_bad_example_of_each_rule_yields_the_rule_and_the_good_one_does_not() {
    for rule in RuleId::ALL {
        let example = rule_docs(rule).example;
        assert!(!found(rule, example.bad).is_empty(), "{rule}: bad example");
        assert_eq!(found(rule, example.good), [""; 0], "{rule}: good example");
    }
}

#[test]
fn every_rule_is_told_under_its_own_id_and_in_full() {
    for rule in RuleId::ALL {
        let doc = rule_docs(rule);
        assert_eq!(doc.id, rule);
        assert!([doc.finds, doc.why, doc.fix].into_iter().all(|text| text.ends_with('.')), "{rule}");
        assert!(!doc.title.ends_with('.') && doc.title.len() <= 80, "{rule}");
        assert!(!doc.sources.is_empty() && doc.sources.iter().all(|source| source.starts_with("https://")), "{rule}");
    }
}

#[test]
fn the_built_in_actions_are_those_of_the_design() {
    let others = RuleId::ALL.into_iter().filter(|rule| !matches!(rule, RuleId::ETP006 | RuleId::ETP016));
    assert!(others.map(default_action).all(|action| action == Action::Warn));
    assert_eq!(default_action(RuleId::ETP006), Action::Audit);
    assert_eq!(default_action(RuleId::ETP016), Action::Deny);
}
