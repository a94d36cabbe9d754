use super::{Compiled, Effective, PolicySet};
use crate::facts::NamespaceFacts;
use crate::testing::{cluster_policy, created, labelled, map, namespaced_policy, service, shop};
use k8s_openapi::api::core::v1::Service;
use portreeve_crds::policy::{DataPathMode, OnNoLocal, SpreadMechanism, SpreadMode};
use portreeve_crds::{Action, ClusterTrafficPolicy, RuleId, TrafficPolicy};
use std::slice::from_ref;

const OVERRIDE_WARN: &str = "{enforcement: {mode: Enforce}, overrides: {rules: [{id: ETP016, action: Warn}]}}";
const OVERRIDE_DENY: &str = "{enforcement: {mode: Enforce}, overrides: {rules: [{id: ETP016, action: Deny}]}}";
const DEFAULT_OFF: &str = "{enforcement: {mode: Enforce}, defaults: {rules: [{id: ETP016, action: Off}]}}";
const OWN_AUDIT: &str = "{enforcement: {mode: Enforce}, rules: [{id: ETP016, action: Audit}]}";

fn web() -> Service {
    labelled(service("{type: LoadBalancer, externalTrafficPolicy: Local}"), &[("app", "web")])
}

fn effective(cluster: &[ClusterTrafficPolicy], namespaced: &[TrafficPolicy], service: &Service) -> Effective {
    PolicySet::compile(cluster, namespaced).set.effective(&shop(), service)
}

/// The action of a rule and who decided it.
fn decided(effective: &Effective, rule: RuleId) -> (Action, String) {
    let entry = &effective.rules[&rule];
    (entry.action, entry.policy.as_ref().map_or_else(|| "built-in".to_owned(), ToString::to_string))
}

fn etp016(cluster: &[ClusterTrafficPolicy], namespaced: &[TrafficPolicy]) -> (Action, String) {
    decided(&effective(cluster, namespaced, &web()), RuleId::ETP016)
}

fn names(effective: &Effective) -> Vec<String> {
    effective.policies.iter().map(ToString::to_string).collect()
}

#[test]
fn without_policies_the_built_in_actions_hold() {
    let effective = PolicySet::empty().effective(&shop(), &web());
    assert_eq!(decided(&effective, RuleId::ETP016), (Action::Deny, "built-in".to_owned()));
    assert_eq!(decided(&effective, RuleId::ETP006), (Action::Audit, "built-in".to_owned()));
    assert_eq!(decided(&effective, RuleId::ETP001), (Action::Warn, "built-in".to_owned()));
    assert_eq!((effective.spread.mode, effective.data_path.mode), (SpreadMode::Off, DataPathMode::Off));
    assert!(effective.policies.is_empty());
}

#[test]
fn levels_speak_in_the_order_overrides_namespace_defaults_built_in() {
    let default = cluster_policy("base", DEFAULT_OFF);
    let own = namespaced_policy("shop", "own", OWN_AUDIT);
    let over = cluster_policy("floor", OVERRIDE_WARN);
    assert_eq!(etp016(from_ref(&default), &[]), (Action::Off, "ctp/base".to_owned()));
    assert_eq!(etp016(from_ref(&default), from_ref(&own)), (Action::Audit, "tp/shop/own".to_owned()));
    assert_eq!(etp016(&[default, over], &[own]), (Action::Warn, "ctp/floor".to_owned()));
}

#[test]
fn a_namespace_may_tighten_an_override_and_never_loosen_it() {
    let own = |action| {
        namespaced_policy(
            "shop",
            "own",
            &format!("{{enforcement: {{mode: Enforce}}, rules: [{{id: ETP016, action: {action}}}]}}"),
        )
    };
    let warn = cluster_policy("floor", OVERRIDE_WARN);
    assert_eq!(etp016(from_ref(&warn), &[own("Deny")]), (Action::Deny, "tp/shop/own".to_owned()));
    assert_eq!(etp016(from_ref(&warn), &[own("Warn")]), (Action::Warn, "ctp/floor".to_owned()));
    assert_eq!(etp016(&[warn], &[own("Off")]), (Action::Warn, "ctp/floor".to_owned()));
    assert_eq!(
        etp016(&[cluster_policy("floor", OVERRIDE_DENY)], &[own("Off")]),
        (Action::Deny, "ctp/floor".to_owned())
    );
}

