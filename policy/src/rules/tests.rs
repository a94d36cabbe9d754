use crate::evaluate::Phase;
use crate::policies::PolicySet;
use crate::testing::{Ask, annotated, ready, service, strict, with_action};
use k8s_openapi::api::core::v1::Service;
use portreeve_crds::RuleId;
use portreeve_crds::names::legacy;

const ETP: &str = "spec.externalTrafficPolicy";

fn scan(service: &Service, rule: RuleId) -> Vec<String> {
    Ask::scan(&PolicySet::empty(), service).fields_of(rule)
}

/// Each spec with the fields that the rule finds in it.
fn table(rule: RuleId, cases: &[(&str, &[&str])]) {
    for (spec, fields) in cases {
        assert_eq!(scan(&service(spec), rule), *fields, "{rule} on {spec}");
    }
}

#[test]
fn etp001_finds_each_of_the_four_annotations_and_no_other() {
    for key in legacy::ALL {
        let found = scan(&annotated("{type: NodePort}", &[(key, "Global"), ("other", "x")]), RuleId::ETP001);
        assert_eq!(found, [format!("metadata.annotations[{key}]")]);
    }
    let all: Vec<(&str, &str)> = legacy::ALL.iter().map(|key| (*key, "31000")).collect();
    assert_eq!(scan(&annotated("{type: ClusterIP}", &all), RuleId::ETP001).len(), 4);
    assert!(scan(&annotated("{type: NodePort}", &[("other", "x")]), RuleId::ETP001).is_empty());
}

#[test]
fn etp002_finds_an_annotation_that_contradicts_the_field() {
    let (beta, alpha) = (legacy::EXTERNAL_TRAFFIC_BETA, legacy::EXTERNAL_TRAFFIC_ALPHA);
    let (local, cluster) =
        ("{type: LoadBalancer, externalTrafficPolicy: Local}", "{type: NodePort, externalTrafficPolicy: Cluster}");
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Option<&'a str>);
    let cases: [Case<'_>; 9] = [
        (cluster, &[(beta, "OnlyLocal")], Some(beta)),
        (cluster, &[(alpha, "OnlyLocal")], Some(alpha)),
        (local, &[(beta, "Global")], Some(beta)),
        (local, &[(beta, "OnlyLocal")], None),
        (cluster, &[(beta, "Global")], None),
        // Beta counts: it agrees with the field, whatever alpha says.
        (cluster, &[(beta, "Global"), (alpha, "OnlyLocal")], None),
        (cluster, &[(beta, "onlylocal")], None),
        ("{type: ClusterIP}", &[(beta, "OnlyLocal")], None),
        (
            "{type: ClusterIP, externalIPs: [203.0.113.1], externalTrafficPolicy: Cluster}",
            &[(beta, "OnlyLocal")],
            Some(beta),
        ),
    ];
    for (spec, annotations, key) in cases {
        let expected: Vec<String> = key.map(|key| format!("metadata.annotations[{key}]")).into_iter().collect();
        assert_eq!(scan(&annotated(spec, annotations), RuleId::ETP002), expected, "{spec} {annotations:?}");
    }
}

#[test]
fn etp003_finds_local_but_not_the_default_on_a_clusterip_with_external_ips() {
    table(
        RuleId::ETP003,
        &[
            ("{type: ClusterIP, externalIPs: [203.0.113.1], externalTrafficPolicy: Local}", &[ETP]),
            ("{type: ClusterIP, externalIPs: [203.0.113.1], externalTrafficPolicy: Cluster}", &[]),
            ("{type: ClusterIP, externalTrafficPolicy: Local}", &[]),
            ("{type: LoadBalancer, externalIPs: [203.0.113.1], externalTrafficPolicy: Local}", &[]),
        ],
    );
}

#[test]
fn etp004_finds_local_on_a_nodeport() {
    table(
        RuleId::ETP004,
        &[
            ("{type: NodePort, externalTrafficPolicy: Local}", &[ETP]),
            ("{type: NodePort, externalTrafficPolicy: Cluster}", &[]),
            ("{type: LoadBalancer, externalTrafficPolicy: Local}", &[]),
        ],
    );
}

