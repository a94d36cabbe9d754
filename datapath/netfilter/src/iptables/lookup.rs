//! From a packet's destination to the rule for its frontend, through few rules whatever the number of frontends.
//!
//! iptables has no map from an address to a chain: a set of ipset knows membership alone, and its program is on few nodes.
//! So frontends of a transport are a tree of chains, by the bits of address and port, two at a time: a chain has up to
//! [`BUCKET`] frontends, or a rule for each of the up to four subtrees that the next two bits tell apart; bits in which
//! all frontends below agree are skipped. Four ways cost least: a packet that finds its frontend is held against
//! 2.5 rules on average for two bits of what distinguishes it, where sixteen ways cost 8.5 for four and two ways 1.5 for
//! one with twice the chains. Any of ten thousand frontends is 16 rules away on average and 27 at most, whether they have
//! addresses in a row, anywhere, or one address with ten thousand ports.
//!
//! The shape follows from the frontends alone and not from how they came, so that one that comes or goes changes the
//! chains on its way and their leaves, and no others.

use super::names::{Own, Word};
use super::rules::{Chains, Match, Name, Rule, Verdict};
use ipnet::IpNet;
use portreeve_table::{Family, Protocol};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Most frontends of a chain that has no subtrees.
const BUCKET: usize = 8;
/// Bits of a port.
const PORT_BITS: u32 = 16;

/// How a frontend is addressed. Those with an address are looked up before those on any address of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Address,
    NodePort,
}

/// A frontend within its transport and place: the bits of its address, if it has one, and its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    address: u128,
    port: u16,
}

impl Key {
    pub(crate) fn new(address: Option<IpAddr>, port: u16) -> Self {
        let address = match address {
            Some(IpAddr::V4(address)) => u32::from(address).into(),
            Some(IpAddr::V6(address)) => address.into(),
            None => 0,
        };
        Self { address, port }
    }
}

/// What is done with a packet for a frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) verdict: Verdict,
    /// Addresses of the node at which this port is another frontend, with an address: not this one, even where that one
    /// has no rule in this table.
    pub(crate) hidden_at: Vec<IpAddr>,
}

/// All frontends of one transport, family and place that a table has a rule for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lookup {
    family: Family,
    protocol: Protocol,
    place: Place,
    leaves: BTreeMap<Key, Leaf>,
}

/// Frontends that agree in all bits in which the first and the last of them do.
#[derive(Clone, Copy)]
struct Node {
    first: Key,
    last: Key,
}

impl Lookup {
    pub(crate) const fn new(family: Family, protocol: Protocol, place: Place) -> Self {
        Self { family, protocol, place, leaves: BTreeMap::new() }
    }

    pub(crate) fn set(&mut self, key: Key, leaf: Option<Leaf>) {
        match leaf {
            Some(leaf) => self.leaves.insert(key, leaf),
            None => self.leaves.remove(&key),
        };
    }

