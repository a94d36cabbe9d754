//! Undoing, and refusing to.

use super::server::{ALLOCATED, write};
use super::{BETA, PORT, changes, plan, planned};
use crate::migration::{Leftover, PlannedItem, RollbackRefusal, leftover, rollback_patch, with_resource_version};
use crate::testing::annotated;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};

const CLUSTER: &str = "{type: LoadBalancer, externalTrafficPolicy: Cluster}";

/// A Service, its plan, and the Service after the plan was applied.
fn applied(spec: &str, annotations: &[(&str, &str)]) -> (Service, PlannedItem, Service) {
    let mut service = annotated(spec, annotations);
    service.metadata.resource_version = Some("7".to_owned());
    let item = planned(&service).unwrap();
    let after = write(&service, &with_resource_version(&item.patch, "7")).unwrap();
    (service, item, after)
}

fn undone(item: &PlannedItem, live: &Service) -> Result<Service, RollbackRefusal> {
    let patch = rollback_patch(&item.to_spec("legacy"), live)?;
    Ok(write(live, &with_resource_version(&patch, "7")).unwrap())
}

fn spec_of(service: &mut Service) -> &mut ServiceSpec {
    service.spec.as_mut().unwrap()
}

#[test]
fn a_change_of_traffic_is_undone_exactly() {
    let (before, item, after) = applied(CLUSTER, &[(BETA, "OnlyLocal"), (PORT, "30500")]);
    assert_eq!(after.spec.as_ref().unwrap().health_check_node_port, Some(30500));
    assert_eq!(after.metadata.annotations, None);
    assert_eq!(undone(&item, &after).unwrap(), before);
}

#[test]
fn a_number_that_the_api_server_chose_is_released_again() {
    let (before, item, after) = applied(CLUSTER, &[(BETA, "OnlyLocal")]);
    assert_eq!(after.spec.as_ref().unwrap().health_check_node_port, Some(i32::from(ALLOCATED)));
    assert_eq!(undone(&item, &after).unwrap(), before);
}

#[test]
fn annotations_of_others_survive_both_ways() {
    let (before, item, mut after) = applied(CLUSTER, &[(BETA, "OnlyLocal"), ("example.org/note", "mine")]);
    assert_eq!(undone(&item, &after).unwrap(), before);
    after.metadata.annotations.as_mut().unwrap().insert("example.org/new".to_owned(), "yours".to_owned());
    let back = undone(&item, &after).unwrap().metadata.annotations.unwrap();
    assert_eq!(back.keys().map(String::as_str).collect::<Vec<_>>(), ["example.org/new", "example.org/note", BETA]);
}

#[test]
fn an_annotation_map_made_since_is_not_overwritten() {
    let (_, item, mut after) = applied(CLUSTER, &[(BETA, "OnlyLocal")]);
    after.metadata.annotations = Some(crate::testing::map(&[("example.org/new", "yours")]));
    assert_eq!(undone(&item, &after).unwrap().metadata.annotations.unwrap().len(), 2);
}

#[test]
fn what_kubectl_keeps_survives_where_it_is_all_that_is_left() {
    let kept = "kubectl.kubernetes.io/last-applied-configuration";
    let (before, item, after) = applied(CLUSTER, &[(BETA, "OnlyLocal"), (kept, "{}")]);
    assert_eq!(undone(&item, &after).unwrap(), before);
}

#[test]
fn a_safe_item_gets_its_annotations_back_whatever_the_field_says_now() {
    let (_, item, mut after) = applied("{type: NodePort, externalTrafficPolicy: Local}", &[(BETA, "OnlyLocal")]);
    spec_of(&mut after).external_traffic_policy = Some("Cluster".to_owned());
    let back = undone(&item, &after).unwrap();
    assert_eq!(back.spec.unwrap().external_traffic_policy.as_deref(), Some("Cluster"));
    assert_eq!(back.metadata.annotations.unwrap()[BETA], "OnlyLocal");
}

#[test]
fn an_annotation_that_is_back_already_stays() {
    let (before, item, mut after) = applied(CLUSTER, &[(BETA, "OnlyLocal")]);
    after.metadata.annotations = before.metadata.annotations.clone();
    assert_eq!(undone(&item, &after).unwrap(), before);
}

