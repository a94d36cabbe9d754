//! Names of our chains and of the lists in which clients are remembered.
//!
//! What all Services share has words for a name; what one has for itself has a word and a hash.

use super::rules::Name;
use portreeve_table::{Family, Protocol, ServiceKey};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;

/// Where packets come in from the built-in chains.
pub(crate) const ENTRY: &str = "ENTRY";
/// Where those come that arrived on an uplink.
pub(crate) const ARRIVAL: &str = "ARRIVAL";
/// Where those for a node port come that are to be rejected.
pub(crate) const HOLD: &str = "HOLD";

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

pub(crate) fn shared(words: &str) -> Name {
    made(words)
}

pub(crate) fn transport(protocol: Protocol) -> Name {
    made(&protocol.to_string().to_ascii_uppercase())
}

fn made(rest: &str) -> Name {
    Name::new(&format!("{}{rest}", Name::PREFIX)).expect("invariant: words of this room and hashes of 14 digits fit")
}

/// What a chain with a hash is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Part of the way to a frontend.
    Map,
    /// Chooses among the Pods of a port.
    Svc,
    /// Binds a client to a Pod and delivers to it.
    Pod,
    /// Accepts sources.
    Src,
    /// Tells accepted sources from others, for mode Observe.
    Obs,
}

/// The names of one thing, told from those of others by a hash of 83 bits: nobody can find a name of a Service of their own
/// that meets one of another's.
#[derive(Clone)]
pub(crate) struct Own(Sha256);

impl Own {
    pub(crate) fn new() -> Self {
        Self(Sha256::new())
    }

    pub(crate) fn service(key: &ServiceKey) -> Self {
        Self::new().with(key.namespace.as_bytes()).with(key.name.as_bytes())
    }

    pub(crate) fn family(&self, family: Family) -> Self {
        self.clone().with(family.to_string().as_bytes())
    }

    pub(crate) fn port(&self, name: &str, family: Family, protocol: Protocol) -> Self {
        self.family(family).with(name.as_bytes()).with(protocol.to_string().as_bytes())
    }

    pub(crate) fn pod(&self, pod: SocketAddr) -> Self {
        self.clone().with(pod.to_string().as_bytes())
    }

    /// Adds bytes and their number, so that no two lists of texts run together into the same bytes.
    pub(crate) fn with(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes.len().to_be_bytes());
        self.0.update(bytes);
        self
    }

    pub(crate) fn name(&self, word: Word) -> Name {
        let mut rest = match word {
            Word::Map => "MAP-",
            Word::Svc => "SVC-",
            Word::Pod => "POD-",
            Word::Src => "SRC-",
            Word::Obs => "OBS-",
        }
        .to_owned();
        let hash = self.0.clone().finalize();
        let mut number = hash.iter().take(16).fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
        for _ in 0..14 {
            let digit = usize::try_from(number % 62).expect("invariant: a remainder is below the divisor");
            rest.push(char::from(DIGITS[digit]));
            number /= 62;
        }
        made(&rest)
    }
}
