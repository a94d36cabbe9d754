//! ETP002: a legacy annotation contradicts the field.

use super::{Context, Hit, Rule, annotation_field};
use crate::docs::{Example, RuleDoc};
use portreeve_crds::names::legacy;
use portreeve_crds::{Action, RuleId};

pub(super) const RULE: Rule = Rule { doc: &DOC, check };

const DOC: RuleDoc = RuleDoc {
    id: RuleId::ETP002,
    title: "Legacy annotation contradicts externalTrafficPolicy",
    finds: "A Service that can be reached from outside, whose effective legacy annotation (beta before alpha) says OnlyLocal \
            while externalTrafficPolicy is Cluster, or Global while it is Local.",
    why: "The field is the law since Kubernetes 1.8 and decides what happens to packets; the annotation tells what somebody \
          once wanted. Only a person can say which is right, and to change the field moves traffic.",
    default_action: Action::Warn,
    fix: "Plan a TrafficMigration and approve or refuse the change.",
    mend: None,
    example: Example { bad: include_str!("examples/etp002-bad.yaml"), good: include_str!("examples/etp002-good.yaml") },
    sources: &[
        "https://github.com/kubernetes/kubernetes/pull/41162",
        "https://github.com/kubernetes/kubernetes/pull/50224",
    ],
};

fn check(context: &Context<'_>) -> Vec<Hit> {
    let subject = context.subject;
    if !subject.externally_accessible() {
        return Vec::new();
    }
    let keys = [legacy::EXTERNAL_TRAFFIC_BETA, legacy::EXTERNAL_TRAFFIC_ALPHA];
    let Some((key, value)) = keys.into_iter().find_map(|key| Some((key, subject.annotation(key)?))) else {
        return Vec::new();
    };
    let field = subject.traffic_policy().unwrap_or("Cluster");
    let meant = match (value, field) {
        ("OnlyLocal", "Cluster") => "Local",
        ("Global", "Local") => "Cluster",
        _ => return Vec::new(),
    };
    vec![Hit::new(
        &annotation_field(key),
        &format!("{value} beside {field}"),
        format!("annotation {key} means {meant}, but externalTrafficPolicy is {field}, and only the field counts"),
        "plan a TrafficMigration (kubectl portreeve migrate), which asks before it changes traffic",
        ("a legacy annotation contradicts externalTrafficPolicy", "plan a TrafficMigration"),
    )]
}
