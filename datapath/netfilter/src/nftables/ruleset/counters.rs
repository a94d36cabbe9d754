//! Where new flows are counted: beside each Pod that they are sent to, since a nat chain sees none but their first packets.

use super::model::{Datum, Key, Name, Part, Rule, Statement, Value};
use portreeve_table::Protocol;
use std::net::SocketAddr;

/// A counter of a part, by where it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Counter {
    /// Of the element of this key.
    Element(Name, Vec<Value>),
    /// The only one of this chain.
    Chain(Name),
}

impl Counter {
    /// The set that it is an element of.
    pub(crate) const fn set(&self) -> Option<&Name> {
        match self {
            Self::Element(set, _) => Some(set),
            Self::Chain(_) => None,
        }
    }

    /// The key of its element; empty for one of a chain.
    pub(crate) fn key(&self) -> &[Value] {
        match self {
            Self::Element(_, key) => key,
            Self::Chain(_) => &[],
        }
    }
}

/// All counters of flows to Pods in `part`, and to which. Elements of one set stand together.
pub(crate) fn counters(part: &Part) -> Vec<(Counter, (Protocol, SocketAddr))> {
    let elements = part.elements.iter().filter_map(|((set, key), datum)| {
        let (Key::Exact(values), Datum::Pod(pod)) = (key, datum) else { return None };
        let protocol = values.iter().find_map(|value| match value {
            Value::Protocol(protocol) => Some(*protocol),
            _ => None,
        })?;
        Some((Counter::Element(set.clone(), values.clone()), (protocol, *pod)))
    });
    let chains = part.chains.iter().flat_map(|(name, chain)| {
        chain.rules.iter().filter_map(|Rule(statements)| match statements.as_slice() {
            [Statement::Protocol(protocol), Statement::Count, Statement::TranslateTo(pod)] => {
                Some((Counter::Chain(name.clone()), (*protocol, *pod)))
            }
            _ => None,
        })
    });
    elements.chain(chains).collect()
}
