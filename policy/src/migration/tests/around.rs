//! The shape of patches, the hash and the gates.

use super::{BETA, PORT, plan};
use crate::migration::{GateRefusal, gates, plan_hash, stays_in_bounds, with_resource_version};
use crate::testing::ready;
use portreeve_crds::migration::{Gates, PatchOp, PatchOperation};
use serde_json::{Value, json};

const CLUSTER: &str = "{type: LoadBalancer, externalTrafficPolicy: Cluster}";

#[test]
fn a_patch_tests_identity_and_old_values_before_it_changes_anything() {
    let item = plan(CLUSTER, &[(BETA, "OnlyLocal"), (PORT, "30500")]);
    let sent = with_resource_version(&item.patch, "7");
    insta::assert_json_snapshot!(sent, @r#"
    [
      {
        "op": "test",
        "path": "/metadata/resourceVersion",
        "value": "7"
      },
      {
        "op": "test",
        "path": "/metadata/uid",
        "value": "5ad9c5f8-7c3e-4a47-9f8e-0c4c0c1f6f3d"
      },
      {
        "op": "test",
        "path": "/metadata/annotations/service.beta.kubernetes.io~1external-traffic",
        "value": "OnlyLocal"
      },
      {
        "op": "test",
        "path": "/metadata/annotations/service.beta.kubernetes.io~1healthcheck-nodeport",
        "value": "30500"
      },
      {
        "op": "test",
        "path": "/spec/type",
        "value": "LoadBalancer"
      },
      {
        "op": "test",
        "path": "/spec/externalTrafficPolicy",
        "value": "Cluster"
      },
      {
        "op": "remove",
        "path": "/metadata/annotations/service.beta.kubernetes.io~1external-traffic"
      },
      {
        "op": "remove",
        "path": "/metadata/annotations/service.beta.kubernetes.io~1healthcheck-nodeport"
      },
      {
        "op": "replace",
        "path": "/spec/externalTrafficPolicy",
        "value": "Local"
      },
      {
        "op": "add",
        "path": "/spec/healthCheckNodePort",
        "value": 30500
      }
    ]
    "#);
}

#[test]
fn the_inverse_tests_that_the_service_is_as_it_was_left() {
    let item = plan(CLUSTER, &[(BETA, "OnlyLocal"), ("example.org/note", "mine")]);
    insta::assert_yaml_snapshot!(item.inverse, @r#"
    - op: test
      path: /metadata/uid
      value: 5ad9c5f8-7c3e-4a47-9f8e-0c4c0c1f6f3d
    - op: test
      path: /spec/type
      value: LoadBalancer
    - op: test
      path: /spec/externalTrafficPolicy
      value: Local
    - op: add
      path: /metadata/annotations/service.beta.kubernetes.io~1external-traffic
      value: OnlyLocal
    - op: replace
      path: /spec/externalTrafficPolicy
      value: Cluster
    "#);
}

fn operation(op: PatchOp, path: &str, value: Option<Value>) -> PatchOperation {
    PatchOperation { op, path: path.to_owned(), value }
}

#[test]
fn a_patch_that_touches_anything_else_is_out_of_bounds() {
    let add = |path, value| [operation(PatchOp::Add, path, Some(value))];
    assert!(stays_in_bounds(&plan(CLUSTER, &[(BETA, "OnlyLocal"), (PORT, "30500")]).patch));
    assert!(stays_in_bounds(&add("/metadata/annotations", json!({BETA: "Global"}))));
    assert!(stays_in_bounds(&[operation(PatchOp::Test, "/spec/selector/app", Some(json!("web")))]));
    for path in ["/spec/selector", "/spec/externalIPs", "/spec", "", "/metadata/annotations/example.org~1note"] {
        assert!(!stays_in_bounds(&add(path, json!({}))), "{path}");
    }
    assert!(!stays_in_bounds(&add("/metadata/annotations", json!({BETA: "Global", "example.org/note": "x"}))));
    assert!(!stays_in_bounds(&[operation(PatchOp::Remove, "/metadata/annotations", None)]));
}

#[test]
fn a_path_that_is_no_pointer_hits_nothing() {
    let broken = [operation(PatchOp::Replace, "spec/type", Some(json!("NodePort")))];
    let sent = with_resource_version(&broken, "7");
    let mut document = json!({"metadata": {"resourceVersion": "7"}, "spec": {"type": "LoadBalancer"}});
    assert!(json_patch::patch(&mut document, &sent).is_err());
}

#[test]
fn a_change_of_what_is_shown_or_hashed_voids_approvals_and_must_be_meant() {
    let item = plan(CLUSTER, &[(BETA, "OnlyLocal"), (PORT, "30500")]);
    let hash = plan_hash([&item]);
    insta::assert_snapshot!(hash, @"sha256:21fee71ed7c56e65e9e69073e18582fdbba6c2841e6ae41dff9dec397a75c43a");
    insta::assert_snapshot!(plan_hash([]), @"sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945");
}

#[test]
fn a_stored_item_has_the_hash_that_was_shown() {
    let item = plan(CLUSTER, &[(BETA, "OnlyLocal"), (PORT, "30500")]);
    let stored = serde_json::from_value(serde_json::to_value(item.to_spec("legacy")).unwrap()).unwrap();
    let read = super::PlannedItem::from_spec("shop", &stored);
    assert_eq!(read, item);
    assert_eq!(plan_hash([&read]), plan_hash([&item]));
}

#[test]
fn a_change_of_traffic_waits_for_a_ready_pod_on_a_node() {
    let item = plan(CLUSTER, &[(BETA, "OnlyLocal")]);
    let refusal = GateRefusal::TooFewNodes { ready: 0, wanted: 1 };
    assert_eq!(gates(&item, &Gates::default(), &ready(&[])), Err(refusal.clone()));
    assert_eq!(gates(&item, &Gates::default(), &ready(&[("", 3)])), Err(refusal), "Pods without a node");
    assert_eq!(gates(&item, &Gates::default(), &ready(&[("n1", 1)])), Ok(()));
}

#[test]
fn gates_hold_at_their_own_numbers() {
    let item = plan(CLUSTER, &[(BETA, "OnlyLocal")]);
    let with = |min_nodes, max_ratio_permille| Gates { min_nodes: Some(min_nodes), max_ratio_permille };
    let endpoints = ready(&[("n1", 1), ("n2", 2)]);
    assert_eq!(gates(&item, &with(2, Some(1500)), &endpoints), Ok(()));
    assert_eq!(gates(&item, &with(3, None), &endpoints), Err(GateRefusal::TooFewNodes { ready: 2, wanted: 3 }));
    assert_eq!(
        gates(&item, &with(2, Some(1499)), &endpoints),
        Err(GateRefusal::Imbalance { predicted: 1500, limit: 1499 })
    );
    assert_eq!(gates(&item, &with(0, Some(1000)), &ready(&[])), Ok(()), "no node is wanted");
}

#[test]
fn an_item_that_changes_no_traffic_passes_every_gate() {
    let item = plan(CLUSTER, &[(BETA, "Global")]);
    assert_eq!(gates(&item, &Gates { min_nodes: Some(9), max_ratio_permille: Some(1000) }, &ready(&[])), Ok(()));
}
