//! Who would bring a removed annotation back.
//!
//! Marks of a deployment tool come first, whoever wrote the annotation itself: that the tool would leave it alone cannot
//! be known from here, and to only propose is the harmless mistake. Argo CD and Flux come before Helm, because they
//! deploy charts too.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use portreeve_crds::migration::Owner;
use portreeve_crds::names::legacy;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Labels or annotations that a tool leaves on what it deploys. Argo CD's older default label
/// `app.kubernetes.io/instance` is not here: charts set it as well.
const MARKS: [(&str, Owner); 5] = [
    ("argocd.argoproj.io/tracking-id", Owner::ArgoCD),
    ("argocd.argoproj.io/instance", Owner::ArgoCD),
    ("kustomize.toolkit.fluxcd.io/name", Owner::Flux),
    ("helm.toolkit.fluxcd.io/name", Owner::Flux),
    ("meta.helm.sh/release-name", Owner::Helm),
];

pub(super) fn of(service: &Service) -> Option<Owner> {
    marked(service).or_else(|| managing(service)).or_else(|| last_applied(service))
}

fn marked(service: &Service) -> Option<Owner> {
    let metadata = &service.metadata;
    let maps = || metadata.labels.iter().chain(&metadata.annotations);
    let mark = MARKS.iter().find(|(key, _)| maps().any(|map| map.contains_key(*key)));
    let by_helm = || {
        let manager = metadata.labels.as_ref()?.get("app.kubernetes.io/managed-by")?;
        (manager == "Helm").then_some(Owner::Helm)
    };
    mark.map(|(_, owner)| *owner).or_else(by_helm)
}

/// The field manager of a legacy annotation, where it is a tool that holds the manifest. `kubectl annotate` and
/// controllers do not bring anything back.
fn managing(service: &Service) -> Option<Owner> {
    let entries = service.metadata.managed_fields.as_deref().unwrap_or_default();
    entries.iter().filter(|entry| holds_annotation(entry)).find_map(|entry| {
        match (entry.manager.as_deref()?, entry.operation.as_deref()) {
            ("argocd-controller" | "argocd-application-controller", _) => Some(Owner::ArgoCD),
            ("kustomize-controller" | "helm-controller", _) => Some(Owner::Flux),
            ("helm", _) => Some(Owner::Helm),
            ("kubectl", Some("Apply")) => Some(Owner::KubectlApply),
            _ => None,
        }
    })
}

fn holds_annotation(entry: &ManagedFieldsEntry) -> bool {
    let fields = entry.fields_v1.as_ref().map(|fields| &fields.0["f:metadata"]["f:annotations"]);
    fields.is_some_and(|fields| legacy::ALL.iter().any(|key| fields.get(format!("f:{key}")).is_some()))
}

fn last_applied(service: &Service) -> Option<Owner> {
    let text = service.metadata.annotations.as_ref()?.get(LAST_APPLIED)?;
    let holds = match serde_json::from_str::<serde_json::Value>(text) {
        Ok(applied) => legacy::ALL.iter().any(|key| applied["metadata"]["annotations"].get(key).is_some()),
        // Unreadable, but what it names may still come back.
        Err(_) => legacy::ALL.iter().any(|key| text.contains(key)),
    };
    holds.then_some(Owner::KubectlApply)
}
