//! Status of ClusterTrafficPolicies and TrafficPolicies.
//!
//! dereference → validate → build → status; there is nothing to apply, and only `status` holds a client. What is counted
//! comes from [`tally`], which is kept as Services are assessed: no pass over the cluster per policy.

pub(crate) mod build;
pub(crate) mod dereference;
pub(crate) mod status;
pub(crate) mod tally;
pub(crate) mod validate;

use crate::assess::Aspects;
use crate::index::Index;
use crate::key::Key;
use portreeve_crds::policy::RequiredPolicy;
use portreeve_policy::policies::{PolicyKind, PolicyRef};

/// What the policy's body speaks of; nothing for a policy that is gone.
pub(crate) fn aspects_of(index: &Index, policy: &PolicyRef) -> Aspects {
    match policy.kind {
        PolicyKind::Cluster => {
            let spec = index.cluster_policies.get(&policy.name).map(|policy| &policy.spec);
            let Some(body) = spec.and_then(|spec| spec.overrides.as_ref().or(spec.defaults.as_ref())) else {
                return Aspects::default();
            };
            Aspects {
                rules: body.rules.iter().flatten().map(|setting| setting.id).collect(),
                required_local: requires(body.external_traffic_policy.as_ref()),
                spread: body.spread.is_some(),
                imbalance: body.imbalance.is_some(),
                data_path: body.data_path.is_some(),
            }
        }
        PolicyKind::Namespaced => {
            let key = Key::new(policy.namespace.clone().unwrap_or_default(), policy.name.clone());
            let Some(spec) = index.policies.get(&key).map(|policy| &policy.spec) else { return Aspects::default() };
            Aspects {
                rules: spec.rules.iter().flatten().map(|setting| setting.id).collect(),
                required_local: requires(spec.external_traffic_policy.as_ref()),
                spread: spec.spread.is_some(),
                imbalance: spec.imbalance.is_some(),
                data_path: spec.data_path.is_some(),
            }
        }
    }
}

fn requires(requirement: Option<&portreeve_crds::policy::FieldRequirement>) -> bool {
    requirement.is_some_and(|requirement| requirement.required == RequiredPolicy::Local)
}

/// Every policy there is, by reference.
pub(crate) fn all(index: &Index) -> Vec<PolicyRef> {
    let cluster = index.cluster_policies.keys().map(|name| PolicyRef {
        kind: PolicyKind::Cluster,
        namespace: None,
        name: name.clone(),
    });
    let namespaced = index.policies.keys().map(|key| PolicyRef {
        kind: PolicyKind::Namespaced,
        namespace: Some(key.namespace.clone()),
        name: key.name.clone(),
    });
    cluster.chain(namespaced).collect()
}

#[cfg(test)]
mod tests;