#[test]
fn within_a_level_priority_decides_then_age_then_name() {
    let with = |name: &str, priority: i32, action: &str, time: &str| {
        let spec = format!(
            "{{priority: {priority}, enforcement: {{mode: Enforce}}, defaults: {{rules: [{{id: ETP016, action: {action}}}]}}}}"
        );
        let mut policy = cluster_policy(name, &spec);
        created(&mut policy, time);
        policy
    };
    let (early, late) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    let high = with("z", 9, "Warn", late);
    let old = with("y", 1, "Audit", early);
    let young_b = with("b", 1, "Off", late);
    let young_a = with("a", 1, "Deny", late);
    let pick = |policies: &[ClusterTrafficPolicy]| etp016(policies, &[]).1;
    assert_eq!(pick(&[old.clone(), high]), "ctp/z");
    assert_eq!(pick(&[young_a.clone(), old]), "ctp/y");
    assert_eq!(pick(&[young_b.clone(), young_a]), "ctp/a");
    // A policy that only stands in a file is younger than any stored one.
    assert_eq!(pick(&[cluster_policy("a", DEFAULT_OFF), with("b", 0, "Warn", late)]), "ctp/b");
    assert_eq!(pick(&[young_b, cluster_policy("a", DEFAULT_OFF)]), "ctp/b");
}

#[test]
fn mode_caps_what_its_policy_decides_and_the_built_in_actions_below_the_highest() {
    let audit = cluster_policy(
        "soft",
        "{enforcement: {mode: Audit}, defaults: {rules: [{id: ETP013, action: Deny}, {id: ETP001, action: Fix}]}}",
    );
    let effective = effective(&[audit], &[], &web());
    assert_eq!(decided(&effective, RuleId::ETP013), (Action::Audit, "ctp/soft".to_owned()));
    assert_eq!(decided(&effective, RuleId::ETP001), (Action::Audit, "ctp/soft".to_owned()));
    assert_eq!(decided(&effective, RuleId::ETP016), (Action::Audit, "built-in".to_owned()));
    let warn = cluster_policy("soft", "{enforcement: {mode: Warn}, defaults: {rules: [{id: ETP013, action: Deny}]}}");
    assert_eq!(etp016(from_ref(&warn), &[]).0, Action::Warn);
    let enforcing =
        namespaced_policy("shop", "own", "{enforcement: {mode: Enforce}, rules: [{id: ETP013, action: Off}]}");
    assert_eq!(etp016(&[warn], &[enforcing]).0, Action::Deny);
}

#[test]
fn mode_stops_injection_and_never_moves_traffic() {
    let body = "spread: {mode: Inject}, dataPath: {mode: Balance}";
    for (mode, spread) in [("Audit", SpreadMode::Off), ("Warn", SpreadMode::Off), ("Enforce", SpreadMode::Inject)] {
        let own = namespaced_policy("shop", "own", &format!("{{enforcement: {{mode: {mode}}}, {body}}}"));
        let effective = effective(&[], &[own], &web());
        assert_eq!((effective.spread.mode, effective.data_path.mode), (spread, DataPathMode::Balance), "{mode}");
    }
}

#[test]
fn limits_and_requirements_tighten_over_an_override() {
    let over =
        |body: &str| cluster_policy("floor", &format!("{{enforcement: {{mode: Enforce}}, overrides: {{{body}}}}}"));
    let own = |body: &str| namespaced_policy("shop", "own", &format!("{{enforcement: {{mode: Enforce}}, {body}}}"));
    let limit = |over_limit: &str, own_limit: &str| {
        let effective = effective(
            &[over(&format!("imbalance: {{maxRatioPermille: {over_limit}}}"))],
            &[own(&format!("imbalance: {{maxRatioPermille: {own_limit}}}"))],
            &web(),
        );
        effective.max_ratio_permille.map(|(limit, policy)| (limit, policy.to_string()))
    };
    assert_eq!(limit("1500", "1200"), Some((1200, "tp/shop/own".to_owned())));
    assert_eq!(limit("1500", "2000"), Some((1500, "ctp/floor".to_owned())));
    let required = |over_value: &str, own_value: &str| {
        let effective = effective(
            &[over(&format!("externalTrafficPolicy: {{required: {over_value}}}"))],
            &[own(&format!("externalTrafficPolicy: {{required: {own_value}}}"))],
            &web(),
        );
        effective.required_local.map(|policy| policy.to_string())
    };
    assert_eq!(required("Any", "Local"), Some("tp/shop/own".to_owned()));
    assert_eq!(required("Local", "Any"), Some("ctp/floor".to_owned()));
    assert_eq!(required("Any", "Any"), None);
}

