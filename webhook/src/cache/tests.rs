use super::{Index, Snapshot, Source};
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use portreeve_crds::{ClusterTrafficPolicy, TrafficPolicy};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

fn mk<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn mk_service(namespace: &str, name: &str, app: &str) -> Service {
    mk(json!({
        "metadata": {"name": name, "namespace": namespace, "labels": {"team": "a"}, "annotations": {"note": "long"}},
        "spec": {"type": "NodePort", "externalTrafficPolicy": "Local", "selector": {"app": app}, "ports": [{"port": 80}]},
        "status": {"loadBalancer": {}},
    }))
}

fn mk_slice(namespace: &str, name: &str, service: &str, pods: &[(&str, &str)]) -> EndpointSlice {
    let endpoint = |(pod, node): &(&str, &str)| {
        json!({
            "addresses": [format!("10.1.0.{pod}")], "nodeName": node, "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "namespace": namespace, "name": pod},
        })
    };
    mk(json!({
        "metadata": {"name": name, "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [], "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>(),
    }))
}

fn mk_namespace(name: &str, env: &str) -> PartialObjectMeta<Namespace> {
    mk(json!({"metadata": {"name": name, "labels": {"env": env}}}))
}

fn mk_node(name: &str, zone: &str) -> PartialObjectMeta<Node> {
    mk(json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}}}))
}

fn mk_policy(name: &str, action: &str) -> ClusterTrafficPolicy {
    mk(json!({
        "apiVersion": "portreeve.io/v1alpha1", "kind": "ClusterTrafficPolicy",
        "metadata": {"name": name, "creationTimestamp": "2026-11-20T09:00:00Z"},
        "spec": {"enforcement": {"mode": "Enforce"}, "defaults": {"rules": [{"id": "ETP013", "action": action}]}},
    }))
}

/// An index to which every kind was listed, empty.
fn listed() -> Index {
    let mut index = Index::new();
    index.apply::<ClusterTrafficPolicy>(Event::Init);
    index.apply::<ClusterTrafficPolicy>(Event::InitDone);
    index.apply::<TrafficPolicy>(Event::InitDone);
    index.apply::<Service>(Event::InitDone);
    index.apply::<EndpointSlice>(Event::InitDone);
    index.apply::<PartialObjectMeta<Namespace>>(Event::InitDone);
    index.apply::<PartialObjectMeta<Node>>(Event::InitDone);
    index
}

fn selecting(snapshot: &Snapshot, namespace: &str, app: &str) -> Vec<String> {
    let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
    snapshot.services_for(namespace, &labels).iter().filter_map(|service| service.metadata.name.clone()).collect()
}

#[test]
fn every_kind_is_missing_until_it_was_listed() {
    let mut index = Index::new();
    assert_eq!(index.snapshot().missing(), Source::ALL);
    index.apply::<Service>(Event::Init);
    index.apply(Event::InitApply(mk_service("shop", "web", "web")));
    assert!(!index.changed(), "nobody may decide from half a list");
    index.apply::<Service>(Event::InitDone);
    assert!(index.changed());
    assert!(!index.snapshot().missing().contains(&Source::Services));
    assert_eq!(listed().snapshot().missing(), []);
}

#[test]
fn a_service_is_found_by_the_pods_it_selects_until_it_is_deleted() {
    let mut index = listed();
    index.apply(Event::Apply(mk_service("shop", "web", "web")));
    index.apply(Event::Apply(mk_service("shop", "api", "api")));
    index.apply(Event::Apply(mk_service("other", "web", "web")));
    assert_eq!(selecting(&index.snapshot(), "shop", "web"), ["web"]);
    index.apply(Event::Apply(mk_service("shop", "web", "api")));
    assert_eq!(selecting(&index.snapshot(), "shop", "api"), ["api", "web"]);
    index.apply(Event::Delete(mk_service("shop", "api", "api")));
    assert_eq!(selecting(&index.snapshot(), "shop", "api"), ["web"]);
}

