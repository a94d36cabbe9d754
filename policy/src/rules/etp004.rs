//! ETP004: `Local` on a NodePort Service.

use super::{Context, Hit, Rule};
use crate::docs::{Example, RuleDoc};
use portreeve_crds::policy::{DataPathMode, OnNoLocal, ServiceType};
use portreeve_crds::{Action, RuleId};

pub(super) const RULE: Rule = Rule { doc: &DOC, check };

const DOC: RuleDoc = RuleDoc {
    id: RuleId::ETP004,
    title: "Local on a NodePort Service",
    finds: "externalTrafficPolicy: Local on a Service of type NodePort, unless the node agents forward what a node without \
            a ready Pod receives (dataPath.mode Local or Balance with onNoLocal: Forward).",
    why: "Only LoadBalancer Services get a health check node port. Nothing tells the clients of a node port which nodes \
          have a Pod: packets to the others are dropped without an answer.",
    default_action: Action::Warn,
    fix: "Make the Service type LoadBalancer, set externalTrafficPolicy to Cluster, or let the data path forward.",
    mend: None,
    example: Example { bad: include_str!("examples/etp004-bad.yaml"), good: include_str!("examples/etp004-good.yaml") },
    sources: &[
        "https://github.com/kubernetes/kubernetes/issues/125167",
        "https://kubernetes.io/docs/tutorials/services/source-ip/",
    ],
};

fn check(context: &Context<'_>) -> Vec<Hit> {
    let subject = context.subject;
    let data_path = &context.effective.data_path;
    let forwarded = matches!(data_path.mode, DataPathMode::Local | DataPathMode::Balance)
        && data_path.on_no_local == OnNoLocal::Forward;
    if subject.kind() != Some(ServiceType::NodePort) || !subject.is_local() || forwarded {
        return Vec::new();
    }
    vec![Hit::new(
        "spec.externalTrafficPolicy",
        "Local",
        "externalTrafficPolicy is Local on a NodePort Service: this type has no health check node port, so clients of a \
         node without a ready Pod are dropped"
            .to_owned(),
        "set spec.type to LoadBalancer, or set dataPath.onNoLocal to Forward in a policy",
        ("Local on NodePort has no health check", "set type LoadBalancer, or forward"),
    )]
}
