//! What the kernel tells of a table, and what it was told, in one form, so that they are equal if they mean the same.
//!
//! The kernel numbers registers of its own, names unnamed sets, and adds what it takes for granted. Each of that is taken
//! back here by name; anything else that differs is a difference.

use super::super::ruleset::{ChainKind, Datum, Field, Key, Name, Rule, Set, Value};
use super::{element, expression, goto, new_set, number, registers};
use crate::message::{self, Attributes};
use portreeve_table::{Family, Interface, Protocol};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// The expressions of a rule: each with its name and its attributes by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expressions(Vec<(Vec<u8>, Numbered)>);

type Numbered = BTreeMap<u16, Vec<u8>>;

impl Expressions {
    pub(crate) fn of(rule: &Rule) -> Option<Self> {
        let mut list = expression::List::default();
        rule.0.iter().for_each(|statement| list.statement(statement, None));
        Self::read(list.finish().bytes())
    }

    /// `NFTA_EXPR_NAME` 1, `NFTA_EXPR_DATA` 2.
    pub(crate) fn read(list: &[u8]) -> Option<Self> {
        let expressions = message::attributes(list)?.into_iter().map(|(_, expression)| {
            let name = message::find(expression, 1)?.strip_suffix(&[0])?;
            let attributes = message::attributes(message::find(expression, 2).unwrap_or_default())?;
            Some((name.to_vec(), plain(name, &attributes)))
        });
        expressions.collect::<Option<_>>().map(Self)
    }

    /// The unnamed map that a list asks (`NFTA_LOOKUP_SET` 1).
    pub(crate) fn unnamed(list: &[u8]) -> Option<&str> {
        message::attributes(list)?.into_iter().find_map(|(_, expression)| {
            let set = message::find(message::find(expression, 2)?, 1)?.strip_suffix(&[0])?;
            std::str::from_utf8(set).ok().filter(|set| is_unnamed(set.as_bytes()))
        })
    }
}

fn is_unnamed(set: &[u8]) -> bool {
    set.starts_with(b"__map")
}

/// Attributes without what the kernel numbers, fills in or counts.
fn plain(name: &[u8], attributes: &[(u16, &[u8])]) -> Numbered {
    let mut plain = BTreeMap::new();
    for (kind, value) in attributes {
        let value = match (name, kind) {
            (b"counter", _) | (b"lookup", 4) => continue,
            (b"lookup", 1) if is_unnamed(value) => b"__map".to_vec(),
            (b"meta" | b"payload" | b"numgen" | b"cmp" | b"immediate", 1)
            | (b"lookup", 2 | 3)
            | (b"nat", 3..=6)
            | (b"tproxy", 2 | 3)
            | (b"dynset", 4)
            | (b"bitwise", 1 | 2) => register(value),
            (b"cmp", 3) | (b"immediate", 2) | (b"bitwise", 4 | 5) => content(value),
            _ => value.to_vec(),
        };
        plain.insert(*kind, value);
    }
    let taken_for_granted: &[(u16, u32)] = match name {
        // NFTA_LOOKUP_FLAGS
        b"lookup" => &[(5, 0)],
        // NFTA_NG_OFFSET
        b"numgen" => &[(4, 0)],
        // NFTA_BITWISE_OP
        b"bitwise" => &[(6, 0)],
        // NFTA_DYNSET_FLAGS
        b"dynset" => &[(9, 0)],
        // NFTA_NAT_FLAGS: NF_NAT_RANGE_MAP_IPS and NF_NAT_RANGE_PROTO_SPECIFIED
        b"nat" => &[(7, 3)],
        _ => &[],
    };
    for (kind, number) in taken_for_granted {
        if plain.get(kind).is_some_and(|value| *value == number.to_be_bytes()) {
            plain.remove(kind);
        }
    }
    // The last of a range that is one: NFTA_NAT_REG_ADDR_MAX, _PROTO_MAX. No timeout but the set's: NFTA_DYNSET_TIMEOUT.
    for (kind, same) in if name == b"nat" { [(4, 3), (6, 5)].as_slice() } else { &[] } {
        if plain.get(kind) == plain.get(same) {
            plain.remove(kind);
        }
    }
    if name == b"dynset" && plain.get(&6).is_some_and(|value| value.iter().all(|byte| *byte == 0)) {
        plain.remove(&6);
    }
    plain
}

/// Registers of four bytes have numbers from 8 on, and the first of each 16 bytes another from 1 on.
fn register(value: &[u8]) -> Vec<u8> {
    let number = value.try_into().ok().map(u32::from_be_bytes);
    match number {
        Some(number) if number >= 8 && number.is_multiple_of(4) => (number / 4 - 1).to_be_bytes().to_vec(),
        _ => value.to_vec(),
    }
}

/// `NFTA_DATA_VALUE` 1 or `NFTA_DATA_VERDICT` 2, and in this `NFTA_VERDICT_CODE` 1, `NFTA_VERDICT_CHAIN` 2.
fn content(data: &[u8]) -> Vec<u8> {
    let Some(verdict) = message::find(data, 2) else { return message::find(data, 1).unwrap_or_default().to_vec() };
    [message::find(verdict, 1), message::find(verdict, 2)].into_iter().flatten().collect::<Vec<_>>().concat()
}

/// What a set was declared to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Declared(Numbered);

impl Declared {
    pub(crate) fn of(set: &Set) -> Self {
        Self::read(new_set(Attributes::new(), "", set, 0).bytes())
    }