    pub(crate) fn has(&self, key: Key) -> bool {
        self.leaves.contains_key(&key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// The chain in which the search begins, and what every packet that can find something agrees with; `None` without
    /// frontends.
    pub(crate) fn root(&self) -> Option<(Vec<Match>, Name)> {
        let root = self.all()?;
        Some((self.common_matches(root), self.name(root)))
    }

    /// All chains.
    pub(crate) fn chains(&self) -> Chains {
        let mut chains = Chains::new();
        if let Some(root) = self.all() {
            self.visit(root, None, &mut chains);
        }
        chains
    }

    /// Every chain that can differ from one of the same frontends but `touched`.
    pub(crate) fn around(&self, touched: &BTreeSet<Key>) -> Chains {
        let mut chains = Chains::new();
        if let Some(root) = self.all().filter(|_| !touched.is_empty()) {
            self.visit(root, Some(touched), &mut chains);
        }
        chains
    }

    /// A node changes only if what changes agrees with all below it, and is there with or without what does not; except
    /// that one without subtrees comes or goes with those beside it, when they become too many or too few for one chain.
    fn visit(&self, node: Node, touched: Option<&BTreeSet<Key>>, chains: &mut Chains) {
        let (low, high) = self.bounds(node.first, self.split(node));
        if touched.is_none_or(|touched| touched.range(low..=high).next().is_some()) {
            chains.insert(self.name(node), self.rules(node));
            let children = self.children(node).filter_map(|(low, high)| self.between(low, high));
            for child in children.filter(|child| child.first != child.last) {
                self.visit(child, touched, chains);
            }
        } else if self.is_bucket(node) {
            chains.insert(self.name(node), self.rules(node));
        }
    }

    fn rules(&self, node: Node) -> Vec<Rule> {
        if self.is_bucket(node) {
            return self.leaves.range(node.first..=node.last).flat_map(|(key, leaf)| self.leaf(*key, leaf)).collect();
        }
        let children = self.children(node).filter_map(|(low, high)| self.between(low, high));
        let rules = children.flat_map(|child| match self.leaves.get(&child.first) {
            Some(leaf) if child.first == child.last => self.leaf(child.first, leaf),
            _ => vec![Rule::new(self.common_matches(child), Verdict::Goto(self.name(child)))],
        });
        rules.collect()
    }

    /// The rules for one frontend, wherever they are.
    pub(crate) fn leaf(&self, key: Key, leaf: &Leaf) -> Vec<Rule> {
        let port = || Match::Ports(self.protocol, key.port, key.port);
        let elsewhere = leaf
            .hidden_at
            .iter()
            .map(|own| Rule::new([Match::Destination(IpNet::from(*own)), port()], Verdict::Return));
        let own = Rule::new(self.common_matches(Node { first: key, last: key }), leaf.verdict.clone());
        elsewhere.chain([own]).collect()
    }

    fn is_bucket(&self, node: Node) -> bool {
        self.leaves.range(node.first..=node.last).nth(BUCKET).is_none()
    }

    /// The bounds of what the next two bits tell apart; none below a chain without subtrees.
    fn children(&self, node: Node) -> impl Iterator<Item = (Key, Key)> {
        let split = self.split(node);
        let digits = if self.is_bucket(node) { 0..0 } else { 0..4 };
        digits.map(move |digit| self.bounds(self.with_digit(node.first, split, digit), split + 2))
    }

    /// Number of leading bits that all frontends of a node have in common, rounded down to a whole digit.
    fn split(&self, node: Node) -> u32 {
        self.common(node) & !1
    }

    /// All frontends.
    fn all(&self) -> Option<Node> {
        let (low, high) = self.bounds(Key { address: 0, port: 0 }, 0);
        self.between(low, high)
    }

    fn between(&self, low: Key, high: Key) -> Option<Node> {
        let mut inside = self.leaves.range(low..=high).map(|(key, _)| *key);
        let first = inside.next()?;
        Some(Node { first, last: inside.next_back().unwrap_or(first) })
    }

    const fn address_bits(&self) -> u32 {
        match (self.place, self.family) {
            (Place::NodePort, _) => 0,
            (Place::Address, Family::V4) => 32,
            (Place::Address, Family::V6) => 128,
        }
    }

    fn common(&self, node: Node) -> u32 {
        let Node { first, last } = node;
        let address = (first.address ^ last.address).leading_zeros();
        if address < u128::BITS {
            return self.address_bits() + address - u128::BITS;
        }
        self.address_bits() + (first.port ^ last.port).leading_zeros()
    }

    /// The first and the last key that agree with `prefix` in so many bits.
    fn bounds(&self, prefix: Key, bits: u32) -> (Key, Key) {
        let free = self.address_bits() + PORT_BITS - bits;
        let open = u16::MAX.checked_shr(PORT_BITS.saturating_sub(free)).unwrap_or(0);
        let beyond = free.saturating_sub(PORT_BITS);
        let wide = u128::MAX.checked_shr(u128::BITS - beyond).unwrap_or(0);
        let low = Key { address: prefix.address & !wide, port: prefix.port & !open };
        (low, Key { address: low.address | wide, port: low.port | open })
    }

    fn with_digit(&self, key: Key, split: u32, digit: u16) -> Key {
        let Key { address, port } = key;
        let width = self.address_bits();
        if split < width {
            let shift = width - split - 2;
            return Key { address: address & !(3 << shift) | u128::from(digit) << shift, port };
        }
        let shift = width + PORT_BITS - split - 2;
        Key { address, port: port & !(3 << shift) | digit << shift }
    }

    /// What all frontends of a node have in common.
    fn common_matches(&self, node: Node) -> Vec<Match> {
        let (common, width) = (self.common(node), self.address_bits());
        let mut matches = Vec::new();
        if width > 0 && common > 0 {
            let length = u8::try_from(common.min(width)).expect("invariant: an address has at most 128 bits");
            let range = IpNet::new(self.address(node.first), length).expect("invariant: no longer than the address");
            matches.push(Match::Destination(range.trunc()));
        }
        if common > width {
            let (low, high) = self.bounds(node.first, common);
            matches.push(Match::Ports(self.protocol, low.port, high.port));
        }
        matches
    }

    fn address(&self, key: Key) -> IpAddr {
        match self.family {
            Family::V4 => {
                Ipv4Addr::from(u32::try_from(key.address).expect("invariant: keys are of the family of the lookup"))
                    .into()
            }
            Family::V6 => Ipv6Addr::from(key.address).into(),
        }
    }

    /// Named by the bits that all below have in common, so that it stays the same chain while others come and go.
    fn name(&self, node: Node) -> Name {
        let split = self.split(node);
        let (low, _) = self.bounds(node.first, split);
        Own::new()
            .with(&[self.place as u8, self.family as u8])
            .with(self.protocol.to_string().as_bytes())
            .with(&split.to_be_bytes())
            .with(&low.address.to_be_bytes())
            .with(&low.port.to_be_bytes())
            .name(Word::Map)
    }
}

#[cfg(test)]
mod tests;
