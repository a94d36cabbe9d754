//! Pods that nothing is injected into, whatever the Services say.

use super::{HOSTNAME, SkipReason};
use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec};
use portreeve_crds::names;
use std::collections::BTreeSet;

/// Whether the Pod's own label asks to leave it alone.
pub(super) fn ignored(pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(names::LABEL_IGNORE)).is_some_and(|value| value == "true")
}

pub(super) fn check(pod: &Pod) -> Result<(), SkipReason> {
    let none = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&none);
    let owners = pod.metadata.owner_references.as_deref().unwrap_or_default();
    let controller = owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.kind.as_str());
    let mirror = |pod: &Pod| Some(pod.metadata.annotations.as_ref()?.contains_key("kubernetes.io/config.mirror"));
    let refused = [
        (mirror(pod) == Some(true), SkipReason::MirrorPod),
        (spec.host_network == Some(true), SkipReason::HostNetwork),
        (controller == Some("DaemonSet"), SkipReason::DaemonSet),
        (controller == Some("Job"), SkipReason::Job),
        (spec.node_name.as_deref().is_some_and(|node| !node.is_empty()), SkipReason::NodeName),
        (pinned(spec), SkipReason::HostnamePin),
        (wants_company(spec), SkipReason::WantsCompany),
    ];
    refused.into_iter().find(|(holds, _)| *holds).map_or(Ok(()), |(_, reason)| Err(reason))
}

/// Whether one host only is left: by node selector, or because every alternative of the required node affinity (they
/// are ORed) names hosts and all of them name the same one.
fn pinned(spec: &PodSpec) -> bool {
    let by_selector = spec.node_selector.as_ref().is_some_and(|selector| selector.contains_key(HOSTNAME));
    let affinity = spec.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|node| node.required_during_scheduling_ignored_during_execution.as_ref());
    by_selector || required.is_some_and(names_one_host)
}

fn names_one_host(required: &NodeSelector) -> bool {
    let mut hosts = BTreeSet::new();
    for term in &required.node_selector_terms {
        let Some(named) = hosts_of(term) else { return false };
        hosts.extend(named);
    }
    hosts.len() == 1
}

fn hosts_of(term: &NodeSelectorTerm) -> Option<&[String]> {
    let by_label = term.match_expressions.iter().flatten().find(|requirement| names_hosts(requirement, HOSTNAME));
    let by_field = term.match_fields.iter().flatten().find(|requirement| names_hosts(requirement, "metadata.name"));
    by_label.or(by_field)?.values.as_deref()
}

fn names_hosts(requirement: &NodeSelectorRequirement, key: &str) -> bool {
    requirement.key == key && requirement.operator == "In"
}

fn wants_company(spec: &PodSpec) -> bool {
    let Some(affinity) = spec.affinity.as_ref().and_then(|affinity| affinity.pod_affinity.as_ref()) else {
        return false;
    };
    let required = affinity.required_during_scheduling_ignored_during_execution.iter().flatten();
    let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter().flatten();
    required.chain(preferred.map(|weighted| &weighted.pod_affinity_term)).any(|term| term.topology_key == HOSTNAME)
}
