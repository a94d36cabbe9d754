//! ETP015: deprecated siblings of externalTrafficPolicy.

use super::mend::{Mend, add, remove_annotation, replace};
use super::{Context, Hit, Rule, annotation_field};
use crate::docs::{Example, RuleDoc};
use crate::subject::Subject;
use crate::text::clean;
use ipnet::IpNet;
use portreeve_crds::policy::ServiceType;
use portreeve_crds::{Action, RuleId};
use std::collections::BTreeSet;

pub(super) const RULE: Rule = Rule { doc: &DOC, check };

const SOURCE_RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const TOPOLOGY: [&str; 2] = ["service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"];

const DOC: RuleDoc = RuleDoc {
    id: RuleId::ETP015,
    title: "Deprecated sibling of externalTrafficPolicy",
    finds: "The annotation service.beta.kubernetes.io/load-balancer-source-ranges; the annotations \
            service.kubernetes.io/topology-aware-hints and topology-mode; trafficDistribution: PreferClose; \
            spec.loadBalancerIP. One finding for each.",
    why: "The source-ranges annotation is still read where the field is empty, so a firewall hangs on a line that looks \
          dead. The others have successors with plainer meaning: PreferSameZone says what PreferClose does, and \
          loadBalancerIP never meant the same in two implementations.",
    default_action: Action::Warn,
    fix: "Use spec.loadBalancerSourceRanges, trafficDistribution: PreferSameZone, and the load balancer's own way to choose \
          an address.",
    mend: Some(
        "Moves the source ranges to the field on a LoadBalancer Service where the field is empty, removes the annotation \
         where the field says the same, and renames PreferClose to PreferSameZone. The other two have no successor of the \
         same meaning: Fix acts as Warn.",
    ),
    example: Example { bad: include_str!("examples/etp015-bad.yaml"), good: include_str!("examples/etp015-good.yaml") },
    sources: &[
        "https://github.com/kubernetes/enhancements/tree/master/keps/sig-network/3015-prefer-same-node",
        "https://github.com/kubernetes/kubernetes/pull/107235",
        "https://kubernetes.io/docs/concepts/services-networking/topology-aware-routing/",
    ],
};

fn check(context: &Context<'_>) -> Vec<Hit> {
    let subject = context.subject;
    let topology = TOPOLOGY.into_iter().filter_map(|key| topology(subject, key));
    [source_ranges(subject), distribution(subject), load_balancer_ip(subject)]
        .into_iter()
        .flatten()
        .chain(topology)
        .collect()
}

fn source_ranges(subject: Subject<'_>) -> Option<Hit> {
    let value = subject.annotation(SOURCE_RANGES)?;
    let field = subject.spec().and_then(|spec| spec.load_balancer_source_ranges.as_deref()).unwrap_or_default();
    let read = if field.is_empty() { "still read while the field is empty" } else { "not read beside the field" };
    let hit = Hit::new(
        &annotation_field(SOURCE_RANGES),
        value,
        format!("annotation {SOURCE_RANGES} is \"{}\": deprecated, and {read}", clean(value)),
        "move the ranges to spec.loadBalancerSourceRanges and remove the annotation",
        ("the source-ranges annotation is deprecated", "use spec.loadBalancerSourceRanges"),
    );
    Some(hit.mended_by(move_ranges(subject, value, field)))
}

/// The ranges keep their meaning, or nothing is done: a firewall rule must not change by a mend. Above all, an annotation
/// that says something else than the field stays. The field may have come from an earlier mend, and the annotation be
/// what its owner has written since.
fn move_ranges(subject: Subject<'_>, value: &str, field: &[String]) -> Option<Mend> {
    if subject.kind() != Some(ServiceType::LoadBalancer) {
        return None;
    }
    let ranges: Vec<&str> = value.split(',').map(str::trim).collect();
    let parsed = parse(&ranges)?;
    if field.is_empty() {
        let moved = add(&["spec", "loadBalancerSourceRanges"], ranges.into());
        return Some(Mend::new("moved to spec.loadBalancerSourceRanges", [moved, remove_annotation(SOURCE_RANGES)]));
    }
    let same = parse(&field.iter().map(|range| range.trim()).collect::<Vec<_>>())? == parsed;
    same.then(|| Mend::new("the annotation was removed", [remove_annotation(SOURCE_RANGES)]))
}

/// `None` unless every range is one that the API server accepts.
fn parse(ranges: &[&str]) -> Option<BTreeSet<IpNet>> {
    ranges.iter().map(|range| range.parse().ok()).collect()
}

fn topology(subject: Subject<'_>, key: &str) -> Option<Hit> {
    let value = subject.annotation(key)?;
    Some(Hit::new(
        &annotation_field(key),
        value,
        format!(
            "annotation {key} is \"{}\": superseded by spec.trafficDistribution, which it overrules while it is Auto",
            clean(value)
        ),
        "remove the annotation; set spec.trafficDistribution to PreferSameZone to keep traffic in its zone",
        ("a superseded topology annotation", "set trafficDistribution: PreferSameZone"),
    ))
}

fn distribution(subject: Subject<'_>) -> Option<Hit> {
    let value = subject.spec()?.traffic_distribution.as_deref().filter(|value| *value == "PreferClose")?;
    let hit = Hit::new(
        "spec.trafficDistribution",
        value,
        "trafficDistribution PreferClose is deprecated since Kubernetes 1.34; PreferSameZone is its new name"
            .to_owned(),
        "set spec.trafficDistribution to PreferSameZone",
        ("trafficDistribution PreferClose is deprecated", "set PreferSameZone"),
    );
    let renamed = replace(&["spec", "trafficDistribution"], "PreferSameZone".into());
    Some(hit.mended_by(Some(Mend::new("renamed to PreferSameZone", [renamed]))))
}

fn load_balancer_ip(subject: Subject<'_>) -> Option<Hit> {
    let value = subject.spec()?.load_balancer_ip.as_deref().filter(|value| !value.is_empty())?;
    Some(Hit::new(
        "spec.loadBalancerIP",
        value,
        format!(
            "loadBalancerIP ({}) is deprecated since Kubernetes 1.24 and means what each load balancer makes of it",
            clean(value)
        ),
        "remove spec.loadBalancerIP and use the annotation of your load balancer, or a Gateway",
        ("spec.loadBalancerIP is deprecated", "use the load balancer's own annotation"),
    ))
}