#[test]
fn the_number_of_nodes_tightens_even_where_the_action_does_not() {
    let rule =
        |action: &str, nodes: i32| format!("rules: [{{id: ETP005, action: {action}, params: {{minNodes: {nodes}}}}}]");
    let over =
        cluster_policy("floor", &format!("{{enforcement: {{mode: Enforce}}, overrides: {{{}}}}}", rule("Warn", 2)));
    for (action, nodes, expected) in [("Audit", 3, (Action::Warn, Some(3))), ("Deny", 1, (Action::Deny, Some(2)))] {
        let own =
            namespaced_policy("shop", "own", &format!("{{enforcement: {{mode: Enforce}}, {}}}", rule(action, nodes)));
        let entry = effective(from_ref(&over), &[own], &web()).rules[&RuleId::ETP005].clone();
        assert_eq!((entry.action, entry.min_nodes), expected);
    }
}

#[test]
fn what_an_override_says_on_spread_and_data_path_is_final_and_the_rest_is_filled_in() {
    let over = cluster_policy(
        "floor",
        "{enforcement: {mode: Enforce}, overrides: {spread: {mode: Off}, dataPath: {mode: Local, onNoLocal: Reject}}}",
    );
    let own = namespaced_policy(
        "shop",
        "own",
        "{enforcement: {mode: Enforce}, spread: {mode: Inject, mechanism: PodAntiAffinity, weight: 7}, \
          dataPath: {mode: Balance, onNoLocal: Forward, sourceRangesOnNodePorts: true}}",
    );
    let effective = effective(&[over], &[own], &web());
    assert_eq!((effective.spread.mode, effective.spread.weight), (SpreadMode::Off, 7));
    assert_eq!(effective.spread.mechanism, SpreadMechanism::PodAntiAffinity);
    assert_eq!((effective.data_path.mode, effective.data_path.on_no_local), (DataPathMode::Local, OnNoLocal::Reject));
    assert!(effective.data_path.source_ranges_on_node_ports);
    assert_eq!(names(&effective), ["ctp/floor", "tp/shop/own"]);
}

#[test]
fn a_policy_matches_by_namespace_labels_service_labels_and_type() {
    let with = |matched: &str| {
        cluster_policy(
            "m",
            &format!(
                "{{match: {matched}, enforcement: {{mode: Enforce}}, defaults: {{rules: [{{id: ETP016, action: Off}}]}}}}"
            ),
        )
    };
    for (matched, yes) in [
        ("{}", true),
        ("{namespaceSelector: {matchLabels: {team: blue}}}", true),
        ("{namespaceSelector: {matchLabels: {team: red}}}", false),
        ("{serviceSelector: {matchLabels: {app: web}}}", true),
        ("{serviceSelector: {matchLabels: {app: db}}}", false),
        ("{types: [LoadBalancer]}", true),
        ("{types: [NodePort, ClusterIP]}", false),
        ("{types: [LoadBalancer], serviceSelector: {matchLabels: {app: db}}}", false),
    ] {
        let set = PolicySet::compile(&[with(matched)], &[]).set;
        assert_eq!(set.matching(&shop(), &web()).len(), usize::from(yes), "{matched}");
    }
}

#[test]
fn a_namespaced_policy_never_sees_another_namespace() {
    let foreign = namespaced_policy("garden", "own", OWN_AUDIT);
    assert_eq!(etp016(&[], from_ref(&foreign)), (Action::Deny, "built-in".to_owned()));
    let mut claims_garden = web();
    claims_garden.metadata.namespace = Some("garden".to_owned());
    let effective = effective(&[], &[foreign], &claims_garden);
    assert_eq!(decided(&effective, RuleId::ETP016).1, "built-in", "the request's namespace counts, not the object's");
}