#[test]
fn no_wish_for_a_data_path_silences_a_rule_or_is_recommended_by_one() {
    let nodeport = service("{type: NodePort, externalTrafficPolicy: Local, selector: {app: web}}");
    let uneven = ready(&[("a", 1), ("b", 2)]);
    for mode in ["Off", "Observe", "Local", "Balance"] {
        let body = format!("imbalance: {{maxRatioPermille: 1200}}, dataPath: {{mode: {mode}, onNoLocal: Forward}}");
        let findings = Ask::scan(&strict(&body), &nodeport).with(&uneven).answer().findings;
        let rules: Vec<RuleId> = findings.iter().map(|finding| finding.rule).collect();
        assert_eq!(rules, [RuleId::ETP004, RuleId::ETP008], "{mode}");
        for finding in findings {
            assert!(!finding.message().contains("dataPath"), "{}", finding.message());
        }
    }
}

#[test]
fn etp005_finds_local_without_enough_nodes() {
    let local = service("{type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: web}}");
    let two = strict("rules: [{id: ETP005, action: Warn, params: {minNodes: 2}}]");
    let built_in = PolicySet::empty();
    for (set, nodes, found) in [
        (&built_in, &[] as &[(&str, u32)], true),
        (&built_in, &[("a", 1)], false),
        (&built_in, &[("", 3)], true),
        (&two, &[("a", 5)], true),
        (&two, &[("a", 1), ("b", 1)], false),
    ] {
        let facts = ready(nodes);
        assert_eq!(!Ask::scan(set, &local).with(&facts).fields_of(RuleId::ETP005).is_empty(), found, "{nodes:?}");
    }
}

#[test]
fn etp005_is_silent_where_it_cannot_know() {
    let set = PolicySet::empty();
    let none = ready(&[]);
    let local = service("{type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: web}}");
    let moved = service("{type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: new}}");
    let by_hand = service("{type: LoadBalancer, externalTrafficPolicy: Local}");
    let asks = [
        Ask::scan(&set, &local),
        Ask::create(&set, Phase::Validating, &local).with(&none),
        Ask::update(&set, Phase::Validating, &local, &moved).with(&none),
        Ask::scan(&set, &by_hand).with(&none),
    ];
    for ask in asks {
        assert!(ask.fields_of(RuleId::ETP005).is_empty());
    }
    assert_eq!(Ask::update(&set, Phase::Validating, &local, &local).with(&none).fields_of(RuleId::ETP005), [ETP]);
}

#[test]
fn etp005_tells_when_terminating_pods_still_serve() {
    let local = service("{type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: web}}");
    let mut facts = ready(&[]);
    facts.serving_terminating_by_node.insert("a".to_owned(), 1);
    let outcome = Ask::scan(&PolicySet::empty(), &local).with(&facts).answer();
    assert!(outcome.findings[0].problem.contains("only terminating Pods still serve"));
}

#[test]
fn etp006_finds_cluster_where_local_is_required() {
    let set = strict("externalTrafficPolicy: {required: Local}");
    for (spec, found) in [
        ("{type: LoadBalancer, externalTrafficPolicy: Cluster}", true),
        ("{type: NodePort}", true),
        ("{type: LoadBalancer, externalTrafficPolicy: Local}", false),
        ("{type: ClusterIP}", false),
        ("{type: ClusterIP, externalIPs: [203.0.113.1], externalTrafficPolicy: Cluster}", false),
    ] {
        assert_eq!(!Ask::scan(&set, &service(spec)).fields_of(RuleId::ETP006).is_empty(), found, "{spec}");
    }
    let cluster = service("{type: LoadBalancer, externalTrafficPolicy: Cluster}");
    let any = strict("externalTrafficPolicy: {required: Any}");
    assert!(Ask::scan(&any, &cluster).fields_of(RuleId::ETP006).is_empty());
    assert!(scan(&cluster, RuleId::ETP006).is_empty());
}

