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
