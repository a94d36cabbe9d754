//! What the oracle is asked and what it answers.

use super::reason::Reason;
use crate::key::{Protocol, ServiceKey};
use crate::table::Target;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// One packet in the direction from client to frontend, as it is before any translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// How it came to this node's stack.
    pub arrival: Arrival,
    /// Transport.
    pub protocol: Protocol,
    /// Client; of the destination's family.
    pub source: SocketAddr,
    /// What the client talks to.
    pub destination: SocketAddr,
    /// TCP with SYN alone among SYN, ACK, RST and FIN, or SCTP with an INIT chunk: what the kernel's connection tracking, and
    /// with it kube-proxy, takes for the first of a connection. Means nothing for UDP.
    pub opening: bool,
    /// A fragment, the first one included. The netfilter hooks of our rules see packets reassembled and never one of
    /// these.
    pub fragment: bool,
}

impl Packet {
    /// The key under which its flow is remembered.
    #[must_use]
    pub const fn flow(&self) -> FlowKey {
        FlowKey { protocol: self.protocol, client: self.source, frontend: self.destination }
    }
}

/// How a packet came to the node's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// From outside, on an uplink.
    Uplink,
    /// From a process in the node's own network namespace.
    Node,
    /// From a Pod of this node.
    LocalPod,
}

/// What a node remembers of earlier packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Seconds on the clock of [`Bound::last`].
    pub now: u64,
    /// Flows that were delivered and have not ended.
    pub flows: BTreeMap<FlowKey, Flow>,
    /// Clients bound by session affinity.
    pub clients: BTreeMap<AffinityKey, Bound>,
}

/// A flow as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FlowKey {
    /// Transport.
    pub protocol: Protocol,
    /// Client.
    pub client: SocketAddr,
    /// The address and port that the client talks to.
    pub frontend: SocketAddr,
}

/// Where a flow goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Service that it was claimed for.
    pub service: ServiceKey,
    /// Pod of this node that it was delivered to.
    pub pod: SocketAddr,
}

/// What session affinity is keyed by: all frontends of a Service port share it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AffinityKey {
    /// Service.
    pub service: ServiceKey,
    /// Name of the Service port.
    pub port: Arc<str>,
    /// Its transport.
    pub protocol: Protocol,
    /// Client.
    pub client: IpAddr,
}

/// The Pod that a client is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The Pod.
    pub pod: SocketAddr,
    /// When the client last opened a flow.
    pub last: u64,
}

/// What becomes of a packet, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of it.
    pub action: Action,
    /// The steps that led there, in order; never empty.
    pub because: Vec<Because>,
}

/// One step with the names that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Because {
    /// Which.
    pub reason: Reason,
    /// For people: a clause without a full stop.
    pub text: String,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes on untouched; kube-proxy decides.
    Pass,
    /// Its destination becomes one of these, drawn by weight; its source stays the client's. The flow is remembered.
    Deliver {
        /// Sorted by hop; never empty.
        candidates: Vec<Target>,
    },
    /// It vanishes.
    Drop,
    /// Its client gets ICMP port unreachable (ICMPv6 type 1 code 4), for TCP too: connection refused.
    Reject,
    /// Its client gets a TCP RST (for SCTP an ABORT), and the flow is forgotten.
    Reset,
    /// It goes to another node with its destination unchanged.
    Forward,
    /// It goes on untouched and is counted.
    Observe {
        /// What a mode that touches would do.
        would: Box<Action>,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pass => out.write_str("pass"),
            Self::Deliver { candidates } => {
                out.write_str("deliver to")?;
                let equal = candidates.iter().all(|target| target.weight == candidates[0].weight);
                for (number, Target { hop, weight }) in candidates.iter().enumerate() {
                    write!(out, "{} {hop}", if number == 0 { "" } else { "," })?;
                    if !equal {
                        write!(out, " (weight {weight})")?;
                    }
                }
                Ok(())
            }
            Self::Drop => out.write_str("drop"),
            Self::Reject => out.write_str("reject"),
            Self::Reset => out.write_str("reset"),
            Self::Forward => out.write_str("forward to another node"),
            Self::Observe { would } => write!(out, "pass, would {would}"),
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "[{}] {}", self.reason.number(), self.text)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, because } = self;
        write!(out, "{action}")?;
        because.iter().try_for_each(|step| write!(out, "\n  {step}"))
    }
}
