//! The table, one row a test; what is around it in the modules below.

mod around;
mod health_check;
mod owner;
pub(super) mod server;
mod way_back;

use super::{PlanContext, PlannedItem, plan_service};
use crate::testing::{annotated, labelled, service};
use k8s_openapi::api::core::v1::Service;
use portreeve_crds::migration::{Decision, PatchOperation};
use std::collections::BTreeMap;

const BETA: &str = "service.beta.kubernetes.io/external-traffic";
const ALPHA: &str = "service.alpha.kubernetes.io/external-traffic";
const PORT: &str = "service.beta.kubernetes.io/healthcheck-nodeport";

/// Plans in a cluster with the usual range, where Service `bank/vault` holds 30999.
fn planned(service: &Service) -> Option<PlannedItem> {
    let held = BTreeMap::from([(30999, ("bank".to_owned(), "vault".to_owned()))]);
    plan_service(service, &PlanContext { node_port_range: 30000..=32767, health_check_ports_in_use: &held })
}

fn plan(spec: &str, annotations: &[(&str, &str)]) -> PlannedItem {
    planned(&annotated(spec, annotations)).expect("a legacy annotation is there")
}

/// Changing operations, as `op path value`.
fn changes(patch: &[PatchOperation]) -> Vec<String> {
    let written = |operation: &PatchOperation| {
        let op = format!("{:?}", operation.op).to_lowercase();
        let path = operation.path.replace("/metadata/annotations/service.", "@");
        operation.value.as_ref().map_or(format!("{op} {path}"), |value| format!("{op} {path} {value}"))
    };
    patch.iter().map(written).filter(|line| !line.starts_with("test ")).collect()
}

const REMOVE_BETA: &str = "remove @beta.kubernetes.io~1external-traffic";
const SET_LOCAL: &str = r#"replace /spec/externalTrafficPolicy "Local""#;

#[track_caller]
fn assert_only_removed(item: &PlannedItem) {
    assert_eq!(item.decision, Decision::Safe, "{}", item.reason);
    assert_eq!(changes(&item.patch), [REMOVE_BETA]);
}

#[track_caller]
fn assert_needs_approval(item: &PlannedItem) {
    assert_eq!(item.decision, Decision::NeedsApproval, "{}", item.reason);
    assert_eq!(changes(&item.patch), [REMOVE_BETA, SET_LOCAL]);
}

#[test]
fn onlylocal_on_a_nodeport_that_is_local_is_removed() {
    assert_only_removed(&plan("{type: NodePort, externalTrafficPolicy: Local}", &[(BETA, "OnlyLocal")]));
}

#[test]
fn onlylocal_on_a_load_balancer_that_is_local_is_removed() {
    let spec = "{type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 30500}";
    assert_only_removed(&plan(spec, &[(BETA, "OnlyLocal")]));
}

#[test]
fn onlylocal_on_a_nodeport_that_is_cluster_needs_approval() {
    assert_needs_approval(&plan("{type: NodePort, externalTrafficPolicy: Cluster}", &[(BETA, "OnlyLocal")]));
}

#[test]
fn onlylocal_on_a_load_balancer_that_is_cluster_needs_approval() {
    assert_needs_approval(&plan("{type: LoadBalancer, externalTrafficPolicy: Cluster}", &[(BETA, "OnlyLocal")]));
}

#[test]
fn global_on_a_service_that_is_cluster_is_removed() {
    for kind in ["NodePort", "LoadBalancer"] {
        assert_only_removed(&plan(&format!("{{type: {kind}, externalTrafficPolicy: Cluster}}"), &[(BETA, "Global")]));
    }
}

#[test]
fn global_on_a_service_that_is_local_is_removed_and_the_field_stays() {
    for kind in ["NodePort", "LoadBalancer"] {
        let item = plan(&format!("{{type: {kind}, externalTrafficPolicy: Local}}"), &[(BETA, "Global")]);
        assert_only_removed(&item);
        assert!(item.reason.contains("it stays"), "{}", item.reason);
    }
}

#[test]
fn any_value_on_a_service_without_external_traffic_is_removed() {
    for spec in [
        "{type: ClusterIP, clusterIP: 10.0.0.7}",
        "{type: ExternalName, externalName: example.org}",
        "{type: ClusterIP, clusterIP: None}",
        "{type: ClusterIP, clusterIP: None, externalIPs: [192.0.2.1]}",
    ] {
        for value in ["OnlyLocal", "Global"] {
            assert_only_removed(&plan(spec, &[(BETA, value)]));
        }
    }
}

