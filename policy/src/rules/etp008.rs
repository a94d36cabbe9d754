//! ETP008: predicted imbalance above the policy's limit.

use super::{Context, Hit, Rule};
use crate::docs::{Example, RuleDoc};
use crate::imbalance::{LoadModel, imbalance, suggested_replicas};
use crate::text::list;
use portreeve_crds::{Action, RuleId};

pub(super) const RULE: Rule = Rule { doc: &DOC, check };

const DOC: RuleDoc = RuleDoc {
    id: RuleId::ETP008,
    title: "Predicted imbalance above the limit",
    finds: "externalTrafficPolicy: Local where the hottest Pod would get more than imbalance.maxRatioPermille of the mean, \
            under a load balancer that is even over nodes. Silent without a limit, while endpoints are unknown and when a \
            Service is created. What a policy asks of the data path does not silence it.",
    why: "A load balancer counts nodes, not Pods. With Pods 1 and 2 on two nodes the lone Pod gets half of everything: it \
          is full when a third of the Pods' capacity is still free.",
    default_action: Action::Warn,
    fix: "Spread the Pods, or choose a replica count that divides evenly.",
    mend: None,
    example: Example { bad: include_str!("examples/etp008-bad.yaml"), good: include_str!("examples/etp008-good.yaml") },
    sources: &["https://github.com/kubernetes/kubernetes/issues/97147", "https://metallb.io/usage/#traffic-policies"],
};

fn check(context: &Context<'_>) -> Vec<Hit> {
    let (Some(endpoints), Some((limit, _))) = (context.endpoints, &context.effective.max_ratio_permille) else {
        return Vec::new();
    };
    if !context.subject.is_local() {
        return Vec::new();
    }
    let pods = endpoints.local_ready_by_node();
    let Some(predicted) = imbalance(&pods, None, LoadModel::EvenNodes) else { return Vec::new() };
    if i64::from(predicted.ratio_permille) <= i64::from(*limit) {
        return Vec::new();
    }
    let counts = suggested_replicas(pods.values().sum(), context.cluster.nodes, *limit);
    let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
    let replicas = match counts.is_empty() {
        true => String::new(),
        false => format!(", or run {} replicas", list(counts.iter().map(String::as_str)).replace(", ", " or ")),
    };
    let fix = format!("spread the Pods evenly over nodes{replicas}");
    vec![Hit::new(
        "spec.externalTrafficPolicy",
        "Local",
        format!(
            "the hottest Pod would get {} ‰ of the mean load, above the limit of {limit} ‰ (it alone gets {} ‰ of all)",
            predicted.ratio_permille, predicted.hottest.share_permille
        ),
        &fix,
        (&format!("hottest Pod gets {} ‰ of the mean, limit {limit} ‰", predicted.ratio_permille), "spread the Pods"),
    )]
}
