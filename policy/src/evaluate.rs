//! Running the rules on a Service.
//!
//! One function for all three askers. The webhook asks twice, and each finding is answered in one phase only, so that no
//! user reads it twice:
//!
//! - [`Phase::Mutating`] answers ETP016 (the API server would refuse the object before the validating phase, with a text
//!   that helps nobody) and whatever action `Fix` mends.
//! - [`Phase::Validating`] answers everything else, on the object as all mutating webhooks have left it.
//! - [`Phase::Scan`] tells everything about an object as it stands in the store or in a file.
//!
//! Objects under deletion are evaluated like all others: a finalizer can hold them for ever (CVE-2023-34091).

use crate::facts::{ClusterFacts, EndpointFacts, NamespaceFacts};
use crate::finding::Finding;
use crate::policies::{Effective, EffectiveRule, PolicyRef, PolicySet};
use crate::rules::{self, Context, Hit};
use crate::subject::Subject;
use json_patch::Patch;
use k8s_openapi::api::core::v1::Service;
use portreeve_crds::{Action, RuleId};

/// What the user asked the API server for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A change of an object.
    Update,
}

/// Who asks, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Admission, while the object may still be changed and before the API server has validated it.
    Mutating,
    /// Admission, after the API server's own validation.
    Validating,
    /// The operator or the command line, about an object as it stands.
    Scan,
}

/// A Service under review.
#[derive(Clone, Copy, Debug)]
pub struct Review<'a> {
    /// What is done to it; [`Operation::Update`] in a scan.
    pub operation: Operation,
    /// Who asks.
    pub phase: Phase,
    /// Its namespace.
    pub namespace: &'a NamespaceFacts,
    /// The Service as it would be stored.
    pub service: &'a Service,
    /// The Service as it is stored, where an update is reviewed.
    pub old: Option<&'a Service>,
    /// Its endpoints; `None` means unknown, and rules that need them stay silent.
    pub endpoints: Option<&'a EndpointFacts>,
    /// The cluster's size.
    pub cluster: ClusterFacts,
}

/// What the rules say about a Service.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// By rule, then field. Nothing of action Off.
    pub findings: Vec<Finding>,
    /// The mends of findings with action Fix, as an RFC 6902 patch of the reviewed object; empty but in
    /// [`Phase::Mutating`].
    pub patch: Patch,
    /// What could not be evaluated, by precedence of the policy. To be counted and shown: it is never "no match".
    pub errors: Vec<RuleError>,
}

/// A policy that could not be read and might be for the Service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{policy} cannot be read: {problem}")]
pub struct RuleError {
    /// The policy.
    pub policy: PolicyRef,
    /// Why.
    pub problem: String,
}

/// Runs the rules on a Service under the policies that hold for it.
#[must_use]
pub fn evaluate(set: &PolicySet, review: &Review<'_>) -> Outcome {
    let effective = set.effective(review.namespace, review.service);
    let mut outcome = Outcome::default();
    for (id, rule) in &effective.rules {
        if rule.action == Action::Off || !answers(review.phase, *id, rule.action) {
            continue;
        }
        let mut hits = rules::of(*id).hits(&context(review, &effective, rule, review.service, review.old));
        if review.phase == Phase::Mutating && *id != RuleId::ETP016 {
            hits.retain(|hit| hit.mend.is_some());
        }
        let old_hits = match (rule.action, review.old) {
            (Action::Deny, Some(old)) if !hits.is_empty() => {
                rules::of(*id).hits(&context(review, &effective, rule, old, None))
            }
            _ => Vec::new(),
        };
        for hit in hits {
            let unchanged = hit.unchanged || old_hits.iter().any(|old| hit.was_in(old));
            outcome.add(*id, rule, review.phase, hit, unchanged);
        }
    }
    outcome.findings.sort_by(|a, b| (a.rule, &a.field).cmp(&(b.rule, &b.field)));
    let faults = effective.faults.into_iter();
    outcome.errors = faults.map(|fault| RuleError { policy: fault.policy, problem: fault.problem }).collect();
    outcome
}

fn answers(phase: Phase, rule: RuleId, action: Action) -> bool {
    match phase {
        Phase::Mutating => rule == RuleId::ETP016 || action == Action::Fix,
        Phase::Validating => rule != RuleId::ETP016,
        Phase::Scan => true,
    }
}

fn context<'a>(
    review: &Review<'a>,
    effective: &'a Effective,
    rule: &'a EffectiveRule,
    service: &'a Service,
    old: Option<&'a Service>,
) -> Context<'a> {
    Context {
        subject: Subject::new(service),
        old: old.map(Subject::new),
        effective,
        rule,
        endpoints: usable_endpoints(review),
        cluster: review.cluster,
    }
}

/// Endpoints, where they speak of the reviewed object: a Service that is being created has none yet, and those of
/// another selector say nothing about the new one.
fn usable_endpoints<'a>(review: &Review<'a>) -> Option<&'a EndpointFacts> {
    let selector = |service| Subject::new(service).selector();
    let created = review.phase != Phase::Scan && review.operation == Operation::Create;
    let moved = review.old.is_some_and(|old| selector(old) != selector(review.service));
    review.endpoints.filter(|_| !created && !moved)
}

impl Outcome {
    fn add(&mut self, id: RuleId, rule: &EffectiveRule, phase: Phase, hit: Hit, unchanged: bool) {
        let Hit { field, mut problem, mut fix, brief: (brief_problem, mut brief_fix), values: _, mend, unchanged: _ } =
            hit;
        let ratcheted = unchanged && rule.action == Action::Deny;
        let mut action = if ratcheted { Action::Warn } else { rule.action };
        match mend {
            Some(mend) if action == Action::Fix && phase == Phase::Mutating => {
                fix = format!("{}; change the manifest too", mend.done);
                brief_fix = mend.done;
                self.patch.0.extend(mend.operations);
            }
            // A scan tells what admission would do: it would mend.
            Some(_) if action == Action::Fix && phase == Phase::Scan => {}
            _ if action == Action::Fix => action = Action::Warn,
            _ => {}
        }
        if let (Some(fault), Some(policy)) = (&rule.fault, &rule.policy) {
            let policy = crate::text::clean(&policy.to_string());
            problem = format!("{problem}; {policy} cannot be read and is taken to match: {fault}");
            fix = format!("{fix}; have the policy mended");
        }
        self.findings.push(Finding {
            rule: id,
            action,
            field,
            problem,
            fix,
            brief: format!("{brief_problem}; {brief_fix}"),
            policy: rule.policy.clone(),
            ratcheted,
        });
    }
}

#[cfg(test)]
mod tests;