#[test]
fn an_annotation_that_is_back_with_another_value_refuses() {
    let (_, item, mut after) = applied(CLUSTER, &[(BETA, "OnlyLocal")]);
    after.metadata.annotations = Some(crate::testing::map(&[(BETA, "Global")]));
    let refusal = RollbackRefusal::AnnotationChanged { key: BETA.to_owned(), live: "Global".to_owned() };
    assert_eq!(undone(&item, &after), Err(refusal));
}

#[test]
fn a_service_made_anew_refuses() {
    let (_, item, mut after) = applied(CLUSTER, &[(BETA, "OnlyLocal")]);
    after.metadata.uid = Some("another".to_owned());
    assert!(matches!(undone(&item, &after), Err(RollbackRefusal::OtherService { .. })));
}

#[test]
fn a_field_that_is_back_already_stays_and_the_annotations_follow() {
    let (before, item, mut after) = applied(CLUSTER, &[(BETA, "OnlyLocal")]);
    let spec = spec_of(&mut after);
    spec.external_traffic_policy = Some("Cluster".to_owned());
    spec.health_check_node_port = None;
    assert_eq!(undone(&item, &after).unwrap(), before);
}

#[test]
fn a_field_that_is_neither_as_it_was_left_nor_as_it_was_before_refuses() {
    let (_, item, mut after) = applied(CLUSTER, &[(BETA, "OnlyLocal")]);
    spec_of(&mut after).external_traffic_policy = None;
    assert_eq!(undone(&item, &after), Err(RollbackRefusal::PolicyChanged { live: "absent".to_owned() }));
}

#[test]
fn what_admission_took_out_of_an_undo_is_found() {
    let (before, item, after) = applied(CLUSTER, &[(BETA, "OnlyLocal"), (PORT, "30500")]);
    let item = item.to_spec("legacy");
    assert!(leftover(&item, &before).is_empty());
    let mut stripped = before.clone();
    stripped.metadata.annotations = Some(crate::testing::map(&[(PORT, "30501")]));
    assert_eq!(leftover(&item, &stripped), Leftover { policy: None, annotations: vec![BETA, PORT] });
    let untouched = Leftover { policy: Some(Some("Local".to_owned())), annotations: vec![BETA, PORT] };
    assert_eq!(leftover(&item, &after), untouched);
}

#[test]
fn a_field_that_the_change_did_not_concern_is_no_leftover() {
    let (mut before, item, _) = applied("{type: NodePort, externalTrafficPolicy: Local}", &[(BETA, "OnlyLocal")]);
    spec_of(&mut before).external_traffic_policy = Some("Cluster".to_owned());
    assert!(leftover(&item.to_spec("legacy"), &before).is_empty());
}

#[test]
fn another_type_refuses() {
    let (_, item, mut after) = applied(CLUSTER, &[(BETA, "OnlyLocal")]);
    spec_of(&mut after).type_ = Some("NodePort".to_owned());
    let refusal = RollbackRefusal::TypeChanged { planned: "LoadBalancer".to_owned(), live: "NodePort".to_owned() };
    assert_eq!(undone(&item, &after), Err(refusal));
}

#[test]
fn an_item_that_changed_nothing_has_nothing_to_undo() {
    let service = annotated(CLUSTER, &[(BETA, "local")]);
    let item = planned(&service).unwrap();
    assert_eq!(undone(&item, &service), Err(RollbackRefusal::NothingChanged));
}

#[test]
fn a_stored_item_cannot_restore_what_is_no_legacy_annotation() {
    let (_, item, after) = applied(CLUSTER, &[(BETA, "OnlyLocal")]);
    let mut spec = item.to_spec("legacy");
    spec.before.annotations.insert("example.org/owner".to_owned(), "mallory".to_owned());
    let patch = rollback_patch(&spec, &after).unwrap();
    assert!(!format!("{patch:?}").contains("mallory"));
}

#[test]
fn the_recorded_inverse_puts_annotations_back_one_by_one_where_others_remain() {
    let alone = plan(CLUSTER, &[(BETA, "OnlyLocal")]);
    let among = plan(CLUSTER, &[(BETA, "OnlyLocal"), ("example.org/note", "mine")]);
    let to_cluster = r#"replace /spec/externalTrafficPolicy "Cluster""#.to_owned();
    let whole = format!(r#"add /metadata/annotations {{"{BETA}":"OnlyLocal"}}"#);
    assert_eq!(changes(&alone.inverse), [whole, to_cluster.clone()]);
    let single = r#"add @beta.kubernetes.io~1external-traffic "OnlyLocal""#.to_owned();
    assert_eq!(changes(&among.inverse), [single, to_cluster]);
}