#[test]
fn a_service_that_loses_its_selector_is_forgotten() {
    let mut index = listed();
    index.apply(Event::Apply(mk_service("shop", "web", "web")));
    let mut bare = mk_service("shop", "web", "web");
    bare.spec.as_mut().unwrap().selector = None;
    index.apply(Event::Apply(bare));
    assert_eq!(index.snapshot().sizes().services, 0);
}

#[test]
fn only_what_decides_about_pods_is_kept_of_a_service() {
    let mut index = listed();
    index.apply(Event::Apply(mk_service("shop", "web", "web")));
    let snapshot = index.snapshot();
    let labels = BTreeMap::from([("app".to_owned(), "web".to_owned())]);
    let kept = &snapshot.services_for("shop", &labels)[0];
    let spec = kept.spec.as_ref().unwrap();
    assert_eq!((spec.type_.as_deref(), spec.external_traffic_policy.as_deref()), (Some("NodePort"), Some("Local")));
    assert_eq!((&spec.ports, &kept.metadata.annotations, &kept.status), (&None, &None, &None));
}

#[test]
fn a_new_list_forgets_what_it_does_not_name_and_not_before_it_is_complete() {
    let mut index = listed();
    index.apply(Event::Apply(mk_service("shop", "web", "web")));
    index.apply(Event::Apply(mk_service("shop", "old", "web")));
    index.apply(Event::Apply(mk_slice("shop", "old-1", "old", &[("p", "n")])));
    index.apply(Event::Apply(mk_namespace("gone", "test")));
    index.apply(Event::Apply(mk_node("node-1", "a")));
    index.apply(Event::Apply(mk_policy("baseline", "Deny")));

    index.apply::<Service>(Event::Init);
    index.apply(Event::InitApply(mk_service("shop", "web", "web")));
    assert_eq!(selecting(&index.snapshot(), "shop", "web"), ["old", "web"]);
    index.apply::<Service>(Event::InitDone);
    assert_eq!(selecting(&index.snapshot(), "shop", "web"), ["web"]);

    index.apply::<EndpointSlice>(Event::Init);
    index.apply::<EndpointSlice>(Event::InitDone);
    index.apply::<PartialObjectMeta<Namespace>>(Event::Init);
    index.apply::<PartialObjectMeta<Namespace>>(Event::InitDone);
    index.apply::<PartialObjectMeta<Node>>(Event::Init);
    index.apply::<PartialObjectMeta<Node>>(Event::InitDone);
    index.apply::<ClusterTrafficPolicy>(Event::Init);
    index.apply::<ClusterTrafficPolicy>(Event::InitDone);
    let sizes = index.snapshot().sizes();
    assert_eq!((sizes.ready_endpoints, sizes.namespaces, sizes.nodes, sizes.policies), (0, 0, 0, 0));
}

#[test]
fn endpoints_are_counted_over_all_slices_and_a_moving_pod_once() {
    let mut index = listed();
    index.apply(Event::Apply(mk_slice("shop", "web-1", "web", &[("a", "node-1"), ("b", "node-2")])));
    index.apply(Event::Apply(mk_slice("shop", "web-2", "web", &[("b", "node-2"), ("c", "node-2")])));
    let snapshot = index.snapshot();
    let facts = snapshot.endpoints("shop", "web").unwrap();
    let expected = BTreeMap::from([("node-1".to_owned(), 1), ("node-2".to_owned(), 2)]);
    assert_eq!(facts.ready_by_node, expected);
    assert_eq!(snapshot.sizes().ready_endpoints, 3);
    index.apply(Event::Delete(mk_slice("shop", "web-1", "web", &[])));
    assert_eq!(index.snapshot().endpoints("shop", "web").unwrap().ready(), 2);
}

#[test]
fn no_endpoints_and_no_slice_are_told_apart() {
    let mut index = listed();
    index.apply(Event::Apply(mk_slice("shop", "web-1", "web", &[])));
    assert_eq!(index.snapshot().endpoints("shop", "web").map(|facts| facts.ready()), Some(0));
    assert_eq!(index.snapshot().endpoints("shop", "api"), None);
    index.apply(Event::Delete(mk_slice("shop", "web-1", "web", &[])));
    assert_eq!(index.snapshot().endpoints("shop", "web"), None);
}

