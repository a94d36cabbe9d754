use super::{Selector, SelectorError, service_selects};
use crate::testing::map;

fn compile(yaml: &str) -> Result<Selector, SelectorError> {
    Selector::compile(&serde_yaml::from_str(yaml).unwrap())
}

fn selects(yaml: &str, labels: &[(&str, &str)]) -> bool {
    compile(yaml).unwrap().matches(&map(labels))
}

#[test]
fn an_empty_selector_selects_everything() {
    assert!(selects("{}", &[]));
    assert!(selects("{matchLabels: {}, matchExpressions: []}", &[("a", "b")]));
}

#[test]
fn all_requirements_must_hold() {
    let yaml = "{matchLabels: {app: web}, matchExpressions: [{key: tier, operator: In, values: [a, b]}]}";
    assert!(selects(yaml, &[("app", "web"), ("tier", "b")]));
    assert!(!selects(yaml, &[("app", "web"), ("tier", "c")]));
    assert!(!selects(yaml, &[("tier", "a")]));
}

#[test]
fn not_in_selects_objects_without_the_key() {
    let yaml = "{matchExpressions: [{key: tier, operator: NotIn, values: [a]}]}";
    assert!(selects(yaml, &[]));
    assert!(selects(yaml, &[("tier", "b")]));
    assert!(!selects(yaml, &[("tier", "a")]));
}

#[test]
fn existence_looks_at_the_key_alone() {
    assert!(selects("{matchExpressions: [{key: tier, operator: Exists}]}", &[("tier", "")]));
    assert!(!selects("{matchExpressions: [{key: tier, operator: Exists}]}", &[]));
    assert!(!selects("{matchExpressions: [{key: tier, operator: DoesNotExist}]}", &[("tier", "")]));
    assert!(selects("{matchExpressions: [{key: tier, operator: DoesNotExist}]}", &[]));
}

#[test]
fn what_the_api_server_would_refuse_is_an_error_and_never_no_match() {
    let cases = [
        (
            "{matchExpressions: [{key: a, operator: in, values: [b]}]}",
            "operator \"in\" is none of In, NotIn, Exists and DoesNotExist",
        ),
        (
            "{matchExpressions: [{key: a, operator: Gt, values: ['1']}]}",
            "operator \"Gt\" is none of In, NotIn, Exists and DoesNotExist",
        ),
        ("{matchExpressions: [{key: a, operator: In}]}", "operator In on key \"a\" needs at least one value"),
        (
            "{matchExpressions: [{key: a, operator: NotIn, values: []}]}",
            "operator NotIn on key \"a\" needs at least one value",
        ),
        (
            "{matchExpressions: [{key: a, operator: Exists, values: [b]}]}",
            "operator Exists on key \"a\" takes no values",
        ),
        ("{matchLabels: {'': b}}", "\"\" is not a label key"),
        ("{matchLabels: {'x/': b}}", "\"x/\" is not a label key"),
        ("{matchLabels: {'A_b/c': b}}", "\"A_b/c\" is not a label key"),
        ("{matchLabels: {'-a': b}}", "\"-a\" is not a label key"),
        ("{matchLabels: {a: 'b c'}}", "\"b c\" is not a label value"),
    ];
    for (yaml, text) in cases {
        assert_eq!(compile(yaml).unwrap_err().to_string(), text, "{yaml}");
    }
}

#[test]
fn keys_and_values_at_their_limits_are_accepted() {
    let (key, value) = (format!("{}.io/{}", "p".repeat(63), "n".repeat(63)), "v".repeat(63));
    assert!(selects(&format!("{{matchLabels: {{{key}: {value}}}}}"), &[(&key, &value)]));
    assert!(compile(&format!("{{matchLabels: {{a: {value}x}}}}")).is_err());
    assert!(selects("{matchLabels: {a: ''}}", &[("a", "")]));
}

#[test]
fn a_service_without_a_selector_selects_no_pod() {
    let labels = map(&[("app", "web"), ("tier", "a")]);
    assert!(!service_selects(None, &labels));
    assert!(!service_selects(Some(&map(&[])), &labels));
    assert!(service_selects(Some(&map(&[("app", "web")])), &labels));
    assert!(!service_selects(Some(&map(&[("app", "web"), ("zone", "x")])), &labels));
}
