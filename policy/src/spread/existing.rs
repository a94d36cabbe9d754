//! Whether a Pod spreads already.

use super::HOSTNAME;
use crate::facts::NamespaceFacts;
use crate::selectors::{Labels, Selector, SelectorError};
use k8s_openapi::api::core::v1::{Pod, PodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Whether an anti-affinity term (required or preferred) or a spread constraint on the hostname selects the Pod itself:
/// then whoever wrote it has thought of spreading, and a second opinion would only blur the first.
pub(super) fn spreads(pod: &Pod, namespace: &NamespaceFacts) -> Result<bool, SelectorError> {
    let Some(spec) = pod.spec.as_ref() else { return Ok(false) };
    let none = Labels::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&none);
    let anti = spec.affinity.as_ref().and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let required = anti.and_then(|anti| anti.required_during_scheduling_ignored_during_execution.as_ref());
    let preferred = anti.and_then(|anti| anti.preferred_during_scheduling_ignored_during_execution.as_ref());
    let preferred = preferred.into_iter().flatten().map(|weighted| &weighted.pod_affinity_term);
    for term in required.into_iter().flatten().chain(preferred) {
        if term.topology_key == HOSTNAME && selects(term.label_selector.as_ref(), labels)? && covers(term, namespace)? {
            return Ok(true);
        }
    }
    for constraint in spec.topology_spread_constraints.iter().flatten() {
        if constraint.topology_key == HOSTNAME && selects(constraint.label_selector.as_ref(), labels)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// An absent selector selects no Pod; an empty one all.
fn selects(selector: Option<&LabelSelector>, labels: &Labels) -> Result<bool, SelectorError> {
    selector.map_or(Ok(false), |selector| Ok(Selector::compile(selector)?.matches(labels)))
}

/// Whether the term looks at the Pod's own namespace: it does when it names none at all.
fn covers(term: &PodAffinityTerm, namespace: &NamespaceFacts) -> Result<bool, SelectorError> {
    let named = term.namespaces.as_deref().unwrap_or_default();
    if named.is_empty() && term.namespace_selector.is_none() {
        return Ok(true);
    }
    Ok(named.contains(&namespace.name) || selects(term.namespace_selector.as_ref(), &namespace.labels)?)
}
