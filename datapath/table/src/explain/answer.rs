//! What is answered to "what becomes of a flow on this node?".

use super::proxy::ProxyReason;
use crate::oracle::{Because, Verdict};
use crate::table::{FrontendEntry, Target};
use std::net::SocketAddr;

/// One node's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeAnswer {
    /// What a health check of the Service hears here; `None` where nobody serves one for it.
    pub health: Option<Health>,
    /// One for each frontend of the client's family at which this node can be asked, in the order of the Service's ports.
    pub ways: Vec<Way>,
}

/// What a load balancer's health check hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// `spec.healthCheckNodePort`.
    pub port: u16,
    /// Ready Pods of this node in the client's family; with none the answer is 503.
    pub ready: usize,
}

/// The way of a new flow to one frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// Index into the Service's ports.
    pub port: usize,
    /// What the client uses. It is [guarded](FrontendEntry::guarded) as kube-proxy reads it.
    pub front: FrontendEntry,
    /// Where the client sends to.
    pub destination: SocketAddr,
    /// What the forwarding table says, were it programmed.
    pub table: Verdict,
    /// What kube-proxy does with a packet that is left to it; `None` where none is.
    pub proxy: Option<ProxyVerdict>,
    /// Who decides.
    pub decider: Decider,
    /// What becomes of the flow.
    pub outcome: Outcome,
    /// Why, in order; never empty.
    pub steps: Vec<Step>,
}

/// What kube-proxy does with a new flow, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyVerdict {
    /// What becomes of it.
    pub outcome: Outcome,
    /// Why, in order; never empty.
    pub steps: Vec<Step>,
}

/// Who decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider {
    /// The forwarding table of this node.
    Portreeve,
    /// kube-proxy.
    KubeProxy,
    /// One of the two: which is not known.
    Either,
    /// The proxy that the Service's label names.
    OtherProxy,
}

impl Decider {
    /// For people and scripts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Portreeve => "portreeve",
            Self::KubeProxy => "kube-proxy",
            Self::Either => "either",
            Self::OtherProxy => "other proxy",
        }
    }
}

/// What becomes of a new flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes to one of these, drawn by weight.
    Deliver {
        /// Sorted by hop; never empty.
        pods: Vec<Target>,
        /// Whom the Pod sees as its client.
        client: SeenClient,
    },
    /// It vanishes.
    Drop,
    /// Its client is told.
    Reject,
    /// It goes to another node, with the client's address kept.
    Forward,
    /// It depends on something that no object of the API says; the last step names it.
    Depends,
}

impl Outcome {
    /// For people and scripts.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Deliver { .. } => "deliver",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Forward => "forward",
            Self::Depends => "depends",
        }
    }

    /// Pods that may get the flow.
    #[must_use]
    pub fn pods(&self) -> &[Target] {
        match self {
            Self::Deliver { pods, .. } => pods,
            Self::Drop | Self::Reject | Self::Forward | Self::Depends => &[],
        }
    }
}

/// Whom a Pod sees as its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeenClient {
    /// The client.
    Itself,
    /// The node that the client talked to, since the answer has to come back through it.
    Node,
}

impl SeenClient {
    /// For people and scripts.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Itself => "client",
            Self::Node => "node",
        }
    }
}

/// One step of the way, by a number that never changes its meaning: up to 99 a [`Reason`](crate::Reason) of the table, from
/// 100 a [`ProxyReason`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    /// Number of the reason.
    pub number: u8,
    /// For people: a clause without a full stop.
    pub text: String,
}

impl From<&Because> for Step {
    fn from(because: &Because) -> Self {
        Self { number: because.reason.number(), text: because.text.clone() }
    }
}

impl ProxyReason {
    pub(super) fn with(self, text: impl ToString) -> Step {
        Step { number: self.number(), text: text.to_string() }
    }
}
