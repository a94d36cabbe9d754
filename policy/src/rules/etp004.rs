//! ETP004: `Local` on a NodePort Service.

use super::{Context, Hit, Rule};
use crate::docs::{Example, RuleDoc};
use portreeve_crds::policy::ServiceType;
use portreeve_crds::{Action, RuleId};

pub(super) const RULE: Rule = Rule { doc: &DOC, check };

const DOC: RuleDoc = RuleDoc {
    id: RuleId::ETP004,
    title: "Local on a NodePort Service",
    finds: "externalTrafficPolicy: Local on a Service of type NodePort. What a policy asks of the data path does not \
            silence it.",
    why: "Only LoadBalancer Services get a health check node port. Nothing tells the clients of a node port which nodes \
          have a Pod: packets to the others are dropped without an answer.",
    default_action: Action::Warn,
    fix: "Make the Service type LoadBalancer, or set externalTrafficPolicy to Cluster.",
    mend: None,
    example: Example { bad: include_str!("examples/etp004-bad.yaml"), good: include_str!("examples/etp004-good.yaml") },
    sources: &[
        "https://github.com/kubernetes/kubernetes/issues/125167",
        "https://kubernetes.io/docs/tutorials/services/source-ip/",
    ],
};

fn check(context: &Context<'_>) -> Vec<Hit> {
    let subject = context.subject;
    if subject.kind() != Some(ServiceType::NodePort) || !subject.is_local() {
        return Vec::new();
    }
    vec![Hit::new(
        "spec.externalTrafficPolicy",
        "Local",
        "externalTrafficPolicy is Local on a NodePort Service: this type has no health check node port, so clients of a \
         node without a ready Pod are dropped"
            .to_owned(),
        "set spec.type to LoadBalancer, or spec.externalTrafficPolicy to Cluster",
        ("Local on NodePort has no health check", "set type LoadBalancer, or Cluster"),
    )]
}
