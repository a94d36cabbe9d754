//! One review in, one answer out. Pure: no I/O, no clock, nothing but the bytes of the request and a [`Snapshot`].
//!
//! The engine divides a Service's findings between the two phases, so that a user reads each of them once: the mutating
//! phase says what the API server's own validation would refuse next (ETP016) and what was mended, the validating phase
//! all the rest. Pods are only ever given something, never refused.

mod answer;
mod depth;
mod objects;
mod pods;
mod request;
mod services;

use crate::cache::Snapshot;
use crate::engine::Engine;
use answer::Answer;
use portreeve_crds::{Action, RuleId, names};
use request::{Read, Request};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Deepest nesting of a review that is read, in arrays and objects: serde_json's own limit, applied also to the parts
/// that we skip.
pub const MAX_DEPTH: usize = 128;

/// Which of the three webhooks was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `services.mutate.portreeve.io`.
    MutateServices,
    /// `services.validate.portreeve.io`.
    ValidateServices,
    /// `pods.mutate.portreeve.io`.
    MutatePods,
}

impl Hook {
    /// Every webhook.
    pub const ALL: [Self; 3] = [Self::MutateServices, Self::ValidateServices, Self::MutatePods];

    /// URL path it is served on; as controller-runtime does, also its name in metrics.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::MutateServices => names::PATH_SERVICES_MUTATE,
            Self::ValidateServices => names::PATH_SERVICES_VALIDATE,
            Self::MutatePods => names::PATH_PODS_MUTATE,
        }
    }

    /// Kind of the objects it decides about, in the core group's version v1.
    const fn kind(self) -> &'static str {
        match self {
            Self::MutateServices | Self::ValidateServices => "Service",
            Self::MutatePods => "Pod",
        }
    }
}

/// What was decided, for audit annotations and metrics. From least to most intrusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Decision {
    /// Not ours to decide: allowed as it is.
    Untouched,
    /// Allowed as it is.
    Allowed,
    /// Allowed, with warnings.
    Warned,
    /// Allowed, and changed.
    Mended,
    /// Refused.
    Denied,
}

impl Decision {
    /// The word in audit annotations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Untouched => "untouched",
            Self::Allowed => "allowed",
            Self::Warned => "warned",
            Self::Mended => "mended",
            Self::Denied => "denied",
        }
    }
}

/// Why a review was let through without a look at its object: the webhook configuration should not have sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unexpected {
    /// An operation other than those that the webhook is registered for.
    Operation,
    /// A subresource, as `status` or `scale`.
    Subresource,
    /// Another kind of object.
    Kind,
    /// A namespace that must work without us: our own and those of the system.
    Namespace,
}

impl Unexpected {
    /// The word in metrics and audit annotations.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operation => "operation",
            Self::Subresource => "subresource",
            Self::Kind => "kind",
            Self::Namespace => "namespace",
        }
    }
}

/// What is counted about one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The decision.
    pub decision: Decision,
    /// Findings that this phase spoke for, [`Action::Audit`] included.
    pub findings: Vec<(RuleId, Action)>,
    /// Rules that could not be evaluated.
    pub rule_errors: usize,
    /// For a Pod: `injected`, or why not.
    pub injection: Option<&'static str>,
    /// Set when the review was let through unseen.
    pub unexpected: Option<Unexpected>,
    /// Whether the cache did not know the namespace yet, so that it counted as having no label but that of its name.
    pub unknown_namespace: bool,
}

impl Tally {
    pub(crate) fn of(decision: Decision) -> Self {
        Self {
            decision,
            findings: Vec::new(),
            rule_errors: 0,
            injection: None,
            unexpected: None,
            unknown_namespace: false,
        }
    }
}

/// An answer ready to be sent with status 200.
#[derive(Debug)]
pub struct Reply {
    /// An AdmissionReview as JSON.
    pub body: Vec<u8>,
    /// What to count.
    pub tally: Tally,
}

/// Why a request got no decision.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The body is no review that we can read: HTTP 400.
    #[error("{problem}")]
    Malformed {
        /// The review's uid, or empty when it could not be read.
        uid: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The engine panicked: HTTP 500, so that the webhook's failurePolicy decides.
    #[error("the evaluation of this review failed unexpectedly; the webhook's failurePolicy decides")]
    Panicked {
        /// The review's uid.
        uid: String,
    },
    /// The answer could not be written: HTTP 500.
    #[error("the answer could not be written: {problem}")]
    Unwritable {
        /// The review's uid.
        uid: String,
        /// What the serializer said.
        problem: String,
    },
}

impl Refusal {
    /// HTTP status to answer with.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Malformed { .. } => 400,
            Self::Panicked { .. } | Self::Unwritable { .. } => 500,
        }
    }

    /// An AdmissionReview that echoes the uid and says what went wrong.
    #[must_use]
    pub fn body(&self) -> Vec<u8> {
        let (Self::Malformed { uid, .. } | Self::Panicked { uid } | Self::Unwritable { uid, .. }) = self;
        answer::refused(uid, self.status(), &self.to_string())
    }
}

/// Decides reviews.
pub struct Reviewer {
    engine: Box<dyn Engine>,
    /// Namespaces that are always let through, so that a mistake in a policy can never lock out what repairs it.
    excluded: BTreeSet<String>,
}

impl Reviewer {
    /// A reviewer that asks `engine`, and lets the system's namespaces and `own_namespace` through unseen.
    #[must_use]
    pub fn new(engine: impl Engine, own_namespace: &str) -> Self {
        let excluded = [own_namespace, "kube-system", "kube-node-lease"].map(str::to_owned).into();
        Self { engine: Box::new(engine), excluded }
    }

    /// Answers one review.
    ///
    /// # Errors
    /// When `body` is no review, or the engine panicked. Each carries the answer to send.
    pub fn answer(&self, hook: Hook, body: &[u8], world: &Snapshot) -> Result<Reply, Refusal> {
        if !depth::within(body, MAX_DEPTH) {
            let problem = format!("the review is nested deeper than {MAX_DEPTH} levels");
            return Err(Refusal::Malformed { uid: String::new(), problem });
        }
        match hook {
            Hook::MutateServices | Hook::ValidateServices => self.decide(request::read(body, hook)?, |request| {
                services::decide(self.engine.as_ref(), hook, request, world)
            }),
            Hook::MutatePods => {
                self.decide(request::read(body, hook)?, |request| pods::decide(self.engine.as_ref(), request, world))
            }
        }
    }

    fn decide<T>(&self, read: Read<T>, decide: impl FnOnce(&Request<T>) -> Answer) -> Result<Reply, Refusal> {
        let request = match read {
            Read::Ours(request) => request,
            Read::Other(uid, reason) => return untouched(&uid, reason),
        };
        if self.excluded.contains(&request.namespace) {
            return untouched(&request.uid, Unexpected::Namespace);
        }
        // Nothing that the closure touches outlives a panic: it reads a snapshot and makes a new answer.
        let answer = catch_unwind(AssertUnwindSafe(|| decide(&request)));
        answer.map_err(|_| Refusal::Panicked { uid: request.uid.clone() })?.into_reply(&request.uid)
    }
}

impl std::fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reviewer").field("excluded", &self.excluded).finish_non_exhaustive()
    }
}

fn untouched(uid: &str, reason: Unexpected) -> Result<Reply, Refusal> {
    let mut answer = Answer::allowed(Decision::Untouched);
    answer.tally.unexpected = Some(reason);
    answer.note("unexpected", reason.as_str());
    answer.into_reply(uid)
}

#[cfg(test)]
mod tests;