#[test]
fn a_slice_that_changes_hands_leaves_its_first_service() {
    let mut index = listed();
    index.apply(Event::Apply(mk_slice("shop", "s", "web", &[("a", "node-1")])));
    index.apply(Event::Apply(mk_slice("shop", "s", "api", &[("a", "node-1")])));
    let snapshot = index.snapshot();
    assert_eq!(snapshot.endpoints("shop", "web"), None);
    assert_eq!(snapshot.endpoints("shop", "api").unwrap().ready(), 1);
}

#[test]
fn a_namespace_has_its_labels_once_it_was_seen() {
    let mut index = listed();
    index.apply(Event::Apply(mk_service("shop", "web", "web")));
    let snapshot = index.snapshot();
    assert!(!snapshot.knows("shop"));
    let named = BTreeMap::from([("kubernetes.io/metadata.name".to_owned(), "shop".to_owned())]);
    assert_eq!((snapshot.namespace("shop").name.as_str(), &snapshot.namespace("shop").labels), ("shop", &named));
    index.apply(Event::Apply(mk_namespace("shop", "prod")));
    let snapshot = index.snapshot();
    assert!(snapshot.knows("shop"));
    assert_eq!(snapshot.namespace("shop").labels["env"], "prod");
    index.apply(Event::Delete(mk_namespace("shop", "prod")));
    index.apply(Event::Delete(mk_service("shop", "web", "web")));
    assert!(index.snapshot().namespaces.is_empty());
}

#[test]
fn a_change_in_one_namespace_copies_nothing_of_another() {
    let mut index = listed();
    for namespace in ["a", "b"] {
        index.apply(Event::Apply(mk_service(namespace, "web", "web")));
    }
    let before = index.snapshot();
    index.apply(Event::Apply(mk_service("a", "api", "api")));
    let after = index.snapshot();
    assert!(Arc::ptr_eq(&before.namespaces["b"], &after.namespaces["b"]));
    assert!(!Arc::ptr_eq(&before.namespaces["a"], &after.namespaces["a"]));
    assert_eq!(selecting(&before, "a", "api"), [""; 0], "a snapshot never changes");
}

#[test]
fn an_event_without_news_makes_no_snapshot() {
    let mut index = listed();
    index.apply(Event::Apply(mk_service("shop", "web", "web")));
    index.apply(Event::Apply(mk_slice("shop", "web-1", "web", &[("a", "node-1")])));
    index.apply(Event::Apply(mk_node("node-1", "a")));
    index.apply(Event::Apply(mk_namespace("shop", "prod")));
    index.apply(Event::Apply(mk_policy("baseline", "Warn")));
    index.snapshot();

    let mut service = mk_service("shop", "web", "web");
    service.metadata.resource_version = Some("2".to_owned());
    service.spec.as_mut().unwrap().health_check_node_port = Some(30_001);
    index.apply(Event::Apply(service));
    index.apply(Event::Apply(mk_slice("shop", "web-1", "web", &[("a", "node-1")])));
    index.apply(Event::Apply(mk_node("node-1", "a")));
    index.apply(Event::Apply(mk_namespace("shop", "prod")));
    let mut policy = mk_policy("baseline", "Warn");
    policy.status = Some(portreeve_crds::policy::PolicyStatus { services: Some(7), ..Default::default() });
    index.apply(Event::Apply(policy));
    assert!(!index.changed());

    index.apply(Event::Apply(mk_policy("baseline", "Deny")));
    assert!(index.changed());
}

#[test]
fn nodes_are_counted_and_zones_once_each() {
    let mut index = listed();
    for (node, zone) in [("node-1", "a"), ("node-2", "a"), ("node-3", "b")] {
        index.apply(Event::Apply(mk_node(node, zone)));
    }
    let cluster = index.snapshot().cluster();
    assert_eq!((cluster.nodes, cluster.zones), (3, 2));
}
