//! Which policy decides what for a Service.
//!
//! Precedence, in the order of GEP-713: cluster `overrides`, the namespace's own policies, cluster `defaults`, the
//! built-in actions; within a level higher priority, then older, then by name. A lower level may only tighten what an
//! override decided.
//!
//! - Actions and `minNodes`: the stricter wins. The limit of the imbalance: the lower. `required: Local` is stricter than
//!   `Any`.
//! - Spread and data path have no stricter side (to touch Pods or packets is not "more" than to leave them alone), so what
//!   an override says there is final; lower levels fill in only the members it leaves out.
//! - `enforcement.mode` caps the actions of its policy's rules, and lowers `spread.mode: Inject` to `Off` below
//!   Enforce, since that changes users' objects at admission. It does not touch the data path: to set a policy to Audit
//!   must never move live traffic; `dataPath.mode` has an `Observe` of its own.
//! - Rules that no policy names keep their built-in action, capped by the mode of the highest matching policy.
//! - The label `portreeve.io/ignore: "true"` on a namespace silences everything in it: who may label namespaces runs the
//!   cluster. On a Service it silences all levels but the overrides: otherwise whoever may write the Service could step
//!   out of them.
//! - A policy that cannot be read fails closed: it is taken to match every Service that it could match, with its Deny
//!   rules and what those compare with, and with nothing else; nor does its mode cap anything.

mod compile;
mod effective;
mod reference;

pub use compile::{PolicyError, PolicyProblem};
pub use effective::{Effective, EffectiveDataPath, EffectiveRule, EffectiveSpread, Fault};
pub use reference::{PolicyKind, PolicyRef};

use crate::facts::NamespaceFacts;
use crate::subject::Subject;
use compile::{Level, Match, Policy};
use k8s_openapi::api::core::v1::Service;
use portreeve_crds::{ClusterTrafficPolicy, TrafficPolicy};
use std::collections::BTreeMap;

/// All policies of a cluster, understood and in order. Immutable: a change of any policy makes a new set.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    overrides: Vec<Policy>,
    /// By namespace, so that a namespace's policies cannot be asked about another one's Services.
    namespaced: BTreeMap<String, Vec<Policy>>,
    defaults: Vec<Policy>,
}

/// A set, and what could not be understood on the way.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    /// The set; policies named in `problems` fail closed in it.
    pub set: PolicySet,
    /// What could not be understood, by kind, namespace and name.
    pub problems: Vec<PolicyProblem>,
}

impl PolicySet {
    /// Understands all policies of a cluster. Their order does not matter.
    #[must_use]
    pub fn compile(cluster: &[ClusterTrafficPolicy], namespaced: &[TrafficPolicy]) -> Compiled {
        let mut set = Self::default();
        let mut problems = Vec::new();
        for policy in cluster {
            let (levels, found) = compile::cluster(policy);
            problems.extend(found);
            for (level, policy) in levels {
                match level {
                    Level::Override => set.overrides.push(policy),
                    Level::Default => set.defaults.push(policy),
                }
            }
        }
        for policy in namespaced {
            let (policy, found) = compile::namespaced(policy);
            problems.extend(found);
            set.namespaced.entry(policy.reference.namespace.clone().unwrap_or_default()).or_default().push(policy);
        }
        for level in set.namespaced.values_mut().chain([&mut set.overrides, &mut set.defaults]) {
            level.sort_by(|a, b| a.order.cmp(&b.order));
        }
        problems.sort_by(|a, b| a.policy.cmp(&b.policy).then_with(|| a.error.to_string().cmp(&b.error.to_string())));
        Compiled { set, problems }
    }

    /// The set without policies: built-in actions only.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// What holds for one Service.
    #[must_use]
    pub fn effective(&self, namespace: &NamespaceFacts, service: &Service) -> Effective {
        effective::of(&self.candidates(namespace, service))
    }

    /// Policies whose `match` selects the Service, by precedence; those that cannot be read are not among them.
    #[must_use]
    pub fn matching(&self, namespace: &NamespaceFacts, service: &Service) -> Vec<PolicyRef> {
        let candidates = self.candidates(namespace, service);
        let readable = candidates.by_precedence().filter(|policy| policy.fault.is_none());
        readable.map(|policy| policy.reference.clone()).collect()
    }

    fn candidates(&self, namespace: &NamespaceFacts, service: &Service) -> Candidates<'_> {
        if namespace.ignored() {
            return Candidates { silenced: true, ..Candidates::default() };
        }
        let subject = Subject::new(service);
        let overrides = select(&self.overrides, namespace, subject);
        if subject.ignored() {
            return Candidates { silenced: true, overrides, ..Candidates::default() };
        }
        let own = self.namespaced.get(&namespace.name).map(Vec::as_slice).unwrap_or_default();
        Candidates {
            silenced: false,
            overrides,
            namespaced: select(own, namespace, subject),
            defaults: select(&self.defaults, namespace, subject),
        }
    }
}

fn select<'a>(policies: &'a [Policy], namespace: &NamespaceFacts, service: Subject<'_>) -> Vec<&'a Policy> {
    policies.iter().filter(|policy| policy.scope.matches(namespace, service) != Match::No).collect()
}

/// Policies that select a Service, or that cannot be read and might; each level by precedence.
#[derive(Default)]
struct Candidates<'a> {
    /// The ignore label holds: overrides speak, built-in actions do not.
    silenced: bool,
    overrides: Vec<&'a Policy>,
    namespaced: Vec<&'a Policy>,
    defaults: Vec<&'a Policy>,
}

impl<'a> Candidates<'a> {
    fn by_precedence(&self) -> impl Iterator<Item = &'a Policy> {
        self.overrides.iter().chain(&self.namespaced).chain(&self.defaults).copied()
    }
}

#[cfg(test)]
mod tests;
