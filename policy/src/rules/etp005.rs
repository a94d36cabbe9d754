//! ETP005: `Local` with too few nodes that have a ready Pod.

use super::{Context, Hit, Rule};
use crate::docs::{Example, RuleDoc};
use portreeve_crds::{Action, RuleId};

pub(super) const RULE: Rule = Rule { doc: &DOC, check };

const DOC: RuleDoc = RuleDoc {
    id: RuleId::ETP005,
    title: "Local with too few nodes that have a ready Pod",
    finds: "externalTrafficPolicy: Local on a Service with a selector, and no ready Pod, or ready Pods on fewer nodes than \
            params.minNodes of the policy. Silent while endpoints are unknown and when a Service is created: its Pods may \
            come after it.",
    why: "Under Local a node serves only from its own Pods. Without any, external traffic is dropped everywhere; with one \
          node only, the Service fails with it.",
    default_action: Action::Warn,
    fix: "Run ready Pods on more nodes (replicas and spread), or set externalTrafficPolicy to Cluster.",
    mend: None,
    example: Example { bad: include_str!("examples/etp005-bad.yaml"), good: include_str!("examples/etp005-good.yaml") },
    sources: &[
        "https://kubernetes.io/docs/reference/networking/virtual-ips/#external-traffic-policy",
        "https://github.com/kubernetes/enhancements/tree/master/keps/sig-network/1669-proxy-terminating-endpoints",
    ],
};

fn check(context: &Context<'_>) -> Vec<Hit> {
    let subject = context.subject;
    // Without a selector endpoints are made by hand, and often live outside the cluster's nodes.
    let (Some(endpoints), Some(_)) = (context.endpoints, subject.selector()) else { return Vec::new() };
    if !subject.is_local() {
        return Vec::new();
    }
    let (nodes, wanted) = (endpoints.active_nodes(), context.rule.min_nodes.unwrap_or(1).max(1));
    if nodes >= wanted {
        return Vec::new();
    }
    let problem = if nodes > 0 {
        format!(
            "externalTrafficPolicy is Local and ready Pods are on {nodes} of the {wanted} nodes that the policy wants"
        )
    } else if endpoints.serving_terminating_by_node.values().any(|count| *count > 0) {
        "externalTrafficPolicy is Local and no Pod is ready: only terminating Pods still serve external traffic"
            .to_owned()
    } else {
        "externalTrafficPolicy is Local and no Pod is ready on any node: all external traffic is dropped".to_owned()
    };
    let brief = format!("Local with ready Pods on {nodes} of {wanted} wanted nodes");
    vec![Hit::new(
        "spec.externalTrafficPolicy",
        "Local",
        problem,
        "run ready Pods on more nodes, or set spec.externalTrafficPolicy to Cluster",
        (&brief, "add Pods, or set Cluster"),
    )]
}
