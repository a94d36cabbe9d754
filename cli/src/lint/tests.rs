use super::*;
use crate::source::parse;
use portreeve_crds::{Action, RuleId};

fn findings(yaml: &str) -> Vec<(RuleId, Action, usize)> {
    let judgement = judge(&parse("a.yaml", yaml).unwrap(), None).unwrap();
    assert_eq!(judgement.problems, Vec::<String>::new());
    judgement.judged.iter().map(|one| (one.finding.rule, one.finding.action, one.place.unwrap().line)).collect()
}

const CLUSTER_IP: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  type: ClusterIP\n  externalTrafficPolicy: Local\n  ports: [{port: 80}]\n";

#[test]
fn the_field_on_a_clusterip_service_is_denied_at_its_line() {
    assert_eq!(findings(CLUSTER_IP), [(RuleId::ETP016, Action::Deny, 6)]);
}

#[test]
fn a_service_without_the_field_is_clean_although_the_api_server_adds_it() {
    let yaml =
        "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  type: LoadBalancer\n  ports: [{port: 80}]\n";
    assert_eq!(findings(yaml), []);
}

#[test]
fn a_policy_in_the_same_input_decides() {
    let policy = "apiVersion: portreeve.io/v1alpha1\nkind: ClusterTrafficPolicy\nmetadata: {name: quiet}\nspec:\n  enforcement: {mode: Audit}\n  defaults:\n    rules: [{id: ETP016, action: Deny}]\n---\n";
    assert_eq!(findings(&format!("{policy}{CLUSTER_IP}")), [(RuleId::ETP016, Action::Audit, 14)]);
}

#[test]
fn a_namespace_in_the_same_input_can_be_selected_by_its_name() {
    let policy = "apiVersion: portreeve.io/v1alpha1\nkind: ClusterTrafficPolicy\nmetadata: {name: edge}\nspec:\n  match: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shop}}}\n  enforcement: {mode: Enforce}\n  defaults:\n    rules: [{id: ETP013, action: Deny}]\n---\n";
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\nspec: {externalIPs: [192.0.2.1], ports: [{port: 80}]}\n---\n";
    for metadata in ["{name: shop}", "{name: shop, labels: {kubernetes.io/metadata.name: other, team: blue}}"] {
        let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {metadata}\n---\n");
        for yaml in [format!("{policy}{service}"), format!("{policy}{service}{namespace}")] {
            let found: Vec<_> = findings(&yaml).into_iter().map(|(rule, action, _)| (rule, action)).collect();
            assert_eq!(found, [(RuleId::ETP013, Action::Deny)], "{yaml}");
        }
    }
}

#[test]
fn the_bad_example_of_each_rule_finds_it_and_the_good_one_is_clean() {
    for rule in RuleId::ALL {
        let example = portreeve_policy::rule_docs(rule).example;
        let found = findings(example.bad);
        assert!(found.iter().any(|(found, _, _)| *found == rule), "{rule}: {found:?}");
        assert_eq!(findings(example.good), [], "{rule}: the good example");
    }
}

#[test]
fn endpoints_are_those_of_the_same_namespace_and_service_and_unknown_without_a_slice() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: shop}\nspec: {type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: a}, ports: [{port: 80}]}\n---\n";
    let slice = |namespace: &str, labels: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: s, namespace: {namespace}, labels: {labels}}}\naddressType: IPv4\nendpoints: []\n"
        )
    };
    let found = |slice: &str| findings(&format!("{service}{slice}")).first().map(|(rule, _, _)| *rule);
    assert_eq!(found(&slice("shop", "{kubernetes.io/service-name: a}")), Some(RuleId::ETP005));
    for other in ["", &slice("shop", "{kubernetes.io/service-name: b}"), &slice("shop", "{}")] {
        assert_eq!(found(other), None, "{other}");
    }
    assert_eq!(found(&slice("other", "{kubernetes.io/service-name: a}")), None);
}

#[test]
fn a_service_of_the_wrong_shape_is_named_with_its_place() {
    let yaml = "apiVersion: v1\nkind: Service\nmetadata: {name: broken}\nspec:\n  ports: 80\n";
    let error = judge(&parse("a.yaml", yaml).unwrap(), None).unwrap_err();
    assert!(error.starts_with("a.yaml:1: Service 'broken'"), "{error}");
}

#[test]
fn the_json_has_the_promised_shape() {
    let judgement = judge(&parse("a.yaml", CLUSTER_IP).unwrap(), None).unwrap();
    insta::assert_json_snapshot!(report::json(&judgement.judged));
}
