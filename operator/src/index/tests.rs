//! Builders of small objects, shared by the tests of all controllers, and tests of the index itself.

use super::{Delta, Event, Index};
use crate::key::Key;
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use portreeve_crds::policy::DataPathMode;
use portreeve_crds::{ClusterTrafficPolicy, ServiceTraffic, TrafficMigration, TrafficMigrationItem};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A NodePort Service with `externalTrafficPolicy: Local`; `more` is merged into its spec.
pub(crate) fn mk_service(name: &str, version: u32, more: Value) -> Service {
    let mut spec = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "clusterIP": "10.0.0.9",
        "selector": {"app": name}, "ports": [{"port": 80, "nodePort": 30080}]});
    json_patch::merge(&mut spec, &more);
    object(json!({
        "metadata": {"namespace": "shop", "name": name, "uid": format!("uid-{name}"), "resourceVersion": version.to_string(),
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "kept"},
            "managedFields": [{"manager": "kubectl"}]},
        "spec": spec,
    }))
}

/// Ready endpoints of a Service: one address per entry, on the node it names.
pub(crate) fn mk_slice(service: &str, name: &str, version: u32, nodes: &[&str]) -> EndpointSlice {
    let endpoint = |(at, node): (usize, &&str)| {
        json!({"addresses": [format!("10.1.{}.{}", name.len(), at + 1)], "nodeName": node, "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "name": "p"}})
    };
    object(json!({
        "metadata": {"namespace": "shop", "name": name, "uid": format!("uid-{name}"), "resourceVersion": version.to_string(),
            "labels": {"kubernetes.io/service-name": service, "other": "x"}},
        "addressType": "IPv4",
        "endpoints": nodes.iter().enumerate().map(endpoint).collect::<Vec<_>>(),
    }))
}

pub(crate) fn mk_namespace(labels: Value) -> Namespace {
    object(json!({"metadata": {"name": "shop", "labels": labels}}))
}

pub(crate) fn mk_node(name: &str, unschedulable: bool) -> Node {
    object(json!({"metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": "z"}},
        "spec": {"unschedulable": unschedulable}}))
}

/// A cluster policy with `defaults`, in mode Enforce.
pub(crate) fn mk_policy(name: &str, version: u32, defaults: Value) -> ClusterTrafficPolicy {
    object(json!({
        "metadata": {"name": name, "uid": format!("uid-{name}"), "resourceVersion": version.to_string(), "generation": 1},
        "spec": {"enforcement": {"mode": "Enforce"}, "defaults": defaults},
    }))
}

/// An index in which every kind has been listed, with one Service `web`, its endpoints, three nodes.
pub(crate) fn mk_index() -> Index {
    let mut index = Index::default();
    for event in [
        Event::Service(Delta::Listed(mk_service("web", 1, json!({})))),
        Event::Slice(Delta::Listed(mk_slice("web", "web-a", 1, &["n1", "n2", "n2"]))),
        Event::Namespace(Delta::Listed(mk_namespace(json!({})))),
        Event::Node(Delta::Listed(mk_node("n1", false))),
        Event::Node(Delta::Listed(mk_node("n2", false))),
        Event::Node(Delta::Listed(mk_node("n3", true))),
        Event::Service(Delta::Synced),
        Event::Slice(Delta::Synced),
        Event::Namespace(Delta::Synced),
        Event::Node(Delta::Synced),
        Event::ClusterPolicy(Delta::Synced),
        Event::Policy(Delta::Synced),
        Event::Traffic(Delta::Synced),
        Event::Migration(Delta::Synced),
        Event::Item(Delta::Synced),
        Event::DatapathConfig(Delta::Synced),
        Event::NodeDatapath(Delta::Synced),
        Event::CaSecret(Delta::Synced),
        Event::TlsSecret(Delta::Synced),
        Event::Validating(Delta::Synced),
        Event::Mutating(Delta::Synced),
    ] {
        index.apply(event);
    }
    index
}

pub(crate) fn web() -> Key {
    Key::new("shop", "web")
}

#[test]
fn an_index_is_synced_only_when_every_kind_was_listed() {
    let mut index = Index::default();
    assert_eq!(index.unsynced().len(), 14);
    index.apply(Event::Service(Delta::Synced));
    assert!(!index.synced() && !index.unsynced().contains(&"services"));
    assert!(mk_index().synced());
}

#[test]
fn endpoints_of_all_slices_count_and_a_moved_slice_leaves_its_service() {
    let mut index = mk_index();
    assert_eq!(index.endpoints(&web()).ready(), 3);
    index.apply(Event::Slice(Delta::Applied(mk_slice("web", "web-bb", 2, &["n3"]))));
    assert_eq!(index.endpoints(&web()).active_nodes(), 3);
    let changes = index.apply(Event::Slice(Delta::Applied(mk_slice("api", "web-bb", 3, &["n3"]))));
    assert_eq!(changes.services.into_iter().collect::<Vec<_>>(), [Key::new("shop", "api"), web()]);
    assert_eq!(index.endpoints(&web()).active_nodes(), 2);
}

#[test]
fn a_pod_with_an_address_of_each_family_counts_once() {
    let mut index = mk_index();
    let pods = json!([{"addresses": ["10.1.0.1"], "nodeName": "n1", "targetRef": {"kind": "Pod", "namespace": "shop", "name": "a"}},
        {"addresses": ["10.1.0.2"], "nodeName": "n2", "targetRef": {"kind": "Pod", "namespace": "shop", "name": "b"}}]);
    let family = |name: &str, version: u32, family: &str, pods: Value| {
        let mut slice = mk_slice("web", name, version, &[]);
        slice.address_type = family.to_owned();
        slice.endpoints = object(pods);
        Event::Slice(Delta::Applied(slice))
    };
    let mut other = pods.clone();
    other[0]["addresses"] = json!(["fd00::1"]);
    other[1]["addresses"] = json!(["fd00::2"]);
    index.apply(family("web-a", 2, "IPv4", pods));
    index.apply(family("web-v6", 3, "IPv6", other));
    assert_eq!(index.endpoints(&web()).ready(), 2);
}