    /// `NFTA_SET_FLAGS` 3, `_KEY_TYPE` 4, `_KEY_LEN` 5, `_DATA_TYPE` 6, `_DATA_LEN` 7, `_TIMEOUT` 11, `_EXPR` 17 with
    /// `NFTA_EXPR_NAME` 1.
    pub(crate) fn read(set: &[u8]) -> Self {
        let mut declared: Numbered = BTreeMap::new();
        for kind in [3, 4, 5, 6, 7, 11] {
            let value = message::find(set, kind).filter(|value| value.iter().any(|byte| *byte != 0));
            declared.extend(value.map(|value| (kind, value.to_vec())));
        }
        if declared.get(&6).is_some_and(|kind| *kind == super::VERDICTS.to_be_bytes()) {
            declared.remove(&7);
        }
        let counts = message::find(set, 17).and_then(|expression| message::find(expression, 1));
        declared.extend(counts.map(|name| (17, name.to_vec())));
        Self(declared)
    }

    /// Whether it is a part of a rule (`NFT_SET_ANONYMOUS`).
    pub(crate) fn is_unnamed(&self) -> bool {
        let flags = self.0.get(&3).and_then(|flags| flags.as_slice().try_into().ok()).map(u32::from_be_bytes);
        flags.is_some_and(|flags| flags & super::ANONYMOUS != 0)
    }
}

/// The key of an element, and its flags: they mark the end of a range.
pub(crate) type At = (Vec<u8>, u32);

/// Elements of a set or map: what each leads to.
pub(crate) type Content = BTreeMap<At, Vec<u8>>;

/// One element: `NFTA_SET_ELEM_KEY` 1, `_DATA` 2, `_FLAGS` 3.
pub(crate) fn read_element(element: &[u8]) -> Option<(At, Vec<u8>)> {
    let key = message::find(message::find(element, 1)?, 1)?.to_vec();
    let flags = message::find(element, 3).and_then(|flags| flags.try_into().ok()).map_or(0, u32::from_be_bytes);
    Some(((key, flags), message::find(element, 2).map(content).unwrap_or_default()))
}

/// The elements that one of ours is: two for a range.
pub(crate) fn elements(key: &Key, datum: &Datum) -> Vec<(At, Vec<u8>)> {
    let encoded = super::element_of(key, datum);
    encoded.iter().filter_map(|element| read_element(element.bytes())).collect()
}

/// The elements of the map of a choice.
pub(crate) fn choices(chains: &[Name]) -> Content {
    let all = (0_u32..).zip(chains);
    all.filter_map(|(number, chain)| read_element(element(&number.to_ne_bytes(), &goto(chain.as_str()), 0).bytes()))
        .collect()
}

/// Where packets come to a chain from the kernel: hook, priority, type and what becomes of them at its end; `None` if they
/// come from other chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base(Option<[Vec<u8>; 4]>);

impl Base {
    pub(crate) fn of(kind: ChainKind) -> Self {
        // NF_ACCEPT
        let base = |kind: &str, priority: i32| {
            let kind = [kind.as_bytes(), &[0]].concat();
            [
                message::HOOK_PREROUTING.to_be_bytes().into(),
                priority.to_be_bytes().into(),
                kind,
                1_u32.to_be_bytes().into(),
            ]
        };
        Self(match kind {
            ChainKind::Regular => None,
            ChainKind::NatPrerouting(priority) => Some(base("nat", priority)),
            ChainKind::FilterPrerouting(priority) => Some(base("filter", priority)),
        })
    }

    /// `NFTA_CHAIN_HOOK` 4 with `NFTA_HOOK_HOOKNUM` 1 and `_PRIORITY` 2; `NFTA_CHAIN_POLICY` 5, `_TYPE` 7.
    pub(crate) fn read(chain: &[u8]) -> Self {
        let part = |from: &[u8], kind| message::find(from, kind).unwrap_or_default().to_vec();
        let base = |hook| [part(hook, 1), part(hook, 2), part(chain, 7), part(chain, 5)];
        Self(message::find(chain, 4).map(base))
    }
}

/// The key of these bytes in a set with these fields; `None` if it has no such key.
pub(crate) fn key(fields: &[Field], mut bytes: &[u8]) -> Option<Key> {
    let mut values = Vec::new();
    for field in fields {
        let length = usize::try_from(registers(*field) * 4).ok()?;
        // A key of one field may be shorter than its registers.
        let (value, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
        values.push(match field {
            Field::Interface => {
                let name = value.split(|byte| *byte == 0).next()?;
                Value::Interface(Interface::new(std::str::from_utf8(name).ok()?)?)
            }
            Field::Source(family) | Field::Destination(family) => Value::Address(address(*family, value)?),
            Field::Protocol => Value::Protocol(protocol(*value.first()?)?),
            Field::SourcePort | Field::Port => Value::Port(u16::from_be_bytes(value.get(..2)?.try_into().ok()?)),
        });
        bytes = rest;
    }
    Some(Key::Exact(values))
}

/// The Pod of these bytes in a map to Pods of this family.
pub(crate) fn pod(family: Family, bytes: &[u8]) -> Option<SocketAddr> {
    let (host, port) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    Some(SocketAddr::new(address(family, host)?, u16::from_be_bytes([port[0], port[1]])))
}

fn address(family: Family, bytes: &[u8]) -> Option<IpAddr> {
    Some(match family {
        Family::V4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
        Family::V6 => <[u8; 16]>::try_from(bytes).ok()?.into(),
    })
}

fn protocol(wanted: u8) -> Option<Protocol> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].into_iter().find(|protocol| number(*protocol) == wanted)
}
