//! ETP016: externalTrafficPolicy on a Service that cannot be reached from outside.

use super::mend::{Mend, remove};
use super::{Context, Hit, Rule};
use crate::docs::{Example, RuleDoc};
use crate::subject::Subject;
use portreeve_crds::policy::ServiceType;
use portreeve_crds::{Action, RuleId};

pub(super) const RULE: Rule = Rule { doc: &DOC, check };

const DOC: RuleDoc = RuleDoc {
    id: RuleId::ETP016,
    title: "externalTrafficPolicy on a Service that cannot be reached from outside",
    finds: "externalTrafficPolicy, whatever its value, on a ClusterIP Service without externalIPs (headless ones included) \
            or an ExternalName Service.",
    why: "The API server refuses it with \"may only be set for externally-accessible services\", and only from the second \
          apply on when the Service was a LoadBalancer before: the first apply wipes the field from the stored object, not \
          from the manifest. Such an update passes here too, with a warning that the next one will not.",
    default_action: Action::Deny,
    fix: "Remove externalTrafficPolicy from the manifest, or set type LoadBalancer if the Service is meant for the outside.",
    mend: Some("Removes externalTrafficPolicy."),
    example: Example { bad: include_str!("examples/etp016-bad.yaml"), good: include_str!("examples/etp016-good.yaml") },
    sources: &["https://github.com/kubernetes/kubernetes/issues/119150"],
};

fn check(context: &Context<'_>) -> Vec<Hit> {
    let subject = context.subject;
    let (Some(value), Some(described)) = (subject.traffic_policy(), inside_only(subject)) else { return Vec::new() };
    // What the API server accepts: the type moved inwards and the field stayed as it was; it wipes the field itself.
    let wiped = context.old.is_some_and(|old| old.externally_accessible() && old.traffic_policy() == Some(value));
    let hit = if wiped {
        Hit::new(
            "spec.externalTrafficPolicy",
            value,
            format!(
                "externalTrafficPolicy may be set only on NodePort and LoadBalancer Services; this one becomes {described}, \
                 the API server wipes the field now and will refuse the next apply of the same manifest"
            ),
            "remove spec.externalTrafficPolicy from the manifest",
            ("externalTrafficPolicy is wiped; the next apply will fail", "remove it from the manifest"),
        )
    } else {
        Hit::new(
            "spec.externalTrafficPolicy",
            value,
            format!(
                "externalTrafficPolicy may be set only on NodePort and LoadBalancer Services; this one is {described}"
            ),
            "remove spec.externalTrafficPolicy, or set spec.type to LoadBalancer",
            ("externalTrafficPolicy needs NodePort or LoadBalancer", "remove it, or change the type"),
        )
    };
    let dropped = Mend::new("the field was removed", [remove(&["spec", "externalTrafficPolicy"])]);
    vec![Hit { unchanged: wiped, ..hit.mended_by(Some(dropped)) }]
}

/// The type in words, where the Service cannot be reached from outside.
fn inside_only(subject: Subject<'_>) -> Option<&'static str> {
    match subject.kind()? {
        _ if subject.externally_accessible() => None,
        ServiceType::ClusterIP if subject.headless() => Some("headless"),
        kind => Some(kind.as_str()),
    }
}
