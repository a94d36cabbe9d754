//! The oracle for "spreads already".

use super::{Ask, pod};
use crate::spread::SkipReason;

const SELF: &str = "labelSelector: {matchLabels: {app: web}}";
const HOST: &str = "topologyKey: kubernetes.io/hostname";
const ZONE: &str = "topologyKey: topology.kubernetes.io/zone";

fn required(term: &str) -> Option<SkipReason> {
    let kind = "requiredDuringSchedulingIgnoredDuringExecution";
    Ask::about(pod(&format!("{{affinity: {{podAntiAffinity: {{{kind}: [{{{term}}}]}}}}}}"))).skipped()
}

fn preferred(term: &str) -> Option<SkipReason> {
    let kind = "preferredDuringSchedulingIgnoredDuringExecution";
    let term = format!("{{weight: 1, podAffinityTerm: {{{term}}}}}");
    Ask::about(pod(&format!("{{affinity: {{podAntiAffinity: {{{kind}: [{term}]}}}}}}"))).skipped()
}

fn constraint(constraint: &str) -> Option<SkipReason> {
    let all = "maxSkew: 1, whenUnsatisfiable: DoNotSchedule";
    Ask::about(pod(&format!("{{topologySpreadConstraints: [{{{all}, {constraint}}}]}}"))).skipped()
}

const SPREADS: Option<SkipReason> = Some(SkipReason::AlreadySpreads);

#[test]
fn any_term_or_constraint_on_the_hostname_that_selects_the_pod_itself_spreads() {
    for selector in [SELF, "labelSelector: {}", "labelSelector: {matchExpressions: [{key: app, operator: Exists}]}"] {
        let term = format!("{HOST}, {selector}");
        assert_eq!((required(&term), preferred(&term), constraint(&term)), (SPREADS, SPREADS, SPREADS), "{selector}");
    }
}

#[test]
fn what_is_about_zones_does_not_spread_over_nodes() {
    let term = format!("{ZONE}, {SELF}");
    assert_eq!((required(&term), preferred(&term), constraint(&term)), (None, None, None));
}

#[test]
fn what_is_about_other_pods_does_not_spread_this_one() {
    for selector in ["labelSelector: {matchLabels: {app: api}}", "labelSelector: null"] {
        let term = format!("{HOST}, {selector}");
        assert_eq!((required(&term), preferred(&term), constraint(&term)), (None, None, None), "{selector}");
    }
}

#[test]
fn a_term_counts_only_where_it_looks_at_the_pods_own_namespace() {
    for (namespaces, expected) in [
        ("namespaces: [shop]", SPREADS),
        ("namespaces: []", SPREADS),
        ("namespaces: [bank]", None),
        ("namespaceSelector: {}", SPREADS),
        ("namespaceSelector: {matchLabels: {team: blue}}", SPREADS),
        ("namespaceSelector: {matchLabels: {team: red}}", None),
        ("namespaces: [bank], namespaceSelector: {matchLabels: {team: blue}}", SPREADS),
    ] {
        assert_eq!(required(&format!("{HOST}, {SELF}, {namespaces}")), expected, "{namespaces}");
    }
}

#[test]
fn a_selector_that_kubernetes_refuses_is_never_no_match() {
    let term = format!("{HOST}, labelSelector: {{matchExpressions: [{{key: app, operator: Like, values: [web]}}]}}");
    let invalid = Some(SkipReason::InvalidSelector);
    assert_eq!((required(&term), preferred(&term), constraint(&term)), (invalid, invalid, invalid));
    let term = format!("{HOST}, {SELF}, namespaceSelector: {{matchExpressions: [{{key: team, operator: In}}]}}");
    assert_eq!(required(&term), invalid);
}
