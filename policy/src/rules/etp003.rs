//! ETP003: `Local` on a ClusterIP Service with externalIPs.

use super::mend::{Mend, replace};
use super::{Context, Hit, Rule};
use crate::docs::{Example, RuleDoc};
use portreeve_crds::policy::ServiceType;
use portreeve_crds::{Action, RuleId};

pub(super) const RULE: Rule = Rule { doc: &DOC, check };

const DOC: RuleDoc = RuleDoc {
    id: RuleId::ETP003,
    title: "Local on a ClusterIP Service with externalIPs",
    finds: "externalTrafficPolicy: Local on a Service of type ClusterIP that has externalIPs. Cluster is not found: it is \
            what the API server fills in there.",
    why: "Whoever routes the external IPs knows nothing of endpoints: no health check node port exists for this type, so a \
          node without a ready Pod receives packets and drops them.",
    default_action: Action::Warn,
    fix: "Set externalTrafficPolicy to Cluster (or leave it out), or make the Service type LoadBalancer.",
    mend: Some("Sets externalTrafficPolicy to Cluster."),
    example: Example { bad: include_str!("examples/etp003-bad.yaml"), good: include_str!("examples/etp003-good.yaml") },
    sources: &[
        "https://github.com/kubernetes/kubernetes/issues/119150",
        "https://kubernetes.io/docs/concepts/services-networking/service/#external-ips",
    ],
};

fn check(context: &Context<'_>) -> Vec<Hit> {
    let subject = context.subject;
    if subject.kind() != Some(ServiceType::ClusterIP) || !subject.is_local() {
        return Vec::new();
    }
    let hit = Hit::new(
        "spec.externalTrafficPolicy",
        "Local",
        "externalTrafficPolicy is Local on a ClusterIP Service with externalIPs: no health check tells who routes those \
         addresses which nodes have a Pod"
            .to_owned(),
        "set spec.externalTrafficPolicy to Cluster, or spec.type to LoadBalancer",
        ("Local on ClusterIP with externalIPs", "set Cluster, or type LoadBalancer"),
    );
    let cluster = replace(&["spec", "externalTrafficPolicy"], "Cluster".into());
    vec![hit.mended_by(Some(Mend::new("externalTrafficPolicy was set to Cluster", [cluster])))]
}