#[test]
fn etp008_compares_the_prediction_with_the_limit() {
    let local = service("{type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: web}}");
    let uneven = ready(&[("a", 1), ("b", 2)]);
    for (policy, found) in [
        ("imbalance: {maxRatioPermille: 1499}", true),
        ("imbalance: {maxRatioPermille: 1500}", false),
        ("externalTrafficPolicy: {required: Any}", false),
    ] {
        let set = strict(policy);
        assert_eq!(!Ask::scan(&set, &local).with(&uneven).fields_of(RuleId::ETP008).is_empty(), found, "{policy}");
    }
    let set = strict("imbalance: {maxRatioPermille: 1200}");
    let cluster = service("{type: LoadBalancer, externalTrafficPolicy: Cluster, selector: {app: web}}");
    assert!(Ask::scan(&set, &cluster).with(&uneven).fields_of(RuleId::ETP008).is_empty());
    assert!(Ask::scan(&set, &local).fields_of(RuleId::ETP008).is_empty());
    assert!(Ask::scan(&set, &local).with(&ready(&[("", 3)])).fields_of(RuleId::ETP008).is_empty());
}

#[test]
fn etp013_finds_external_ips_on_every_type() {
    table(
        RuleId::ETP013,
        &[
            ("{type: ClusterIP, externalIPs: [203.0.113.1]}", &["spec.externalIPs"]),
            ("{type: LoadBalancer, externalIPs: [203.0.113.1, 203.0.113.2]}", &["spec.externalIPs"]),
            ("{type: ClusterIP, externalIPs: []}", &[]),
            ("{type: LoadBalancer}", &[]),
        ],
    );
}

#[test]
fn etp015_finds_each_sibling_on_a_field_of_its_own() {
    let ranges = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let (hints, mode) = ("service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode");
    let all = annotated(
        "{type: LoadBalancer, trafficDistribution: PreferClose, loadBalancerIP: 203.0.113.9}",
        &[(ranges, "10.0.0.0/8"), (hints, "auto"), (mode, "Auto")],
    );
    let expected = [
        format!("metadata.annotations[{ranges}]"),
        format!("metadata.annotations[{hints}]"),
        format!("metadata.annotations[{mode}]"),
        "spec.loadBalancerIP".to_owned(),
        "spec.trafficDistribution".to_owned(),
    ];
    assert_eq!(scan(&all, RuleId::ETP015), expected);
    table(
        RuleId::ETP015,
        &[
            ("{type: LoadBalancer, trafficDistribution: PreferSameZone, loadBalancerSourceRanges: [10.0.0.0/8]}", &[]),
            ("{type: ClusterIP, trafficDistribution: PreferSameNode}", &[]),
        ],
    );
}

#[test]
fn etp016_finds_the_field_wherever_nothing_comes_from_outside() {
    table(
        RuleId::ETP016,
        &[
            ("{type: ClusterIP, externalTrafficPolicy: Local}", &[ETP]),
            ("{type: ClusterIP, externalTrafficPolicy: Cluster}", &[ETP]),
            ("{externalTrafficPolicy: Local}", &[ETP]),
            ("{type: ClusterIP, clusterIP: None, externalTrafficPolicy: Local}", &[ETP]),
            ("{type: ExternalName, externalName: x.example, externalTrafficPolicy: Local}", &[ETP]),
            ("{type: ClusterIP, externalIPs: [203.0.113.1], externalTrafficPolicy: Local}", &[]),
            ("{type: NodePort, externalTrafficPolicy: Local}", &[]),
            ("{type: LoadBalancer, externalTrafficPolicy: Local}", &[]),
            ("{type: ClusterIP}", &[]),
        ],
    );
}

#[test]
fn etp016_lets_a_type_change_pass_that_the_api_server_accepts_and_warns_of_the_next_apply() {
    let set = with_action(RuleId::ETP016, "Deny");
    let balancer = service("{type: LoadBalancer, externalTrafficPolicy: Local}");
    let inside = service("{type: ClusterIP, externalTrafficPolicy: Local}");
    let changed = service("{type: ClusterIP, externalTrafficPolicy: Cluster}");
    let wiped = service("{type: ClusterIP}");
    let act = |old: &Service, new: &Service| {
        let finding = Ask::update(&set, Phase::Mutating, old, new).answer().findings.remove(0);
        (finding.action.as_str(), finding.ratcheted)
    };
    assert_eq!(act(&balancer, &inside), ("Warn", true));
    assert_eq!(act(&balancer, &changed), ("Deny", false));
    assert_eq!(act(&wiped, &inside), ("Deny", false));
}
