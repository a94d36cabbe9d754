use crate::evaluate::{Outcome, Phase};
use crate::policies::PolicySet;
use crate::testing::{Ask, annotated, cluster_policy, labelled, ready, service, strict, with_action};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use portreeve_crds::names::legacy::{EXTERNAL_TRAFFIC_ALPHA, EXTERNAL_TRAFFIC_BETA};
use portreeve_crds::{Action, RuleId};
use serde_json::{Value, json};

const LOCAL: &str = "{type: LoadBalancer, externalTrafficPolicy: Local}";
const INSIDE: &str = "{type: ClusterIP, externalTrafficPolicy: Local}";
const EXTERNAL_IPS: &str = "{type: ClusterIP, externalIPs: [203.0.113.1, 203.0.113.2]}";
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

fn told(outcome: &Outcome) -> Vec<(RuleId, Action)> {
    outcome.findings.iter().map(|finding| (finding.rule, finding.action)).collect()
}

fn mended(service: &Service, outcome: &Outcome) -> Service {
    let mut value = serde_json::to_value(service).unwrap();
    json_patch::patch(&mut value, &outcome.patch).unwrap();
    serde_json::from_value(value).unwrap()
}

/// The mutating phase under action Fix for one rule: the patch as JSON, and the Service after it.
fn fix(rule: RuleId, service: &Service) -> (Value, Service) {
    let outcome = Ask::create(&with_action(rule, "Fix"), Phase::Mutating, service).answer();
    (serde_json::to_value(&outcome.patch).unwrap(), mended(service, &outcome))
}

#[test]
fn each_finding_is_answered_in_one_admission_phase_only() {
    let set = with_action(RuleId::ETP001, "Fix");
    let service =
        annotated(INSIDE, &[(EXTERNAL_TRAFFIC_BETA, "OnlyLocal"), ("service.kubernetes.io/topology-mode", "Auto")]);
    let mutating = Ask::create(&set, Phase::Mutating, &service).answer();
    assert_eq!(told(&mutating), [(RuleId::ETP001, Action::Fix), (RuleId::ETP016, Action::Deny)]);
    let after = mended(&service, &mutating);
    let validating = Ask::create(&set, Phase::Validating, &after).answer();
    assert_eq!(told(&validating), [(RuleId::ETP015, Action::Warn)]);
    assert!(validating.patch.0.is_empty());
}

#[test]
fn a_scan_tells_everything_and_changes_nothing() {
    let set = with_action(RuleId::ETP016, "Fix");
    let service = annotated(INSIDE, &[(EXTERNAL_TRAFFIC_BETA, "OnlyLocal")]);
    let outcome = Ask::scan(&set, &service).answer();
    assert_eq!(told(&outcome), [(RuleId::ETP001, Action::Warn), (RuleId::ETP016, Action::Fix)]);
    assert!(outcome.patch.0.is_empty());
}

#[test]
fn fix_acts_as_warn_where_nothing_can_be_mended() {
    let set = with_action(RuleId::ETP004, "Fix");
    let nodeport = service("{type: NodePort, externalTrafficPolicy: Local}");
    assert!(Ask::create(&set, Phase::Mutating, &nodeport).answer().findings.is_empty());
    assert_eq!(told(&Ask::create(&set, Phase::Validating, &nodeport).answer()), [(RuleId::ETP004, Action::Warn)]);
    assert_eq!(told(&Ask::scan(&set, &nodeport).answer()), [(RuleId::ETP004, Action::Warn)]);
}

#[test]
fn fix_of_etp001_strips_annotations_with_escaped_pointers_where_that_is_safe() {
    let service = annotated(LOCAL, &[(EXTERNAL_TRAFFIC_BETA, "OnlyLocal"), ("keep", "me")]);
    let (patch, after) = fix(RuleId::ETP001, &service);
    let path = "/metadata/annotations/service.beta.kubernetes.io~1external-traffic";
    assert_eq!(patch, json!([{"op": "remove", "path": path}]));
    assert_eq!(after, annotated(LOCAL, &[("keep", "me")]));
}

