//! ETP002: a legacy annotation contradicts the field.

use super::{Context, Hit, Rule, annotation_field};
use crate::docs::{Example, RuleDoc};
use crate::legacy::LegacyPolicy;
use crate::migration::contradiction;
use portreeve_crds::{Action, RuleId};

pub(super) const RULE: Rule = Rule { doc: &DOC, check };

const DOC: RuleDoc = RuleDoc {
    id: RuleId::ETP002,
    title: "Legacy annotation contradicts externalTrafficPolicy",
    finds: "A Service that can be reached from outside and is not headless, whose effective legacy annotation (beta before alpha) says OnlyLocal \
            while externalTrafficPolicy is Cluster, or Global while it is Local.",
    why: "The field is the law since Kubernetes 1.8 and decides what happens to packets; the annotation tells what somebody \
          once wanted. Only a person can say which is right, and to change the field moves traffic.",
    default_action: Action::Warn,
    fix: "OnlyLocal beside Cluster: plan a TrafficMigration and approve the change to Local, or remove the annotation to stay \
          with Cluster. Global beside Local: remove the annotation, which a TrafficMigration does without asking, since Local \
          stays and no traffic changes; to have Cluster, set the field.",
    mend: None,
    example: Example { bad: include_str!("examples/etp002-bad.yaml"), good: include_str!("examples/etp002-good.yaml") },
    sources: &[
        "https://github.com/kubernetes/kubernetes/pull/41162",
        "https://github.com/kubernetes/kubernetes/pull/50224",
    ],
};

fn check(context: &Context<'_>) -> Vec<Hit> {
    let Some((key, policy, _)) = contradiction(context.subject) else { return Vec::new() };
    let (value, meant) = (policy.as_str(), policy.field_value());
    let (field, fix, short) = match policy {
        LegacyPolicy::OnlyLocal => (
            "Cluster",
            "plan a TrafficMigration (kubectl portreeve migrate), which asks before it changes traffic",
            "plan a TrafficMigration",
        ),
        LegacyPolicy::Global => (
            "Local",
            "remove the annotation, as a TrafficMigration (kubectl portreeve migrate) does, which keeps Local; to have \
             Cluster, set the field",
            "remove it, or set Cluster",
        ),
    };
    vec![Hit::new(
        &annotation_field(key),
        &format!("{value} beside {field}"),
        format!("annotation {key} means {meant}, but externalTrafficPolicy is {field}, and only the field counts"),
        fix,
        ("a legacy annotation contradicts externalTrafficPolicy", short),
    )]
}
