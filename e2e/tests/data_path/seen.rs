//! What a client saw, and what it should have seen.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use portreeve_e2e::http::HttpFailure;

use super::plan::node_of;

/// Whose address a Pod saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// The client's own.
    Own,
    /// One of this node's.
    Node(u8),
    /// Somebody else's.
    Other(IpAddr),
}

impl Source {
    /// The source `ip` that a Pod saw of a client with the address `own`. A client that is a node is that node.
    pub(crate) fn of(ip: IpAddr, own: IpAddr) -> Self {
        match node_of(ip) {
            Some(index) => Self::Node(index),
            None if ip == own => Self::Own,
            None => Self::Other(ip),
        }
    }
}

/// What became of one flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answer {
    /// A Pod answered.
    Pod { name: String, source: Source },
    /// The client's kernel said so.
    Failed(HttpFailure),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { name, source: Source::Own } => write!(f, "{name}"),
            Self::Pod { name, source: Source::Node(index) } => write!(f, "{name} as n{index}"),
            Self::Pod { name, source: Source::Other(ip) } => write!(f, "{name} as {ip}"),
            Self::Failed(HttpFailure::Timeout) => f.write_str("silence"),
            Self::Failed(HttpFailure::Refused) => f.write_str("refused"),
            Self::Failed(other) => write!(f, "{other}"),
        }
    }
}

/// All that became of the flows of one round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen(pub(crate) BTreeSet<Answer>);

impl Seen {
    /// Each of `pods` answers some flow and nobody else does; they see `source`.
    pub(crate) fn pods(pods: &[&str], source: Source) -> Self {
        Self(pods.iter().map(|name| Answer::Pod { name: (*name).to_owned(), source }).collect())
    }

    /// One Pod answers, and sees the client.
    pub(crate) fn pod(name: &str) -> Self {
        Self::pods(&[name], Source::Own)
    }

    fn failed(why: HttpFailure) -> Self {
        Self([Answer::Failed(why)].into())
    }

    /// Nothing comes back: somebody drops.
    pub(crate) fn silence() -> Self {
        Self::failed(HttpFailure::Timeout)
    }

    /// The client is told that nobody is there.
    pub(crate) fn refused() -> Self {
        Self::failed(HttpFailure::Refused)
    }

    /// No router knows the way.
    pub(crate) fn unreachable() -> Self {
        Self::failed(HttpFailure::Unreachable)
    }

    /// These answers and those.
    pub(crate) fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Whether a client has to wait for it.
    pub(crate) fn is_silence(&self) -> bool {
        *self == Self::silence()
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(Answer::to_string).collect();
        f.write_str(&all.join(", "))
    }
}

/// What is expected of IPv4 and of IPv6.
#[derive(Clone, Debug)]
pub(crate) struct Expected(pub(crate) [Seen; 2]);

impl From<Seen> for Expected {
    fn from(both: Seen) -> Self {
        Self([both.clone(), both])
    }
}
