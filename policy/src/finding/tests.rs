use super::{Finding, WARNING_LIMIT};
use crate::evaluate::Phase;
use crate::policies::{PolicyKind, PolicyRef, PolicySet};
use crate::testing::{Ask, annotated, cluster_policy, ready, service};
use k8s_openapi::api::core::v1::Service;
use portreeve_crds::RuleId;
use portreeve_crds::names::legacy;

/// Services and endpoints on which every rule finds something, in every wording.
fn every_finding(noise: &str) -> Vec<Finding> {
    let policy = cluster_policy(
        "baseline",
        "{enforcement: {mode: Enforce}, overrides: {externalTrafficPolicy: {required: Local}, \
          imbalance: {maxRatioPermille: 1200}, rules: [{id: ETP005, action: Warn, params: {minNodes: 5000}}]}}",
    );
    let set = PolicySet::compile(&[policy], &[]).set;
    let legacy: Vec<(&str, &str)> = legacy::ALL.iter().map(|key| (*key, noise)).collect();
    let siblings = [
        ("service.beta.kubernetes.io/load-balancer-source-ranges", noise),
        ("service.kubernetes.io/topology-aware-hints", noise),
        ("service.kubernetes.io/topology-mode", noise),
    ];
    let mut deprecated =
        annotated("{type: LoadBalancer, externalTrafficPolicy: Cluster, trafficDistribution: PreferClose}", &siblings);
    let spec = deprecated.spec.as_mut().unwrap();
    spec.load_balancer_ip = Some(noise.to_owned());
    spec.external_ips = Some(vec![noise.to_owned(); 5]);
    let services: [Service; 7] = [
        annotated("{type: NodePort, externalTrafficPolicy: Local, selector: {app: web}}", &legacy),
        annotated("{type: NodePort, externalTrafficPolicy: Cluster}", &[(legacy::EXTERNAL_TRAFFIC_BETA, "OnlyLocal")]),
        service("{type: ClusterIP, externalIPs: [203.0.113.1], externalTrafficPolicy: Local}"),
        deprecated,
        service("{type: ClusterIP, externalTrafficPolicy: Local}"),
        service("{type: ClusterIP, clusterIP: None, externalTrafficPolicy: Local}"),
        service("{type: ExternalName, externalTrafficPolicy: Cluster}"),
    ];
    let balancer = service("{type: LoadBalancer, externalTrafficPolicy: Local}");
    let none = ready(&[]);
    let uneven = ready(&[("a", 1), ("b", 4000)]);
    let mut ending = ready(&[]);
    ending.serving_terminating_by_node.insert("a".to_owned(), 1);
    let mut found = Vec::new();
    for service in &services {
        for endpoints in [&none, &uneven, &ending] {
            found.extend(Ask::scan(&set, service).with(endpoints).answer().findings);
        }
        found.extend(Ask::update(&set, Phase::Mutating, &balancer, service).answer().findings);
    }
    for rule in ["ETP001", "ETP003", "ETP015", "ETP016"] {
        let fix = cluster_policy(
            "fix",
            &format!("{{enforcement: {{mode: Enforce}}, overrides: {{rules: [{{id: {rule}, action: Fix}}]}}}}"),
        );
        let set = PolicySet::compile(&[fix], &[]).set;
        let safe = [
            annotated("{type: ClusterIP}", &[(legacy::EXTERNAL_TRAFFIC_BETA, "Global")]),
            annotated(
                "{type: LoadBalancer}",
                &[("service.beta.kubernetes.io/load-balancer-source-ranges", "10.0.0.0/8")],
            ),
        ];
        for service in services.iter().chain(&safe) {
            found.extend(Ask::create(&set, Phase::Mutating, service).answer().findings);
        }
    }
    let seen: std::collections::BTreeSet<RuleId> = found.iter().map(|finding| finding.rule).collect();
    assert_eq!(seen.len(), RuleId::ALL.len());
    found
}

#[test]
fn messages_read_as_they_should() {
    let mut texts: Vec<String> = every_finding("OnlyLocal").iter().map(Finding::message).collect();
    texts.sort();
    texts.dedup();
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn warnings_read_as_they_should() {
    let mut texts: Vec<String> = every_finding("OnlyLocal").iter().map(Finding::warning).collect();
    texts.sort();
    texts.dedup();
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn texts_keep_their_limits_whatever_names_and_values_come_in() {
    let hostile = format!("\u{1b}[31m\n\r\u{202e}{}", "ä".repeat(5000));
    for mut finding in every_finding(&hostile) {
        finding.ratcheted = false;
        let name = hostile.clone();
        finding.policy = Some(PolicyRef { kind: PolicyKind::Namespaced, namespace: Some("shop".to_owned()), name });
        let (message, warning) = (finding.message(), finding.warning());
        assert!(warning.chars().count() <= WARNING_LIMIT, "{warning}");
        assert!(warning.ends_with(&finding.brief), "the fix is never cut: {warning}");
        finding.ratcheted = true;
        let lowered = finding.warning();
        assert!(lowered.chars().count() <= WARNING_LIMIT, "{lowered}");
        assert!(lowered.ends_with(&format!("{} (denied if new)", finding.brief)), "{lowered}");
        assert!(finding.brief.chars().count() <= 88, "{}", finding.brief);
        assert!(message.chars().count() <= 1024, "{message}");
        assert!(!format!("{message}{warning}").chars().any(|c| c.is_control() || c == '\u{202e}'));
    }
}

#[test]
fn the_names_of_policies_give_way_in_warnings_only_as_far_as_needed() {
    let set = PolicySet::empty();
    let service = service("{type: ClusterIP, externalTrafficPolicy: Local}");
    let mut finding = Ask::scan(&set, &service).answer().findings.remove(0);
    assert!(finding.warning().starts_with("[ETP016 built-in] "));
    finding.policy = Some(PolicyRef { kind: PolicyKind::Cluster, namespace: None, name: "baseline".to_owned() });
    assert!(finding.warning().starts_with("[ETP016 ctp/baseline] "));
    finding.policy = Some(PolicyRef { kind: PolicyKind::Cluster, namespace: None, name: "n".repeat(253) });
    assert_eq!(finding.warning().chars().count(), WARNING_LIMIT);
}

#[test]
fn the_message_of_etp016_is_the_one_of_the_design() {
    let service = service("{type: ClusterIP, externalTrafficPolicy: Local}");
    let policy =
        cluster_policy("baseline", "{enforcement: {mode: Enforce}, defaults: {rules: [{id: ETP016, action: Deny}]}}");
    let set = PolicySet::compile(&[policy], &[]).set;
    assert_eq!(
        Ask::create(&set, Phase::Mutating, &service).answer().findings[0].message(),
        "[ETP016 policy=ctp/baseline] externalTrafficPolicy may be set only on NodePort and LoadBalancer Services; this one \
         is ClusterIP. Fix: remove spec.externalTrafficPolicy, or set spec.type to LoadBalancer. See: kubectl portreeve \
         explain ETP016"
    );
}
