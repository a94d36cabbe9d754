//! The two questions that the webhook asks, as a seam: tests answer them with a panic or with findings that no rule of
//! today makes.

use k8s_openapi::api::core::v1::{Pod, Service};
use portreeve_policy::spread::{Injection, OwnerFacts, decide_injection};
use portreeve_policy::{ClusterFacts, NamespaceFacts, Outcome, PolicySet, Review, evaluate};

/// Decides about Services and Pods.
pub trait Engine: Send + Sync + 'static {
    /// What the rules say about a Service.
    fn evaluate(&self, set: &PolicySet, review: &Review<'_>) -> Outcome;

    /// What a new Pod is given; `services` are those of its namespace that select it, `owners` tells of the Pods behind
    /// them.
    fn decide_injection(
        &self,
        pod: &Pod,
        services: &[&Service],
        namespace: &NamespaceFacts,
        set: &PolicySet,
        cluster: ClusterFacts,
        owners: &OwnerFacts,
    ) -> Injection;
}

/// The policy room itself: the same answers that the operator and the command line give.
#[derive(Clone, Copy, Debug, Default)]
pub struct PolicyEngine;

impl Engine for PolicyEngine {
    fn evaluate(&self, set: &PolicySet, review: &Review<'_>) -> Outcome {
        evaluate(set, review)
    }

    fn decide_injection(
        &self,
        pod: &Pod,
        services: &[&Service],
        namespace: &NamespaceFacts,
        set: &PolicySet,
        cluster: ClusterFacts,
        owners: &OwnerFacts,
    ) -> Injection {
        decide_injection(pod, services, namespace, set, cluster, owners)
    }
}
