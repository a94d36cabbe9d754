//! The answer about a Pod that is being created: it may be given a spread, and is never refused.

use super::Decision;
use super::answer::Answer;
use super::objects::PodInput;
use super::request::Request;
use crate::cache::Snapshot;
use crate::engine::Engine;
use portreeve_policy::spread::Injection;

/// How an injection is counted; skips are counted by their reason.
const INJECTED: &str = "injected";

pub(super) fn decide(engine: &dyn Engine, request: &Request<PodInput>, world: &Snapshot) -> Answer {
    let facts = world.namespace(&request.namespace);
    let PodInput(pod) = &request.object;
    let services = match &pod.metadata.labels {
        Some(labels) => world.services_for(&request.namespace, labels),
        None => Vec::new(),
    };
    let names = services.iter().filter_map(|service| service.metadata.name.as_deref());
    let owners = world.owners(&request.namespace, names);
    let services: Vec<_> = services.iter().collect();
    let mut answer = Answer::allowed(Decision::Allowed);
    answer.tally.unknown_namespace = !world.knows(&request.namespace);
    match engine.decide_injection(pod, &services, &facts, world.policies(), world.cluster(), &owners) {
        Injection::Patch { ops, services, policy, mechanism: _ } => {
            answer.tally.decision = Decision::Mended;
            answer.tally.injection = Some(INJECTED);
            answer.patch = ops;
            answer.note("spread", INJECTED);
            answer.note("services", services.join(","));
            answer.note("policy", policy.to_string());
        }
        Injection::Skip(reason) => {
            answer.tally.injection = Some(reason.as_str());
            answer.note("spread", reason.as_str());
        }
    }
    answer
}
