//! The nouns of a ruleset: sets, chains and rules as this engine uses them, no more of nftables than that.

use ipnet::IpNet;
use portreeve_table::{Family, Interface, Protocol};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Name of a set, map or chain: lower case letters, digits and hyphens, made from words of this room, numbers and hashes.
/// Text of users never becomes part of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    pub(crate) fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The name as the kernel has it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Part of a packet, or of how it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Name of the interface on which it arrived.
    Interface,
    /// Source address; packets of the other family do not match.
    Source(Family),
    /// Destination address; packets of the other family do not match.
    Destination(Family),
    /// Transport protocol.
    Protocol,
    /// Source port of the transport header.
    SourcePort,
    /// Destination port of the transport header.
    Port,
}

/// Value of a [`Field`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    /// Of [`Field::Interface`].
    Interface(Interface),
    /// Of [`Field::Source`] and [`Field::Destination`].
    Address(IpAddr),
    /// Of [`Field::Protocol`].
    Protocol(Protocol),
    /// Of [`Field::SourcePort`] and [`Field::Port`].
    Port(u16),
}

/// Key of an element.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// One value per field of the set.
    Exact(Vec<Value>),
    /// All addresses of a range, in a set with [`SetKind::Ranges`].
    Range(IpNet),
}

/// What an element holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datum {
    /// Nothing: an element of a set.
    Nothing,
    /// The chain in which a packet goes on: an element of a verdict map.
    Goto(Name),
    /// Address and port of a Pod: an element of a map.
    Pod(SocketAddr),
}

/// Most clients that a set with [`SetKind::Remembered`] holds; one beyond them is delivered and not remembered. The kernel
/// makes room for all of them with the set (`nft_rhash_init`), and there is a set for each Pod: with kube-proxy's 65,535 that
/// is 2 MiB a Pod, as measured on 6.18, and some thousands of Pods take all memory of a node. Where kube-proxy works by
/// iptables, a Pod remembers 100.
pub(crate) const REMEMBERED: u32 = 8_192;

/// What the elements of a set are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetKind {
    /// Keys alone.
    Keys,
    /// Ranges of addresses that do not overlap.
    Ranges,
    /// Keys that rules add, and that go when they have not been used for this many seconds.
    Remembered {
        /// Seconds.
        seconds: u32,
    },
    /// Keys that go after this many seconds unless they are put in again.
    Leases {
        /// Seconds.
        seconds: u64,
    },
    /// A chain for each key.
    Chains,
    /// A Pod of this family for each key, with a counter of the packets that were sent to it.
    Pods(Family),
}

/// A set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// What its keys are made of.
    pub fields: Vec<Field>,
    /// What its elements are.
    pub kind: SetKind,
}

/// Where packets come to a chain from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChainKind {
    /// From other chains.
    Regular,
    /// From the kernel: the first packet of every connection that arrives from outside the node's own processes, at this
    /// priority of the prerouting hook.
    NatPrerouting(i32),
    /// From the kernel: every packet that arrives from outside the node's own processes, at this priority of the prerouting
    /// hook.
    FilterPrerouting(i32),
}

/// A chain with its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Where packets come from.
    pub kind: ChainKind,
    /// Rules in order.
    pub rules: Vec<Rule>,
}

/// A rule: a packet goes from statement to statement until one does not match or decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule(pub Vec<Statement>);

/// One step of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// Matches packets of a family.
    Family(Family),
    /// Matches packets of a transport.
    Protocol(Protocol),
    /// Matches TCP packets that do not open a connection: anything but SYN alone among SYN, ACK, RST and FIN.
    NotOpening,
    /// Matches packets of connections that the kernel knows from packets of both directions, or that belong to one.
    UnderWay,
    /// Matches packets whose fields are in a set.
    In(Vec<Field>, Name),
    /// Matches packets whose fields are not in a set.
    NotIn(Vec<Field>, Name),
    /// Goes on in the chain that a verdict map has for the fields; matches only if it has one.
    Dispatch(Vec<Field>, Name),
    /// Goes on in one of these chains, each as likely as the others.
    Choose(Vec<Name>),
    /// Translates the destination to the Pod that a map has for the fields; matches only if it has one.
    TranslateBy(Family, Vec<Field>, Name),
    /// Translates the destination to a Pod. nft(8) wants the transport matched before.
    TranslateTo(SocketAddr),
    /// Gives the packet to the socket that listens at this address of the node, without changing the packet; goes on with
    /// the next rule if none does. nft(8) wants the transport matched before.
    Steer(SocketAddr),
    /// Adds the source address to a set, or renews it there; matches only if the set has room.
    Remember(Family, Name),
    /// Counts packets and bytes.
    Count,
    /// Answers with ICMP port unreachable and drops.
    Reject,
    /// Answers a TCP packet with RST and drops it. nft(8) wants the transport matched before.
    Reset,
    /// Drops.
    Drop,
    /// Leaves this chain; a packet that leaves the first one is passed on.
    Return,
    /// Goes on in a chain without coming back.
    Goto(Name),
}

/// A part of a ruleset that belongs together: what it makes of its own, and its elements in whichever sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Sets and maps.
    pub sets: BTreeMap<Name, Set>,
    /// Chains.
    pub chains: BTreeMap<Name, Chain>,
    /// Elements by set and key.
    pub elements: BTreeMap<(Name, Key), Datum>,
}

impl Part {
    pub(crate) fn set(&mut self, name: Name, fields: Vec<Field>, kind: SetKind) {
        self.sets.insert(name, Set { fields, kind });
    }

    pub(crate) fn chain(&mut self, name: Name, rules: Vec<Rule>) {
        self.chains.insert(name, Chain { kind: ChainKind::Regular, rules });
    }

    pub(crate) fn element(&mut self, set: Name, key: Key, datum: Datum) {
        self.elements.insert((set, key), datum);
    }

    pub(crate) fn extend(&mut self, other: Self) {
        let Self { sets, chains, elements } = other;
        self.sets.extend(sets);
        self.chains.extend(chains);
        self.elements.extend(elements);
    }
}
