//! Names of everything in our table.
//!
//! What all Services share has a word for a name; what one Service has for itself has a word and a hash.

use super::model::{Name, Value};
use portreeve_table::{Family, Protocol, ServiceKey};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::net::SocketAddr;

/// Name of our table.
pub(crate) const TABLE: &str = "portreeve";

pub(crate) const UPLINKS: &str = "uplinks";
pub(crate) const PREROUTING: &str = "prerouting";

const fn digit(family: Family) -> char {
    match family {
        Family::V4 => '4',
        Family::V6 => '6',
    }
}

pub(crate) fn shared(word: &str) -> Name {
    Name::new(word)
}

pub(crate) fn of_family(word: &str, family: Family) -> Name {
    Name::new(format!("{word}{}", digit(family)))
}

/// How a frontend is addressed: it decides the fields of a key, and with them the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Address(Family),
    NodePort(Family),
}

impl Place {
    /// All, those that are asked first before the others.
    pub(crate) const ALL: [Self; 4] =
        [Self::Address(Family::V4), Self::NodePort(Family::V4), Self::Address(Family::V6), Self::NodePort(Family::V6)];

    pub(crate) const fn family(self) -> Family {
        match self {
            Self::Address(family) | Self::NodePort(family) => family,
        }
    }

    const fn words(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Address(_) => ("frontends", "guarded-frontends", "slot"),
            Self::NodePort(_) => ("node-ports", "guarded-node-ports", "node-slot"),
        }
    }

    /// Map from a frontend to the chain that decides.
    pub(crate) fn frontends(self) -> Name {
        of_family(self.words().0, self.family())
    }

    /// Map from a guarded frontend to the chain that decides about accepted sources.
    pub(crate) fn guarded(self) -> Name {
        of_family(self.words().1, self.family())
    }

    /// Whether the keys of this map are frontends of this place.
    pub(crate) fn is_asked_in(self, map: &Name) -> bool {
        let slots = format!("{}{}-", self.words().2, digit(self.family()));
        *map == self.frontends() || *map == self.guarded() || map.as_str().starts_with(&slots)
    }

    /// Map from a frontend to its target of this number.
    pub(crate) fn slot(self, number: usize) -> Name {
        Name::new(format!("{}{}-{number}", self.words().2, digit(self.family())))
    }
}

/// Chain in which one of `width` targets is chosen.
pub(crate) fn choose(width: usize) -> Name {
    Name::new(format!("choose-{width}"))
}

/// Chain that delivers to the target of this number.
pub(crate) fn slot(number: usize) -> Name {
    Name::new(format!("slot-{number}"))
}

/// Names of what one Service has for itself.
///
/// The hash is cut to 96 bits: nobody can find a name of a Service of their own that meets one of another's.
#[derive(Clone)]
pub(crate) struct Own(Sha256);

impl Own {
    pub(crate) fn service(key: &ServiceKey) -> Self {
        Self(Sha256::new()).with(&key.namespace).with(&key.name)
    }

    pub(crate) fn port(&self, name: &str, family: Family, protocol: Protocol) -> Self {
        self.clone().with(name).with(&family.to_string()).with(&protocol.to_string())
    }

    pub(crate) fn pod(&self, pod: SocketAddr) -> Self {
        self.clone().with(&pod.to_string())
    }

    /// Adds a text and its length, so that no two lists of texts run together into the same bytes.
    fn with(mut self, text: &str) -> Self {
        self.0.update(text.len().to_be_bytes());
        self.0.update(text);
        self
    }

    pub(crate) fn name(&self, word: &str) -> Name {
        let mut name = format!("{word}-");
        for byte in self.0.clone().finalize().iter().take(12) {
            let _: Result<(), std::fmt::Error> = write!(name, "{byte:02x}");
        }
        Name::new(name)
    }
}

/// Values that stand for a frontend in a map of its [`Place`].
pub(crate) fn frontend_key(address: Option<std::net::IpAddr>, protocol: Protocol, port: u16) -> Vec<Value> {
    let rest = [Value::Protocol(protocol), Value::Port(port)];
    address.map(Value::Address).into_iter().chain(rest).collect()
}