#[test]
fn onlylocal_on_a_cluster_ip_with_external_ips_that_is_cluster_needs_approval() {
    let spec = "{type: ClusterIP, externalIPs: [192.0.2.1], externalTrafficPolicy: Cluster}";
    assert_needs_approval(&plan(spec, &[(BETA, "OnlyLocal")]));
}

#[test]
fn other_rows_of_a_cluster_ip_with_external_ips_are_as_for_a_nodeport() {
    for (policy, value) in [("Local", "OnlyLocal"), ("Local", "Global"), ("Cluster", "Global")] {
        let spec = format!("{{type: ClusterIP, externalIPs: [192.0.2.1], externalTrafficPolicy: {policy}}}");
        assert_only_removed(&plan(&spec, &[(BETA, value)]));
    }
}

#[test]
fn any_other_value_is_invalid_and_nothing_is_touched() {
    for spec in [
        "{type: LoadBalancer, externalTrafficPolicy: Cluster}",
        "{type: NodePort, externalTrafficPolicy: Local}",
        "{type: ClusterIP}",
        "{type: ClusterIP, clusterIP: None}",
        "{type: ExternalName}",
    ] {
        for value in ["onlylocal", "Local", "", "OnlyLocal "] {
            let item = plan(spec, &[(BETA, value), (PORT, "30500")]);
            assert_eq!(item.decision, Decision::Invalid, "{spec} {value:?}");
            assert!(item.patch.is_empty() && item.inverse.is_empty() && item.notes.is_empty());
        }
    }
}

#[test]
fn a_field_or_a_type_that_nobody_knows_is_invalid() {
    let field = plan("{type: NodePort, externalTrafficPolicy: OnlyLocal}", &[(BETA, "OnlyLocal")]);
    let kind = plan("{type: Nodeport}", &[(BETA, "OnlyLocal")]);
    assert_eq!((field.decision, kind.decision), (Decision::Invalid, Decision::Invalid));
    assert!(field.patch.is_empty() && kind.patch.is_empty());
}

#[test]
fn beta_decides_where_alpha_differs_and_both_are_removed() {
    let spec = "{type: NodePort, externalTrafficPolicy: Cluster}";
    let item = plan(spec, &[(ALPHA, "OnlyLocal"), (BETA, "Global")]);
    assert_eq!(item.decision, Decision::Safe);
    assert_eq!(changes(&item.patch), ["remove @alpha.kubernetes.io~1external-traffic", REMOVE_BETA]);
    assert!(item.notes[0].contains("beta is taken"), "{:?}", item.notes);
    let item = plan(spec, &[(ALPHA, "Global"), (BETA, "OnlyLocal")]);
    assert_eq!(item.decision, Decision::NeedsApproval);
}

#[test]
fn alpha_alone_decides_as_beta_does() {
    let item = plan("{type: NodePort, externalTrafficPolicy: Cluster}", &[(ALPHA, "OnlyLocal")]);
    assert_eq!(item.decision, Decision::NeedsApproval);
    assert!(item.notes.is_empty());
}

#[test]
fn a_lone_healthcheck_nodeport_changes_no_traffic() {
    for spec in ["{type: LoadBalancer, externalTrafficPolicy: Cluster}", "{type: NodePort}", "{type: ClusterIP}"] {
        let item = plan(spec, &[(PORT, "30500")]);
        assert_eq!(item.decision, Decision::Safe);
        assert_eq!(changes(&item.patch), ["remove @beta.kubernetes.io~1healthcheck-nodeport"]);
    }
}

#[test]
fn a_manifest_without_the_field_reads_as_cluster() {
    let item = plan("{type: NodePort}", &[(BETA, "OnlyLocal")]);
    assert_eq!(item.decision, Decision::NeedsApproval);
    assert_eq!(changes(&item.patch)[1], r#"add /spec/externalTrafficPolicy "Local""#);
    assert_eq!(changes(&item.inverse)[1], "remove /spec/externalTrafficPolicy");
}

#[test]
fn a_service_without_legacy_annotations_is_not_planned() {
    assert_eq!(planned(&service("{type: LoadBalancer, externalTrafficPolicy: Local}")), None);
}

#[test]
fn a_service_that_asks_to_be_left_alone_is_not_planned() {
    let service = annotated("{type: NodePort}", &[(BETA, "OnlyLocal")]);
    assert_eq!(planned(&labelled(service, &[("portreeve.io/ignore", "true")])), None);
}
