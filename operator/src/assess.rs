//! What the rules and policies say about one Service now. Pure; policies/ counts it, service_traffic/ reports it.

use k8s_openapi::api::core::v1::Service;
use portreeve_crds::{Action, RuleId};
use portreeve_policy::evaluate::{Operation, Outcome, Phase, Review, evaluate};
use portreeve_policy::facts::{ClusterFacts, EndpointFacts, NamespaceFacts};
use portreeve_policy::policies::{Effective, PolicyRef, PolicySet};
use std::collections::BTreeSet;

/// Everything a decision about one Service reads, borrowed from the index.
pub(crate) struct Subject<'a> {
    pub(crate) service: &'a Service,
    pub(crate) namespace: &'a NamespaceFacts,
    pub(crate) endpoints: &'a EndpointFacts,
    pub(crate) cluster: ClusterFacts,
}

/// The full answer for one Service; lives only while its report is built.
pub(crate) struct Assessed {
    pub(crate) outcome: Outcome,
    pub(crate) effective: Effective,
    pub(crate) summary: Summary,
}

/// What is kept of an answer, so that policies can be counted without asking again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Policies that match, by precedence.
    pub(crate) matched: Vec<PolicyRef>,
    /// Pairs: a policy, and one of higher precedence that decided something in its place.
    pub(crate) overridden: BTreeSet<(PolicyRef, PolicyRef)>,
    /// Findings: rule, action and the policy that decided.
    pub(crate) findings: Vec<(RuleId, Action, Option<PolicyRef>)>,
    /// Rules that could not be evaluated.
    pub(crate) errors: usize,
}

/// Asks the engine about one Service as it is stored.
pub(crate) fn assess(set: &PolicySet, subject: &Subject<'_>, decides: &impl Fn(&PolicyRef) -> Aspects) -> Assessed {
    let review = Review {
        operation: Operation::Update,
        phase: Phase::Scan,
        namespace: subject.namespace,
        service: subject.service,
        old: None,
        endpoints: Some(subject.endpoints),
        cluster: subject.cluster,
    };
    let outcome = evaluate(set, &review);
    let effective = set.effective(subject.namespace, subject.service);
    let matched = set.matching(subject.namespace, subject.service);
    let overridden = overridden(&matched, &effective, decides);
    let findings = outcome.findings.iter().map(|f| (f.rule, f.action, f.policy.clone())).collect();
    let summary = Summary { matched, overridden, findings, errors: outcome.errors.len() };
    Assessed { outcome, effective, summary }
}

/// What a policy's body speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Aspects {
    pub(crate) rules: Vec<RuleId>,
    pub(crate) required_local: bool,
    pub(crate) spread: bool,
    pub(crate) imbalance: bool,
    pub(crate) data_path: bool,
}

/// For every matching policy and everything it speaks of: who of higher precedence decided it instead.
fn overridden(
    matched: &[PolicyRef],
    effective: &Effective,
    aspects: &impl Fn(&PolicyRef) -> Aspects,
) -> BTreeSet<(PolicyRef, PolicyRef)> {
    let mut pairs = BTreeSet::new();
    for (rank, policy) in matched.iter().enumerate().skip(1) {
        let above = matched.get(..rank).unwrap_or_default();
        let Aspects { rules, required_local, spread, imbalance, data_path } = aspects(policy);
        let mut deciders: Vec<Option<&PolicyRef>> =
            rules.iter().map(|rule| effective.rules.get(rule).and_then(|rule| rule.policy.as_ref())).collect();
        if required_local {
            deciders.push(effective.required_local.as_ref());
        }
        if spread {
            deciders.push(effective.spread.policy.as_ref());
        }
        if imbalance {
            deciders.push(effective.max_ratio_permille.as_ref().map(|(_, policy)| policy));
        }
        if data_path {
            deciders.push(effective.data_path.policy.as_ref());
        }
        for decider in deciders.into_iter().flatten() {
            if above.contains(decider) {
                pairs.insert((policy.clone(), decider.clone()));
            }
        }
    }
    pairs
}