#[test]
fn fix_of_etp001_never_hides_a_decision_that_a_person_has_to_take() {
    for value in ["OnlyLocal", "onlylocal"] {
        let waiting =
            annotated("{type: LoadBalancer, externalTrafficPolicy: Cluster}", &[(EXTERNAL_TRAFFIC_ALPHA, value)]);
        let set = with_action(RuleId::ETP001, "Fix");
        assert!(Ask::create(&set, Phase::Mutating, &waiting).answer().patch.0.is_empty());
        let said = told(&Ask::create(&set, Phase::Validating, &waiting).answer());
        assert!(said.contains(&(RuleId::ETP001, Action::Warn)), "{value}");
    }
}

#[test]
fn fix_of_etp003_sets_what_the_api_server_would_fill_in() {
    let service = service("{type: ClusterIP, externalIPs: [203.0.113.1], externalTrafficPolicy: Local}");
    let (patch, _) = fix(RuleId::ETP003, &service);
    assert_eq!(patch, json!([{"op": "replace", "path": "/spec/externalTrafficPolicy", "value": "Cluster"}]));
}

#[test]
fn fix_of_etp016_drops_the_field() {
    assert_eq!(fix(RuleId::ETP016, &service(INSIDE)).1, service("{type: ClusterIP}"));
}

#[test]
fn fix_of_etp015_renames_prefer_close_and_moves_source_ranges() {
    let before =
        annotated("{type: LoadBalancer, trafficDistribution: PreferClose}", &[(RANGES, "10.0.0.0/8, 198.51.100.0/24")]);
    let after = "{type: LoadBalancer, trafficDistribution: PreferSameZone, \
                  loadBalancerSourceRanges: [10.0.0.0/8, 198.51.100.0/24]}";
    assert_eq!(fix(RuleId::ETP015, &before).1, annotated(after, &[]));
}

#[test]
fn fix_of_etp015_removes_source_ranges_only_where_the_field_says_the_same() {
    let with = |field: &str| {
        annotated(
            &format!("{{type: LoadBalancer, loadBalancerSourceRanges: {field}}}"),
            &[(RANGES, "10.0.0.0/8,192.0.2.0/24")],
        )
    };
    let same = with("[192.0.2.0/24, 10.0.0.0/8]");
    assert_eq!(fix(RuleId::ETP015, &same).1.metadata.annotations, Some([].into()));
    for unmended in [
        with("[192.0.2.0/24]"),
        annotated("{type: LoadBalancer}", &[(RANGES, "10.0.0.0/8,anywhere")]),
        annotated("{type: LoadBalancer}", &[(RANGES, "")]),
        annotated("{type: NodePort}", &[(RANGES, "10.0.0.0/8")]),
    ] {
        assert_eq!(fix(RuleId::ETP015, &unmended).1, unmended);
    }
}

#[test]
fn an_update_is_not_denied_for_what_was_there_before() {
    let set = with_action(RuleId::ETP013, "Deny");
    let two = service(EXTERNAL_IPS);
    let one = service("{type: ClusterIP, externalIPs: [203.0.113.2]}");
    let other = service("{type: ClusterIP, externalIPs: [203.0.113.2, 203.0.113.3]}");
    let act = |old: &Service, new: &Service| {
        let outcome = Ask::update(&set, Phase::Validating, old, new).answer();
        let finding = outcome.findings.into_iter().find(|finding| finding.rule == RuleId::ETP013).unwrap();
        (finding.action, finding.ratcheted)
    };
    assert_eq!(act(&two, &two), (Action::Warn, true));
    assert_eq!(act(&two, &one), (Action::Warn, true), "fewer addresses are no offence");
    assert_eq!(act(&two, &other), (Action::Deny, false), "a new address is");
    assert_eq!(act(&service("{type: ClusterIP}"), &one), (Action::Deny, false));
}

#[test]
fn the_warning_of_a_lowered_deny_says_that_it_would_be_denied_if_it_were_new() {
    let set = with_action(RuleId::ETP013, "Deny");
    let service = service(EXTERNAL_IPS);
    let outcome = Ask::update(&set, Phase::Validating, &service, &service).answer();
    let warning = outcome.findings[0].warning();
    assert!(warning.starts_with("[ETP013 tp/strict] ") && warning.ends_with(" (denied if new)"), "{warning}");
}

