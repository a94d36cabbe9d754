//! What should be: the decisions of Portreeve about Services, Pods, migrations and spread, as plain functions.
//!
//! This room knows the Kubernetes types, the custom resources and the rules. It may not know clients, async runtimes,
//! clocks, files, threads or randomness: the world comes in as [`facts`] and `now` is an argument, so that the webhook,
//! the operator and the command line give one answer to one question. Every collection that reaches an output is
//! ordered.
//!
//! The way through: [`policies`] says which policy decides what for a Service, [`mod@evaluate`] runs the rules on it,
//! [`docs`] explains each rule. [`legacy`] and [`migration`] read and retire the annotations of Kubernetes 1.4 to 1.7;
//! [`imbalance`] predicts how unevenly a load balancer loads the Pods; [`spread`] decides what a new Pod is given.

pub mod docs;
pub mod evaluate;
pub mod facts;
pub mod finding;
pub mod imbalance;
pub mod legacy;
pub mod migration;
pub mod policies;
mod rules;
pub mod selectors;
pub mod spread;
mod subject;
#[cfg(test)]
mod testing;
mod text;

pub use docs::{RuleDoc, default_action, rule_docs};
pub use evaluate::{Operation, Outcome, Phase, Review, RuleError, evaluate};
pub use facts::{ClusterFacts, EndpointFacts, NamespaceFacts};
pub use finding::Finding;
pub use policies::{
    Compiled, Effective, EffectiveDataPath, EffectiveRule, EffectiveSpread, PolicyKind, PolicyProblem, PolicyRef,
    PolicySet,
};