#[test]
fn a_slice_that_says_the_same_changes_nothing() {
    let mut index = mk_index();
    let changes = index.apply(Event::Slice(Delta::Applied(mk_slice("web", "web-a", 9, &["n1", "n2", "n2"]))));
    assert_eq!(changes, super::Changes::default());
}

#[test]
fn what_no_decision_reads_is_not_kept() {
    let mut index = mk_index();
    let kept = index.services.get(&web()).unwrap();
    assert!(kept.metadata.managed_fields.is_none());
    assert_eq!(
        kept.metadata.annotations.as_ref().map(|all| all.keys().cloned().collect()),
        Some(vec!["note".to_owned()])
    );
    // A migration looks for the owner there.
    let mut legacy = mk_service("old", 2, json!({}));
    let key = "service.beta.kubernetes.io/external-traffic".to_owned();
    legacy.metadata.annotations.as_mut().unwrap().insert(key, "OnlyLocal".to_owned());
    let changes = index.apply(Event::Service(Delta::Applied(legacy)));
    assert!(changes.migrations);
    let kept = index.services.get(&Key::new("shop", "old")).unwrap();
    assert!(kept.metadata.managed_fields.is_some());
    assert_eq!(index.legacy_services().len(), 1);
}

#[test]
fn labels_of_a_namespace_concern_its_services_and_a_heartbeat_of_a_node_nobody() {
    let mut index = mk_index();
    let changes = index.apply(Event::Namespace(Delta::Applied(mk_namespace(json!({"team": "a"})))));
    assert!(changes.services.contains(&web()));
    let changes = index.apply(Event::Node(Delta::Applied(mk_node("n1", false))));
    assert_eq!(changes, super::Changes::default());
    assert!(index.apply(Event::Node(Delta::Applied(mk_node("n2", true)))).all_services);
    assert_eq!(index.cluster().nodes, 1);
}

#[test]
fn a_policys_status_is_no_reason_to_assess_services_but_its_spec_is() {
    let mut index = mk_index();
    let policy = mk_policy("base", 1, json!({"imbalance": {"maxRatioPermille": 1200}}));
    assert!(index.apply(Event::ClusterPolicy(Delta::Applied(policy.clone()))).all_services);
    let mut written = policy;
    written.metadata.resource_version = Some("2".to_owned());
    written.status = Some(portreeve_crds::policy::PolicyStatus::default());
    let changes = index.apply(Event::ClusterPolicy(Delta::Applied(written)));
    assert!(!changes.all_services && changes.policies);
}

#[test]
fn the_watch_never_undoes_what_our_own_write_was_answered() {
    let mut index = mk_index();
    let traffic = |version: &str, mode: &str| -> ServiceTraffic {
        object(json!({"metadata": {"namespace": "shop", "name": "web", "uid": "t", "resourceVersion": version},
            "spec": {"mode": mode}}))
    };
    index.apply(Event::Traffic(Delta::Applied(traffic("8", "Balance"))));
    assert_eq!(index.apply(Event::Traffic(Delta::Applied(traffic("7", "Off")))), super::Changes::default());
    assert_eq!(index.apply(Event::Traffic(Delta::Applied(traffic("8", "Balance")))), super::Changes::default());
    let kept = index.reports.get(&web()).map(|report| (report.version.as_deref(), report.spec.mode));
    assert_eq!(kept, Some((Some("8"), Some(DataPathMode::Balance))));
}

#[test]
fn a_service_under_migration_brings_its_migration_back_also_without_annotations() {
    let mut index = mk_index();
    assert!(!index.apply(Event::Service(Delta::Applied(mk_service("web", 2, json!({}))))).migrations);
    let item: TrafficMigrationItem = object(json!({
        "metadata": {"namespace": "shop", "name": "m.web", "uid": "i", "resourceVersion": "3"},
        "spec": {"migration": "m", "service": {"name": "web", "uid": "uid-web"}, "decision": "Safe", "reason": "",
            "before": {}, "patch": [], "inverse": []}}));
    let migration: TrafficMigration =
        object(json!({"metadata": {"name": "m", "uid": "m", "resourceVersion": "1"}, "spec": {"mode": "Plan"}}));
    index.apply(Event::Migration(Delta::Applied(migration)));
    index.apply(Event::Item(Delta::Applied(item)));
    assert!(index.apply(Event::Service(Delta::Applied(mk_service("web", 4, json!({}))))).migrations);
}

#[test]
fn taken_node_ports_name_their_services() {
    let mut index = mk_index();
    index.apply(Event::Service(Delta::Applied(mk_service("lb", 2, json!({"healthCheckNodePort": 31000})))));
    let taken = index.taken_node_ports();
    assert_eq!(taken.get(&31_000), Some(&("shop".to_owned(), "lb".to_owned())));
    assert!(taken.contains_key(&30_080));
}

#[test]
fn a_namespace_that_is_not_known_yet_can_be_selected_by_its_name() {
    let facts = Index::default().namespace("shop");
    assert_eq!(facts.labels.get("kubernetes.io/metadata.name").map(String::as_str), Some("shop"));
}
