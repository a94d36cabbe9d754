//! ETP013: externalIPs in use.

use super::{Context, Hit, Rule};
use crate::docs::{Example, RuleDoc};
use crate::text::list;
use portreeve_crds::{Action, RuleId};

pub(super) const RULE: Rule = Rule { doc: &DOC, check };

const DOC: RuleDoc = RuleDoc {
    id: RuleId::ETP013,
    title: "externalIPs in use",
    finds: "A Service of any type with spec.externalIPs.",
    why: "Whoever may create a Service can name any address there and take the cluster's traffic to it (CVE-2020-8554). \
          The field is deprecated since Kubernetes 1.36.",
    default_action: Action::Warn,
    fix: "Use type LoadBalancer with an implementation that hands out addresses, or a Gateway.",
    mend: None,
    example: Example { bad: include_str!("examples/etp013-bad.yaml"), good: include_str!("examples/etp013-good.yaml") },
    sources: &[
        "https://github.com/kubernetes/kubernetes/issues/97076",
        "https://github.com/kubernetes/enhancements/issues/5707",
    ],
};

fn check(context: &Context<'_>) -> Vec<Hit> {
    let addresses = context.subject.external_ips();
    if addresses.is_empty() {
        return Vec::new();
    }
    let hit = Hit::new(
        "spec.externalIPs",
        "",
        format!(
            "externalIPs ({}) let a Service take traffic to any address (CVE-2020-8554) and are deprecated since \
             Kubernetes 1.36",
            list(addresses.iter().map(String::as_str))
        ),
        "remove spec.externalIPs and set spec.type to LoadBalancer, or use a Gateway",
        ("externalIPs are unsafe (CVE-2020-8554)", "remove them, use type LoadBalancer"),
    );
    vec![Hit { values: addresses.iter().cloned().collect(), ..hit }]
}
