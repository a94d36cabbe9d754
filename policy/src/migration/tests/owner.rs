//! Who would bring the annotation back.

use super::{BETA, planned};
use crate::testing::{annotated, labelled};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use portreeve_crds::migration::Owner;
use serde_json::json;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn owner(service: &Service) -> Option<Owner> {
    planned(service).unwrap().owner
}

fn with(annotation: (&str, &str)) -> Service {
    annotated("{type: NodePort}", &[(BETA, "OnlyLocal"), annotation])
}

fn managed(manager: &str, operation: &str, annotation: &str) -> Service {
    let fields = json!({"f:metadata": {"f:annotations": {format!("f:{annotation}"): {}}}});
    let entry = ManagedFieldsEntry {
        manager: Some(manager.to_owned()),
        operation: Some(operation.to_owned()),
        fields_v1: Some(FieldsV1(fields)),
        ..ManagedFieldsEntry::default()
    };
    let mut service = annotated("{type: NodePort}", &[(BETA, "OnlyLocal")]);
    service.metadata.managed_fields = Some(vec![entry]);
    service
}

#[test]
fn marks_of_deployment_tools_name_the_owner() {
    let plain = || annotated("{type: NodePort}", &[(BETA, "OnlyLocal")]);
    for (service, expected) in [
        (with(("argocd.argoproj.io/tracking-id", "shop:/Service:shop/web")), Owner::ArgoCD),
        (labelled(plain(), &[("argocd.argoproj.io/instance", "shop")]), Owner::ArgoCD),
        (labelled(plain(), &[("kustomize.toolkit.fluxcd.io/name", "shop")]), Owner::Flux),
        (labelled(plain(), &[("helm.toolkit.fluxcd.io/name", "shop")]), Owner::Flux),
        (with(("meta.helm.sh/release-name", "shop")), Owner::Helm),
        (labelled(plain(), &[("app.kubernetes.io/managed-by", "Helm")]), Owner::Helm),
    ] {
        assert_eq!(owner(&service), Some(expected));
    }
}

#[test]
fn a_chart_that_argo_or_flux_deploys_belongs_to_them() {
    let helm = ("app.kubernetes.io/managed-by", "Helm");
    let argo = labelled(with(("argocd.argoproj.io/tracking-id", "x")), &[helm]);
    let flux = labelled(with(("meta.helm.sh/release-name", "shop")), &[helm, ("helm.toolkit.fluxcd.io/name", "shop")]);
    assert_eq!((owner(&argo), owner(&flux)), (Some(Owner::ArgoCD), Some(Owner::Flux)));
}

#[test]
fn a_label_that_any_chart_may_set_is_no_mark() {
    let service = annotated("{type: NodePort}", &[(BETA, "OnlyLocal")]);
    let labels = [("app.kubernetes.io/instance", "shop"), ("app.kubernetes.io/managed-by", "make")];
    assert_eq!(owner(&labelled(service, &labels)), None);
}

#[test]
fn the_field_manager_of_the_annotation_names_the_owner() {
    for (manager, operation, expected) in [
        ("argocd-controller", "Update", Some(Owner::ArgoCD)),
        ("kustomize-controller", "Apply", Some(Owner::Flux)),
        ("helm", "Update", Some(Owner::Helm)),
        ("kubectl", "Apply", Some(Owner::KubectlApply)),
        ("kubectl-annotate", "Update", None),
        ("kubectl", "Update", None),
    ] {
        assert_eq!(owner(&managed(manager, operation, BETA)), expected, "{manager} {operation}");
    }
}

#[test]
fn the_manager_of_another_annotation_is_not_the_owner() {
    assert_eq!(owner(&managed("helm", "Update", "example.org/note")), None);
}

#[test]
fn kubectl_apply_owns_what_its_last_applied_holds() {
    let applied = |annotations| json!({"metadata": {"annotations": annotations}}).to_string();
    let holding = applied(json!({BETA: "OnlyLocal"}));
    let other = applied(json!({"example.org/note": BETA}));
    assert_eq!(owner(&with((LAST_APPLIED, &holding))), Some(Owner::KubectlApply));
    assert_eq!(owner(&with((LAST_APPLIED, &other))), None);
    assert_eq!(owner(&with((LAST_APPLIED, "null"))), None);
}

#[test]
fn an_unreadable_last_applied_owns_what_it_mentions() {
    assert_eq!(owner(&with((LAST_APPLIED, &format!("{{{BETA}")))), Some(Owner::KubectlApply));
    assert_eq!(owner(&with((LAST_APPLIED, "{"))), None);
}