#[test]
fn an_ignored_namespace_is_silent_and_an_ignored_service_keeps_the_overrides() {
    let policies = [cluster_policy("floor", OVERRIDE_WARN), cluster_policy("base", DEFAULT_OFF)];
    let own = [namespaced_policy("shop", "own", "{enforcement: {mode: Enforce}, rules: [{id: ETP013, action: Deny}]}")];
    let set = PolicySet::compile(&policies, &own).set;
    let ignoring = labelled(web(), &[("portreeve.io/ignore", "true")]);
    let effective = set.effective(&shop(), &ignoring);
    assert_eq!(decided(&effective, RuleId::ETP016), (Action::Warn, "ctp/floor".to_owned()));
    assert_eq!(decided(&effective, RuleId::ETP013), (Action::Off, "built-in".to_owned()));
    let namespace = NamespaceFacts { name: "shop".to_owned(), labels: map(&[("portreeve.io/ignore", "true")]) };
    let silent = set.effective(&namespace, &web());
    assert!(silent.rules.values().all(|rule| rule.action == Action::Off));
    let said_false = labelled(web(), &[("portreeve.io/ignore", "false")]);
    assert_eq!(decided(&set.effective(&shop(), &said_false), RuleId::ETP013).0, Action::Deny);
}

const BROKEN: &str = "{matchExpressions: [{key: app, operator: Is, values: [web]}]}";

fn broken(rest: &str, matched: &str) -> Compiled {
    let spec = format!("{{match: {{serviceSelector: {BROKEN}{matched}}}, enforcement: {{mode: Enforce}}, {rest}}}");
    PolicySet::compile(&[cluster_policy("bad", &spec)], &[])
}

#[test]
fn a_policy_with_an_invalid_selector_is_reported_and_its_denials_hold() {
    let Compiled { set, problems } = broken(
        "defaults: {rules: [{id: ETP013, action: Deny}, {id: ETP001, action: Off}], spread: {mode: Inject}}",
        "",
    );
    assert_eq!(
        problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "ctp/bad cannot be read: match.serviceSelector is invalid: operator \"Is\" is none of In, NotIn, Exists and DoesNotExist"
        ]
    );
    let effective = set.effective(&shop(), &web());
    assert_eq!(decided(&effective, RuleId::ETP013), (Action::Deny, "ctp/bad".to_owned()));
    assert!(effective.rules[&RuleId::ETP013].fault.is_some());
    assert_eq!(decided(&effective, RuleId::ETP001), (Action::Warn, "built-in".to_owned()), "only denials are kept");
    assert_eq!(effective.spread.mode, SpreadMode::Off);
    assert_eq!(effective.faults.len(), 1);
    assert!(set.matching(&shop(), &web()).is_empty());
}

#[test]
fn a_broken_policy_keeps_away_from_services_that_its_readable_parts_exclude() {
    for matched in [", types: [NodePort]", ", namespaceSelector: {matchLabels: {team: red}}"] {
        let effective =
            broken("defaults: {rules: [{id: ETP013, action: Deny}]}", matched).set.effective(&shop(), &web());
        assert_eq!(decided(&effective, RuleId::ETP013), (Action::Warn, "built-in".to_owned()), "{matched}");
        assert!(effective.faults.is_empty());
    }
}

#[test]
fn a_broken_policy_that_could_not_decide_in_any_case_does_not() {
    let spec = format!(
        "{{match: {{serviceSelector: {BROKEN}}}, enforcement: {{mode: Enforce}}, defaults: {{rules: [{{id: ETP016, action: Deny}}]}}}}"
    );
    let bad = cluster_policy("bad", &spec);
    let own = namespaced_policy("shop", "own", OWN_AUDIT);
    assert_eq!(etp016(&[bad], &[own]), (Action::Audit, "tp/shop/own".to_owned()));
}

#[test]
fn a_broken_policy_keeps_what_its_denials_compare_with() {
    let body = "defaults: {rules: [{id: ETP006, action: Deny}], externalTrafficPolicy: {required: Local}, imbalance: {maxRatioPermille: 1000}}";
    let effective = broken(body, "").set.effective(&shop(), &web());
    assert!(effective.required_local.is_some());
    assert!(effective.max_ratio_permille.is_none());
}

#[test]
fn a_body_that_the_schema_forbids_is_reported_and_fails_closed() {
    let both = "{enforcement: {mode: Enforce}, defaults: {rules: [{id: ETP013, action: Off}]}, overrides: {rules: [{id: ETP001, action: Deny}]}}";
    let Compiled { set, problems } = PolicySet::compile(&[cluster_policy("both", both)], &[]);
    assert_eq!(problems.len(), 1);
    let effective = set.effective(&shop(), &web());
    assert_eq!(decided(&effective, RuleId::ETP001).0, Action::Deny);
    assert_eq!(decided(&effective, RuleId::ETP013), (Action::Warn, "built-in".to_owned()));
}
