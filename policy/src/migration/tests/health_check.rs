//! Every row for `healthcheck-nodeport`.

use super::{BETA, PORT, REMOVE_BETA, SET_LOCAL, changes, plan, planned};
use crate::migration::{asked_health_check_port, without_health_check_port};
use crate::testing::annotated;
use portreeve_crds::migration::Decision;

const REMOVE_PORT: &str = "remove @beta.kubernetes.io~1healthcheck-nodeport";
const TO_LOCAL: &str = "{type: LoadBalancer, externalTrafficPolicy: Cluster, ports: [{port: 80, nodePort: 30080}]}";

/// The note of a plan in which the number is only dropped.
#[track_caller]
fn note_of(spec: &str, annotations: &[(&str, &str)]) -> Option<String> {
    let item = plan(spec, annotations);
    assert_eq!(asked_health_check_port(&item.patch), None);
    assert!(changes(&item.patch).contains(&REMOVE_PORT.to_owned()));
    assert!(item.notes.len() <= 1, "{:?}", item.notes);
    item.notes.into_iter().next()
}

#[test]
fn the_number_that_a_local_load_balancer_has_is_removed_without_a_word() {
    let spec = "{type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30500}";
    assert_eq!(note_of(spec, &[(BETA, "OnlyLocal"), (PORT, "30500")]), None);
    assert_eq!(note_of(spec, &[(PORT, "30500")]), None);
}

#[test]
fn another_number_on_a_local_load_balancer_is_reported_and_the_field_stays() {
    let spec = "{type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30501}";
    for value in ["OnlyLocal", "Global"] {
        let note = note_of(spec, &[(BETA, value), (PORT, "30500")]).unwrap();
        assert!(note.contains("answered on 30501, not on 30500"), "{note}");
    }
}

#[test]
fn a_local_load_balancer_without_a_number_is_reported() {
    let note = note_of("{type: LoadBalancer, externalTrafficPolicy: Local}", &[(PORT, "30500")]).unwrap();
    assert!(note.contains("spec.healthCheckNodePort is not set"), "{note}");
}

#[test]
fn a_free_number_is_asked_for_in_the_write_that_turns_to_local() {
    let item = plan(TO_LOCAL, &[(BETA, "OnlyLocal"), (PORT, "30500")]);
    assert_eq!(item.decision, Decision::NeedsApproval);
    assert_eq!(changes(&item.patch), [REMOVE_BETA, REMOVE_PORT, SET_LOCAL, "add /spec/healthCheckNodePort 30500"]);
    assert!(item.notes.is_empty(), "{:?}", item.notes);
    assert_eq!(asked_health_check_port(&item.patch), Some(30500));
}

#[test]
fn without_the_number_the_rest_of_the_patch_is_the_same() {
    let item = plan(TO_LOCAL, &[(BETA, "OnlyLocal"), (PORT, "30500")]);
    let without = without_health_check_port(&item.patch);
    assert_eq!(without, item.patch[..item.patch.len() - 1]);
    assert_eq!(asked_health_check_port(&without), None);
}

#[test]
fn both_ends_of_the_range_can_be_asked_for_and_their_neighbours_cannot() {
    for (port, asked) in [("30000", Some(30000)), ("32767", Some(32767)), ("29999", None), ("32768", None)] {
        let item = plan(TO_LOCAL, &[(BETA, "OnlyLocal"), (PORT, port)]);
        assert_eq!(asked_health_check_port(&item.patch), asked, "{port}");
        assert_eq!(item.notes.iter().any(|note| note.contains("range 30000-32767")), asked.is_none());
    }
}

#[test]
fn a_number_that_another_service_holds_is_not_asked_for() {
    let note = note_of(TO_LOCAL, &[(BETA, "OnlyLocal"), (PORT, "30999")]).unwrap();
    assert!(note.contains("Service bank/vault holds it"), "{note}");
}

#[test]
fn a_number_that_the_service_itself_is_known_to_hold_is_asked_for() {
    let mut service = annotated(TO_LOCAL, &[(BETA, "OnlyLocal"), (PORT, "30999")]);
    service.metadata.namespace = Some("bank".to_owned());
    service.metadata.name = Some("vault".to_owned());
    assert_eq!(asked_health_check_port(&planned(&service).unwrap().patch), Some(30999));
}

#[test]
fn a_number_that_is_one_of_the_services_own_node_ports_is_not_asked_for() {
    let note = note_of(TO_LOCAL, &[(BETA, "OnlyLocal"), (PORT, "30080")]).unwrap();
    assert!(note.contains("node port of this Service"), "{note}");
}

#[test]
fn a_number_on_a_load_balancer_that_stays_cluster_is_dropped() {
    for annotations in [&[(BETA, "Global"), (PORT, "30500")][..], &[(PORT, "30500")]] {
        let note = note_of(TO_LOCAL, annotations).unwrap();
        assert!(note.contains("with Cluster no node answers health checks"), "{note}");
    }
}

#[test]
fn a_number_on_a_nodeport_is_dropped_even_where_it_turns_local() {
    for policy in ["Cluster", "Local"] {
        let spec = format!("{{type: NodePort, externalTrafficPolicy: {policy}}}");
        let note = note_of(&spec, &[(BETA, "OnlyLocal"), (PORT, "30500")]).unwrap();
        assert!(note.contains("a NodePort Service has no health check node port"), "{note}");
    }
}

#[test]
fn a_number_on_a_cluster_ip_or_an_external_name_is_dropped() {
    for spec in [
        "{type: ClusterIP}",
        "{type: ClusterIP, clusterIP: None}",
        "{type: ClusterIP, externalIPs: [192.0.2.1], externalTrafficPolicy: Cluster}",
        "{type: ExternalName, externalName: example.org}",
    ] {
        let note = note_of(spec, &[(BETA, "OnlyLocal"), (PORT, "30500")]).unwrap();
        assert!(note.contains("only a LoadBalancer Service"), "{note}");
    }
}

#[test]
fn what_is_no_number_is_dropped_and_reported() {
    for value in ["http", "", "0", "70000", "-1"] {
        let note = note_of(TO_LOCAL, &[(BETA, "OnlyLocal"), (PORT, value)]).unwrap();
        assert!(note.contains("is no port"), "{note}");
    }
}

#[test]
fn a_differing_alpha_number_is_told() {
    let alpha = "service.alpha.kubernetes.io/healthcheck-nodeport";
    let item = plan(TO_LOCAL, &[(BETA, "OnlyLocal"), (alpha, "30400"), (PORT, "30500")]);
    assert_eq!(asked_health_check_port(&item.patch), Some(30500));
    assert!(item.notes[0].contains("beta is taken"), "{:?}", item.notes);
}
