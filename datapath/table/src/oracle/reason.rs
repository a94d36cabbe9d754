//! Why, with a number that never changes its meaning: engines count by it, people look it up.

use super::packet::Because;

/// One step of the way to a verdict.
///
/// Numbers are stable: a reason that goes leaves a gap, and a new one takes a number that was never used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// A process of the node sent it; kube-proxy gives those Cluster behaviour even under `Local` (its rule
    /// `src-type LOCAL`).
    FromNode = 1,
    /// A Pod of the node sent it; as above (its rule for Pod-local sources).
    FromLocalPod = 2,
    /// A fragment, which need not carry ports.
    Fragment = 3,
    /// Its flow is ours and goes on.
    FlowKept = 10,
    /// Its flow is ours and goes on although the Service was left.
    FlowOfLeft = 11,
    /// Its flow's Pod is gone, and a packet that opens a new one comes: UDP, a TCP SYN, or an SCTP INIT.
    FlowForgotten = 12,
    /// Its TCP or SCTP flow's Pod is gone.
    FlowReset = 13,
    /// No claimed frontend.
    NotClaimed = 20,
    /// A claimed frontend.
    Claimed = 21,
    /// An un-translated source inside the cluster.
    FromCluster = 22,
    /// TCP or SCTP in the middle of a flow that we do not know.
    MidFlow = 23,
    /// Mode Observe.
    Observed = 24,
    /// `loadBalancerSourceRanges` has the source.
    SourceInRange = 30,
    /// The source is a load balancer address of the Service, accepted by kube-proxy's rule for the node itself.
    SourceIsOwn = 31,
    /// `loadBalancerSourceRanges` does not have the source; asked before endpoints are, as in kube-proxy's nftables mode.
    SourceRefused = 32,
    /// Ready Pods of this node.
    LocalReady = 40,
    /// Only terminating Pods of this node, which serve (KEP-1669).
    LocalDraining = 41,
    /// None here; `onNoLocal: Drop`.
    NoLocalDrop = 42,
    /// None here; `onNoLocal: Reject`.
    NoLocalReject = 43,
    /// None here; `onNoLocal: Passthrough`.
    NoLocalPassthrough = 44,
    /// None here; `onNoLocal: Forward`.
    NoLocalForward = 45,
    /// None anywhere.
    Nowhere = 46,
    /// The client is bound to a Pod that takes new flows.
    AffinityKept = 50,
    /// The client was bound too long ago.
    AffinityExpired = 51,
    /// The client is bound to a Pod that takes no new flows.
    AffinityLost = 52,
}

impl Reason {
    /// Every reason, by number.
    pub const ALL: [Self; 25] = [
        Self::FromNode,
        Self::FromLocalPod,
        Self::Fragment,
        Self::FlowKept,
        Self::FlowOfLeft,
        Self::FlowForgotten,
        Self::FlowReset,
        Self::NotClaimed,
        Self::Claimed,
        Self::FromCluster,
        Self::MidFlow,
        Self::Observed,
        Self::SourceInRange,
        Self::SourceIsOwn,
        Self::SourceRefused,
        Self::LocalReady,
        Self::LocalDraining,
        Self::NoLocalDrop,
        Self::NoLocalReject,
        Self::NoLocalPassthrough,
        Self::NoLocalForward,
        Self::Nowhere,
        Self::AffinityKept,
        Self::AffinityExpired,
        Self::AffinityLost,
    ];

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    pub(crate) fn with(self, text: impl ToString) -> Because {
        Because { reason: self, text: text.to_string() }
    }
}
