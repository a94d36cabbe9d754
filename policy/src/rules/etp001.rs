//! ETP001: a legacy annotation is present.

use super::mend::{Mend, remove_annotation};
use super::{Context, Hit, Rule, annotation_field};
use crate::docs::{Example, RuleDoc};
use crate::migration::{PlanContext, plan_service};
use crate::text::clean;
use k8s_openapi::api::core::v1::Service;
use portreeve_crds::migration::Decision;
use portreeve_crds::names::legacy;
use portreeve_crds::{Action, RuleId};
use std::collections::BTreeMap;

pub(super) const RULE: Rule = Rule { doc: &DOC, check };

const DOC: RuleDoc = RuleDoc {
    id: RuleId::ETP001,
    title: "Legacy annotation present",
    finds: "Any of the annotations service.alpha.kubernetes.io/external-traffic, service.beta.kubernetes.io/external-traffic \
            and their two siblings named healthcheck-nodeport; one finding for each.",
    why: "Nothing has read them since Kubernetes 1.8. They look like configuration and are none: a Service that still says \
          OnlyLocal may have been Cluster for years.",
    default_action: Action::Warn,
    fix: "Plan a TrafficMigration, or remove the annotations and set the fields they stood for.",
    mend: Some(
        "Removes the annotations, but only where the migration's decision table calls that Safe. Where it would hide a \
         decision that a person has to take (OnlyLocal beside Cluster, or a value that means nothing), Fix acts as Warn.",
    ),
    example: Example { bad: include_str!("examples/etp001-bad.yaml"), good: include_str!("examples/etp001-good.yaml") },
    sources: &[
        "https://github.com/kubernetes/kubernetes/pull/50224",
        "https://github.com/kubernetes/kubernetes/issues/64124",
    ],
};

fn check(context: &Context<'_>) -> Vec<Hit> {
    let subject = context.subject;
    let present: Vec<_> = legacy::ALL.into_iter().filter_map(|key| Some((key, subject.annotation(key)?))).collect();
    let safe = !present.is_empty() && safe_to_strip(subject.service());
    let mend = |key| safe.then(|| Mend::new("the annotation was removed", [remove_annotation(key)]));
    present.into_iter().map(|(key, value)| hit(key, value).mended_by(mend(key))).collect()
}

fn hit(key: &str, value: &str) -> Hit {
    Hit::new(
        &annotation_field(key),
        value,
        format!("annotation {key} is \"{}\", and nothing has read it since Kubernetes 1.8", clean(value)),
        "plan a TrafficMigration, or remove the annotation and set the field that replaced it",
        ("a legacy annotation that nothing has read since 1.8", "migrate or remove it"),
    )
}

/// Whether the migration's decision table calls the removal Safe. Ports play no part in that: one is asked for only where
/// traffic changes.
fn safe_to_strip(service: &Service) -> bool {
    let ports = BTreeMap::new();
    let plan = PlanContext { node_port_range: 30_000..=32_767, health_check_ports_in_use: &ports };
    plan_service(service, &plan).is_some_and(|item| item.decision == Decision::Safe)
}
