use super::{EndpointFacts, NamespaceFacts};
use crate::testing::{map, ready};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::discovery::v1::EndpointSlice;

fn slice(family: &str, endpoints: &str) -> EndpointSlice {
    serde_yaml::from_str(&format!("{{metadata: {{}}, addressType: {family}, endpoints: {endpoints}}}")).unwrap()
}

fn of(slices: &[EndpointSlice]) -> EndpointFacts {
    EndpointFacts::from_slices(slices)
}

#[test]
fn a_namespace_has_the_label_of_its_name_whatever_was_written_there() {
    for labels in ["{}", "{labels: {team: blue}}", "{labels: {kubernetes.io/metadata.name: other}}"] {
        let mut namespace: Namespace = serde_yaml::from_str(&format!("metadata: {labels}")).unwrap();
        namespace.metadata.name = Some("shop".to_owned());
        assert_eq!(NamespaceFacts::from(&namespace).labels["kubernetes.io/metadata.name"], "shop");
    }
    assert_eq!(NamespaceFacts::new(String::new(), map(&[])), NamespaceFacts::default());
}

#[test]
fn an_absent_ready_condition_counts_as_ready() {
    let facts = of(&[slice(
        "IPv4",
        "[{addresses: [10.0.0.1], nodeName: a}, {addresses: [10.0.0.2], nodeName: a, conditions: {}}]",
    )]);
    assert_eq!(facts, ready(&[("a", 2)]));
}

#[test]
fn an_endpoint_that_is_not_ready_counts_nowhere_unless_it_serves_while_terminating() {
    let facts = of(&[slice(
        "IPv4",
        "[{addresses: [10.0.0.1], nodeName: a, conditions: {ready: false}}, \
          {addresses: [10.0.0.2], nodeName: a, conditions: {ready: false, serving: false, terminating: true}}, \
          {addresses: [10.0.0.3], nodeName: b, conditions: {ready: false, serving: true, terminating: true}}, \
          {addresses: [10.0.0.4], nodeName: b, conditions: {ready: false, terminating: true}}]",
    )]);
    assert_eq!(facts.ready(), 0);
    assert_eq!(facts.serving_terminating_by_node, ready(&[("b", 2)]).ready_by_node);
}

#[test]
fn an_address_in_two_slices_counts_once_and_its_ready_reading_wins() {
    let moving = slice("IPv4", "[{addresses: [10.0.0.1], nodeName: a, conditions: {ready: false, terminating: true}}]");
    let moved = slice("IPv4", "[{addresses: [10.0.0.1], nodeName: a}]");
    assert_eq!(of(&[moving.clone(), moved.clone()]), ready(&[("a", 1)]));
    assert_eq!(of(&[moved, moving]), ready(&[("a", 1)]));
}

#[test]
fn a_dual_stack_pod_counts_once() {
    let pod = "nodeName: a, targetRef: {kind: Pod, namespace: shop, name: web-1}";
    let v4 = slice("IPv4", &format!("[{{addresses: [10.0.0.1], {pod}}}]"));
    let v6 = slice("IPv6", &format!("[{{addresses: ['fd00::1'], {pod}}}]"));
    assert_eq!(of(&[v4, v6]), ready(&[("a", 1)]));
}

#[test]
fn an_endpoint_without_a_node_is_ready_but_local_to_no_node() {
    let facts = of(&[slice("IPv4", "[{addresses: [10.0.0.1]}, {addresses: [10.0.0.2], nodeName: a}]")]);
    assert_eq!((facts.ready(), facts.active_nodes()), (2, 1));
    assert_eq!(facts.local_ready_by_node(), ready(&[("a", 1)]).ready_by_node);
}

#[test]
fn slices_of_names_are_left_out() {
    assert_eq!(of(&[slice("FQDN", "[{addresses: [db.example.com], nodeName: a}]")]), EndpointFacts::default());
}
