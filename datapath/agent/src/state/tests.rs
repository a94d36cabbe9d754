use super::*;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Resource;
use kube::core::DeserializeGuard;
use portreeve_crds::{DatapathConfig, ServiceTraffic};
use serde_json::{Value, json};

fn put<K: Resource + serde::de::DeserializeOwned>(object: Value, wrap: fn(Box<K>) -> Object) -> Seen {
    let object: K = serde_json::from_value(object).unwrap();
    Seen::Put(ObjectName::of(&object), wrap(Box::new(object)))
}

fn service(spec: Value) -> Seen {
    let object = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": spec});
    put::<Service>(object, Object::Service)
}

fn local_service() -> Seen {
    service(json!({
        "type": "NodePort", "externalTrafficPolicy": "Local", "clusterIP": "10.96.0.1",
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
    }))
}

fn slice(labels: Value) -> Seen {
    let object = json!({
        "metadata": {"name": "web-x", "namespace": "shop", "labels": labels}, "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}], "endpoints": [{"addresses": ["10.1.0.1"], "nodeName": "n1"}],
    });
    put::<EndpointSlice>(object, Object::EndpointSlice)
}

fn traffic(spec: Value) -> Seen {
    let object = json!({
        "apiVersion": "portreeve.io/v1alpha1", "kind": "ServiceTraffic",
        "metadata": {"name": "web", "namespace": "shop"}, "spec": spec,
    });
    put::<DeserializeGuard<ServiceTraffic>>(object, Object::ServiceTraffic)
}

fn config(spec: Value) -> Seen {
    let object = json!({
        "apiVersion": "portreeve.io/v1alpha1", "kind": "DatapathConfig", "metadata": {"name": "default"}, "spec": spec,
    });
    put::<DeserializeGuard<DatapathConfig>>(object, Object::DatapathConfig)
}

fn node(address: &str) -> Seen {
    let addresses = json!([{"type": "InternalIP", "address": address}]);
    put::<Node>(json!({"metadata": {"name": "n1", "uid": "u1"}, "status": {"addresses": addresses}}), Object::Node)
}

fn claimed() -> State {
    let mut state = State::of_node("n1");
    let labels = json!({"kubernetes.io/service-name": "web"});
    for seen in [node("10.0.0.1"), local_service(), slice(labels), traffic(json!({"mode": "Local"}))] {
        state.take(seen);
    }
    state
}

fn sizes(state: &State) -> (usize, usize) {
    (state.compiled().counts.claimed, state.compiled().counts.ready_backends)
}

fn bad(state: &State) -> Vec<String> {
    state.bad().iter().map(|((kind, name), _)| format!("{} {name}", kind.as_str())).collect()
}

#[test]
fn objects_of_four_kinds_come_together_in_one_claimed_service() {
    assert_eq!(sizes(&claimed()), (1, 1));
}

#[test]
fn a_service_that_becomes_unreadable_is_left_and_named_until_it_is_mended_or_gone() {
    let mut state = claimed();
    state.take(service(json!({"type": "Mystery"})));
    assert_eq!((sizes(&state), bad(&state)), ((0, 0), vec!["Service shop/web".to_owned()]));
    state.take(local_service());
    assert_eq!((sizes(&state), bad(&state)), ((1, 1), vec![]));
    state.take(service(json!({"type": "Mystery"})));
    state.take(Seen::Gone(Kind::Service, ObjectName { namespace: "shop".into(), name: "web".into() }));
    assert_eq!((sizes(&state), bad(&state)), ((0, 0), vec![]));
}

#[test]
fn a_directive_of_an_unknown_shape_leaves_its_service_to_kube_proxy() {
    let mut state = claimed();
    state.take(traffic(json!({"mode": "Teleport"})));
    assert_eq!((sizes(&state), bad(&state)), ((0, 0), vec!["ServiceTraffic shop/web".to_owned()]));
}

#[test]
fn a_slice_that_loses_its_service_label_takes_its_endpoints_with_it() {
    let mut state = claimed();
    state.take(slice(json!({})));
    assert_eq!(sizes(&state), (1, 0));
}

#[test]
fn an_unreadable_configuration_or_node_changes_nothing_but_is_named() {
    let mut state = claimed();
    state.take(config(json!({"backend": "Nftables", "uplinks": {"interfaces": ["eth*"]}})));
    let before = state.config().clone();
    assert_eq!(before, Config { backend: BackendChoice::Nftables, uplinks: Some(vec!["eth*".into()]) });
    state.take(config(json!({"backend": "Carrier pigeon"})));
    state.take(node("not an address"));
    assert_eq!(state.config(), &before);
    assert_eq!(state.node().map(|node| node.internal.len()), Some(1));
    assert_eq!(bad(&state), ["Node n1", "DatapathConfig default"]);
}

#[test]
fn a_configuration_that_is_deleted_gives_back_the_defaults() {
    let mut state = claimed();
    state.take(config(json!({"backend": "Iptables", "capacity": {"frontends": 0}})));
    assert_eq!(state.compiled().counts.refused, 1);
    state.take(Seen::Gone(Kind::DatapathConfig, ObjectName { namespace: "".into(), name: "default".into() }));
    assert_eq!(state.config(), &Config::default());
    assert_eq!(sizes(&state), (1, 1));
}

#[test]
fn every_kind_is_waited_for_until_it_is_synced() {
    let mut state = State::of_node("n1");
    for kind in Kind::ALL {
        assert!(state.waiting_for().contains(&kind));
        state.take(Seen::Synced(kind));
    }
    assert!(state.waiting_for().is_empty());
}

#[test]
fn a_watch_fails_until_it_tells_something_again() {
    let mut state = State::of_node("n1");
    let failed = || Seen::Failed(Kind::Service, kube::runtime::watcher::Error::NoResourceVersion);
    state.take(failed());
    assert_eq!(state.failing().len(), 1);
    state.take(local_service());
    assert!(state.failing().is_empty());
    state.take(failed());
    state.take(Seen::Synced(Kind::Service));
    assert!(state.failing().is_empty());
}

#[test]
fn a_node_is_eligible_until_it_is_tainted_or_deleted_or_gone() {
    let mut state = State::of_node("n1");
    assert!(state.eligible(), "before it was seen");
    let named = |name: &str, deleted: Option<&str>, taint: &str| {
        let metadata = json!({"name": name, "deletionTimestamp": deleted});
        let taints = json!([{"key": taint, "effect": "NoSchedule"}]);
        put::<Node>(json!({"metadata": metadata, "spec": {"taints": taints}}), Object::Node)
    };
    let mut after = |seen: Seen| {
        state.take(seen);
        state.eligible()
    };
    assert!(after(named("n1", None, "node.kubernetes.io/unschedulable")));
    assert!(!after(named("n1", None, "ToBeDeletedByClusterAutoscaler")));
    assert!(after(named("n1", None, "another")));
    assert!(after(named("n2", None, "ToBeDeletedByClusterAutoscaler")), "another node");
    assert!(!after(named("n1", Some("2026-01-01T00:00:00Z"), "another")));
    assert!(after(named("n1", None, "another")));
    assert!(!after(Seen::Gone(Kind::Node, ObjectName { namespace: "".into(), name: "n1".into() })));
}