#[test]
fn the_ratchet_looks_at_the_value_and_not_at_the_rule() {
    let set = with_action(RuleId::ETP001, "Deny");
    let with = |value: &str| annotated(LOCAL, &[(EXTERNAL_TRAFFIC_BETA, value)]);
    let act = |old: &Service, new: &Service| Ask::update(&set, Phase::Validating, old, new).answer().findings[0].action;
    assert_eq!(act(&with("OnlyLocal"), &with("OnlyLocal")), Action::Warn);
    assert_eq!(act(&with("OnlyLocal"), &with("somewhere")), Action::Deny);
}

#[test]
fn a_ratchet_never_raises_an_action() {
    let set = with_action(RuleId::ETP013, "Audit");
    let service = service(EXTERNAL_IPS);
    let outcome = Ask::update(&set, Phase::Validating, &service, &service).answer();
    assert_eq!(told(&outcome), [(RuleId::ETP013, Action::Audit)]);
    assert!(!outcome.findings[0].ratcheted);
}

#[test]
fn a_service_under_deletion_is_evaluated() {
    let mut service = service(EXTERNAL_IPS);
    service.metadata.deletion_timestamp = Some(Time("2026-01-01T00:00:00Z".parse().unwrap()));
    let old = self::service("{type: ClusterIP}");
    let outcome = Ask::update(&with_action(RuleId::ETP013, "Deny"), Phase::Validating, &old, &service).answer();
    assert_eq!(told(&outcome), [(RuleId::ETP013, Action::Deny)]);
}

#[test]
fn an_ignored_service_is_left_alone_but_for_overrides() {
    let service = labelled(service(EXTERNAL_IPS), &[("portreeve.io/ignore", "true")]);
    assert_eq!(Ask::scan(&with_action(RuleId::ETP013, "Deny"), &service).answer(), Outcome::default());
    let floor =
        cluster_policy("floor", "{enforcement: {mode: Enforce}, overrides: {rules: [{id: ETP013, action: Deny}]}}");
    let set = PolicySet::compile(&[floor], &[]).set;
    assert_eq!(told(&Ask::scan(&set, &service).answer()), [(RuleId::ETP013, Action::Deny)]);
}

#[test]
fn a_rule_that_is_off_finds_nothing() {
    assert!(Ask::scan(&with_action(RuleId::ETP013, "Off"), &service(EXTERNAL_IPS)).answer().findings.is_empty());
}

#[test]
fn a_broken_policy_denies_where_it_says_deny_and_is_named() {
    let bad = cluster_policy(
        "bad",
        "{match: {serviceSelector: {matchExpressions: [{key: app, operator: Is}]}}, enforcement: {mode: Enforce}, \
          defaults: {rules: [{id: ETP013, action: Deny}]}}",
    );
    let set = PolicySet::compile(&[bad], &[]).set;
    let outcome = Ask::create(&set, Phase::Validating, &service(EXTERNAL_IPS)).answer();
    assert_eq!(told(&outcome), [(RuleId::ETP013, Action::Deny)]);
    let message = outcome.findings[0].message();
    assert!(
        message.contains("ctp/bad cannot be read and is taken to match: match.serviceSelector is invalid"),
        "{message}"
    );
    assert_eq!(outcome.errors.len(), 1);
    let clean = Ask::create(&set, Phase::Validating, &service("{type: LoadBalancer}")).answer();
    assert!(clean.findings.is_empty(), "what the rule does not find is not denied");
    assert_eq!(clean.errors.len(), 1, "but it is told that the policy could not be read");
}

#[test]
fn findings_come_by_rule_and_field() {
    let service = annotated(
        "{type: NodePort, externalTrafficPolicy: Local, externalIPs: [203.0.113.1], loadBalancerIP: 192.0.2.1}",
        &[(EXTERNAL_TRAFFIC_BETA, "Global"), (EXTERNAL_TRAFFIC_ALPHA, "Global"), (RANGES, "10.0.0.0/8")],
    );
    let outcome =
        Ask::scan(&strict("imbalance: {maxRatioPermille: 1000}"), &service).with(&ready(&[("a", 1)])).answer();
    let order: Vec<_> = outcome.findings.iter().map(|finding| (finding.rule, finding.field.clone())).collect();
    let mut sorted = order.clone();
    sorted.sort();
    assert_eq!(order, sorted);
    assert!(order.len() >= 6);
}
