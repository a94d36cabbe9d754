//! ETP006: `Cluster` where a policy requires the client's address.

use super::{Context, Hit, Rule};
use crate::docs::{Example, RuleDoc};
use crate::text::clean;
use portreeve_crds::policy::ServiceType;
use portreeve_crds::{Action, RuleId};

pub(super) const RULE: Rule = Rule { doc: &DOC, check };

const DOC: RuleDoc = RuleDoc {
    id: RuleId::ETP006,
    title: "Cluster where a policy requires the client's address",
    finds: "A NodePort or LoadBalancer Service whose externalTrafficPolicy is Cluster, set or defaulted, while the \
            effective policy says externalTrafficPolicy.required: Local.",
    why: "Under Cluster a node may forward a flow to another node and then hides the client's address behind its own: \
          access lists, rate limits and audit logs of the Pods see nodes.",
    default_action: Action::Audit,
    fix: "Set externalTrafficPolicy to Local, once ready Pods run on enough nodes.",
    mend: None,
    example: Example { bad: include_str!("examples/etp006-bad.yaml"), good: include_str!("examples/etp006-good.yaml") },
    sources: &["https://kubernetes.io/docs/tutorials/services/source-ip/"],
};

fn check(context: &Context<'_>) -> Vec<Hit> {
    let subject = context.subject;
    let outside = matches!(subject.kind(), Some(ServiceType::NodePort | ServiceType::LoadBalancer));
    let Some(policy) = context.effective.required_local.as_ref().filter(|_| outside && !subject.is_local()) else {
        return Vec::new();
    };
    vec![Hit::new(
        "spec.externalTrafficPolicy",
        subject.traffic_policy().unwrap_or("Cluster"),
        format!(
            "externalTrafficPolicy is Cluster, which hides the client's address, and {} requires Local",
            clean(&policy.short())
        ),
        // No mend: Local moves traffic, and drops it on nodes without a Pod. That is a person's decision.
        "set spec.externalTrafficPolicy to Local",
        ("Cluster hides the client's address, which a policy requires", "set Local"),
    )]
}
