//! The answer about a Service.

use super::answer::Answer;
use super::objects::ServiceInput;
use super::request::Request;
use super::{Decision, Hook};
use crate::cache::Snapshot;
use crate::engine::Engine;
use portreeve_crds::Action;
use portreeve_policy::{Finding, Operation, Phase, PolicyRef, Review};
use std::collections::BTreeSet;

/// Asks the engine and words its outcome. The engine divides the findings between the phases; whatever it returns for
/// this phase is said here.
pub(super) fn decide(engine: &dyn Engine, hook: Hook, request: &Request<ServiceInput>, world: &Snapshot) -> Answer {
    let facts = world.namespace(&request.namespace);
    // On CREATE the name may be one that was used before: its endpoints would speak of another object.
    let endpoints = match request.operation {
        Operation::Create => None,
        Operation::Update => world.endpoints(&request.namespace, &request.name),
    };
    let review = Review {
        operation: request.operation,
        phase: if hook == Hook::ValidateServices { Phase::Validating } else { Phase::Mutating },
        namespace: &facts,
        service: &request.object.0,
        old: request.old.as_ref().map(|ServiceInput(old)| old),
        endpoints: endpoints.as_ref(),
        cluster: world.cluster(),
    };
    let outcome = engine.evaluate(world.policies(), &review);

    let mut answer = Answer::allowed(Decision::Allowed);
    answer.tally.unknown_namespace = !world.knows(&request.namespace);
    answer.tally.rule_errors = outcome.errors.len();
    answer.tally.findings = outcome.findings.iter().map(|finding| (finding.rule, finding.action)).collect();
    let said = |actions: &[Action]| -> Vec<&Finding> {
        outcome.findings.iter().filter(|finding| actions.contains(&finding.action)).collect()
    };
    answer.warnings = said(&[Action::Warn, Action::Fix]).into_iter().map(Finding::warning).collect();
    if !answer.warnings.is_empty() {
        answer.tally.decision = Decision::Warned;
    }
    if !outcome.patch.0.is_empty() {
        answer.tally.decision = Decision::Mended;
        answer.patch = outcome.patch;
    }
    let denied = said(&[Action::Deny]);
    if !denied.is_empty() {
        answer.deny_service(&request.name, &denied);
    }
    annotate(&mut answer, &outcome.findings);
    if !outcome.errors.is_empty() {
        answer.note("error", joined(outcome.errors.iter().map(ToString::to_string)));
    }
    answer
}

/// Names rules and policies in the audit log, those of action Audit too: it is the only place that tells of them by
/// object.
fn annotate(answer: &mut Answer, findings: &[Finding]) {
    if findings.is_empty() {
        return;
    }
    answer.note("rule", joined(findings.iter().map(|finding| format!("{}={}", finding.rule, finding.action))));
    let policies = findings.iter().filter_map(|finding| finding.policy.as_ref()).map(PolicyRef::to_string);
    let policies = joined(policies);
    if !policies.is_empty() {
        answer.note("policy", policies);
    }
}

/// Each text once, in order, separated by commas.
fn joined(texts: impl Iterator<Item = String>) -> String {
    let texts: BTreeSet<_> = texts.collect();
    texts.into_iter().collect::<Vec<_>>().join(",")
}
