//! Step 1, no client: a policy, what it comes to, and whether it could be compiled.

use super::tally::Tally;
use crate::index::Index;
use crate::key::Key;
use portreeve_crds::policy::PolicyStatus;
use portreeve_policy::policies::{PolicyKind, PolicyRef};
use std::collections::BTreeMap;

/// What is known of one policy.
pub(crate) struct Dereferenced {
    pub(crate) policy: PolicyRef,
    /// Absent: the policy is gone.
    pub(crate) live: Option<Live>,
    pub(crate) tally: Tally,
    /// Why it could not be compiled.
    pub(crate) problem: Option<String>,
}

/// A policy that exists.
pub(crate) struct Live {
    pub(crate) generation: Option<i64>,
    pub(crate) resource_version: Option<String>,
    pub(crate) status: Option<PolicyStatus>,
}

pub(crate) fn dereference(index: &mut Index, tallies: &BTreeMap<PolicyRef, Tally>, policy: PolicyRef) -> Dereferenced {
    let (_, problems) = index.compiled();
    let live = match policy.kind {
        PolicyKind::Cluster => index.cluster_policies.get(&policy.name).map(|p| (&p.metadata, &p.status)),
        PolicyKind::Namespaced => {
            let key = Key::new(policy.namespace.clone().unwrap_or_default(), policy.name.clone());
            index.policies.get(&key).map(|p| (&p.metadata, &p.status))
        }
    };
    Dereferenced {
        live: live.map(|(metadata, status)| Live {
            generation: metadata.generation,
            resource_version: metadata.resource_version.clone(),
            status: status.clone(),
        }),
        tally: tallies.get(&policy).cloned().unwrap_or_default(),
        problem: problems.iter().find(|problem| problem.policy == policy).map(|problem| problem.error.to_string()),
        policy,
    }
}
