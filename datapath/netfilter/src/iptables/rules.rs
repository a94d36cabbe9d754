//! The nouns of a ruleset: tables, chains and rules as this engine uses them, no more of iptables than that.

use ipnet::IpNet;
use portreeve_table::{Family, Interface, Protocol};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Name of a chain, or of a list of clients: letters, digits and hyphens, made from words of this room and hashes. Text of
/// users never becomes part of one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(Arc<str>);

impl Name {
    /// What every name of ours begins with.
    pub(crate) const PREFIX: &str = "PORTREEVE-";
    /// Longest name of a chain (`XT_EXTENSION_MAXNAMELEN` without the terminating zero).
    pub(crate) const LONGEST: usize = 28;

    /// `text` if it has the form of a name of ours.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(Self::PREFIX)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (!rest.is_empty() && text.len() <= Self::LONGEST && rest.bytes().all(plain)).then(|| Self(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Chains with their rules in order.
pub(crate) type Chains = BTreeMap<Name, Vec<Rule>>;

/// A table of iptables in which we have chains, in the order in which a new flow meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    /// At prerouting in front of all translation, and the only such place where a packet of a tracked flow may be dropped.
    Mangle,
    /// Asked for the first packet of each flow alone.
    Nat,
    /// The only one in which a packet may be rejected, and only behind the routing decision.
    Filter,
}

impl Table {
    pub(crate) const ALL: [Self; 3] = [Self::Mangle, Self::Nat, Self::Filter];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Mangle => "mangle",
            Self::Nat => "nat",
            Self::Filter => "filter",
        }
    }

    /// Built-in chains from which packets come to ours.
    pub(crate) const fn hooks(self) -> &'static [&'static str] {
        match self {
            Self::Mangle | Self::Nat => &["PREROUTING"],
            Self::Filter => &["INPUT", "FORWARD"],
        }
    }
}

/// A rule: every match must hold for the verdict to be given.
///
/// Matches stand in the order in which iptables-save prints them: addresses, interface, the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) matches: Vec<Match>,
    pub(crate) verdict: Verdict,
}

impl Rule {
    pub(crate) fn new(matches: impl Into<Vec<Match>>, verdict: Verdict) -> Self {
        Self { matches: matches.into(), verdict }
    }

    /// What it matches, in words.
    pub(crate) fn matched(&self) -> String {
        self.matches.iter().map(|wanted| format!("{wanted} ")).collect()
    }
}

/// Part of a rule that a packet must agree with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    Source(IpNet),
    Destination(IpNet),
    /// It arrived on this interface.
    Arrival(Interface),
    Protocol(Protocol),
    /// Its destination port lies between these two, both included.
    Ports(Protocol, u16, u16),
    /// TCP that opens no connection: anything but SYN alone among FIN, SYN, RST and ACK.
    NotOpening,
    /// The first packet of its flow. One of a flow that was let through before is not, even if nobody has answered yet: a
    /// sender of datagrams that expects no answer keeps its Pod.
    First,
    /// Its source opened a flow there less than so many seconds ago.
    Bound(Family, Name, u32),
    /// Always; remembers its source.
    Bind(Family, Name),
    Chance(Chance),
}

/// A probability in parts of 2^31, as the kernel counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chance(u32);

impl Chance {
    const WHOLE: u32 = 1 << 31;

    /// `part` of `whole`, which is more.
    pub(crate) fn of(part: u64, whole: u64) -> Self {
        let scaled = u128::from(Self::WHOLE) * u128::from(part) / u128::from(whole.max(1));
        Self(u32::try_from(scaled).unwrap_or(Self::WHOLE))
    }

    /// Its decimal fraction: the 11 digits that iptables prints tell all values apart.
    pub(crate) fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(Self::WHOLE)
    }

    /// The value with this fraction; `None` outside of 0 to 1.
    pub(crate) fn from_fraction(fraction: f64) -> Option<Self> {
        let scaled = (fraction * f64::from(Self::WHOLE)).round();
        // By way of its text, since no conversion of a float to an integer refuses what does not fit.
        let parts: u32 = format!("{scaled:.0}").parse().ok()?;
        (parts <= Self::WHOLE).then_some(Self(parts))
    }
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Goes on in a chain and comes back.
    Jump(Name),
    /// Goes on in a chain and comes back to where the last jump was made.
    Goto(Name),
    Return,
    Drop,
    /// Answers with ICMP port unreachable and drops.
    Reject(Family),
    /// Translates the destination to a Pod.
    Deliver(SocketAddr),
    /// Translates the destination to itself: nobody who comes later translates it any more.
    Stay(IpAddr),
}
