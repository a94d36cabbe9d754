//! Commands as one netlink batch.
//!
//! Attributes are those of `linux/netfilter/nf_tables.h`, named in the comment beside each list of numbers. What is encoded
//! here must read in nft(8) as [the text](super::ruleset) says: the tests load both and compare.

pub(crate) mod canonical;
mod expression;

use super::ruleset::{ChainKind, Client, Command, Datum, Field, Key, REMEMBERED, Set, SetKind, Statement, Value};
use crate::message::{
    self, ACK, APPEND, Attributes, CREATE, DELETE_CHAIN, DELETE_ELEMENTS, DELETE_RULE, DELETE_SET, DELETE_TABLE,
    GET_ELEMENTS, Messages, NEW_CHAIN, NEW_ELEMENTS, NEW_RULE, NEW_SET, NEW_TABLE,
};
use ipnet::IpNet;
use portreeve_table::{Family, Protocol};
use std::net::{IpAddr, SocketAddr};

/// Longest list of elements in one message; an attribute ends at 64 KiB.
const ELEMENTS: usize = 32 * 1024;
/// `NFT_SET_*`.
const ANONYMOUS: u32 = 0x1;
const CONSTANT: u32 = 0x2;
const RANGES: u32 = 0x4;
const MAP: u32 = 0x8;
const TIMEOUT: u32 = 0x10;
const DYNAMIC: u32 = 0x20;
/// `NFT_DATA_VERDICT`.
const VERDICTS: u32 = 0xffff_ff00;
/// `NFT_GOTO`.
const GOTO: i32 = -4;
/// `NFT_SET_ELEM_INTERVAL_END`.
const RANGE_END: u32 = 0x1;
/// What nft(8) calls the types of fields (`enum datatypes` there): the kernel keeps them for it.
const INTEGER: u32 = 4;
const TYPE_BITS: u32 = 6;

/// A batch and which of its messages belongs to which command.
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    /// By sequence number, beginning with 1: index of the command.
    origins: Vec<usize>,
}

impl Batch {
    /// The number of the last message, the one that asks for an acknowledgement.
    pub(crate) fn last(&self) -> u32 {
        sequence(self.origins.len())
    }

    /// The command that the message of this number belongs to; `None` for those that begin and end the batch.
    pub(crate) fn origin(&self, sequence: u32) -> Option<usize> {
        let index = usize::try_from(sequence).ok()?.checked_sub(1)?;
        self.origins.get(index).copied()
    }
}

fn sequence(number: usize) -> u32 {
    u32::try_from(number).expect("invariant: a batch of billions of messages does not fit into memory")
}

/// The batch that does `commands` to the table of this name.
pub(crate) fn encode(table: &str, commands: &[Command]) -> Batch {
    let mut steps = Vec::new();
    let mut origins = Vec::new();
    let mut sets = 0;
    for (origin, command) in commands.iter().enumerate() {
        steps.extend(messages(table, command, &mut sets));
        origins.resize(steps.len(), origin);
    }
    let mut batch = Messages::batch();
    for (index, Step { command, flags, attributes }) in steps.iter().enumerate() {
        let number = sequence(index + 1);
        // Failures are told without being asked for.
        let ask = if index + 1 == steps.len() { ACK } else { 0 };
        batch.inet(*command, flags | ask, number, attributes);
    }
    Batch { bytes: batch.end_batch(sequence(steps.len() + 1)), origins }
}

/// One message.
struct Step {
    command: u16,
    flags: u16,
    attributes: Attributes,
}

impl Step {
    const fn new(command: u16, flags: u16, attributes: Attributes) -> Self {
        Self { command, flags, attributes }
    }
}

/// `NFTA_TABLE_NAME`, `NFTA_CHAIN_TABLE`, `NFTA_RULE_TABLE`, `NFTA_SET_TABLE` and `NFTA_SET_ELEM_LIST_TABLE` are all 1.
fn of(table: &str) -> Attributes {
    Attributes::new().text(1, table)
}

fn messages(table: &str, command: &Command, sets: &mut u32) -> Vec<Step> {
    let ours = || of(table);
    match command {
        // Deleting what is not there is an error, making what is there is none.
        Command::ResetTable => [(NEW_TABLE, CREATE), (DELETE_TABLE, 0), (NEW_TABLE, CREATE)]
            .map(|(command, flags)| Step::new(command, flags, ours()))
            .into(),
        Command::AddTable => vec![Step::new(NEW_TABLE, CREATE, ours())],
        Command::RemoveTable => {
            [(NEW_TABLE, CREATE), (DELETE_TABLE, 0)].map(|(command, flags)| Step::new(command, flags, ours())).into()
        }
        Command::RemoveElements(set, list) => elements(DELETE_ELEMENTS, 0, || ours().text(2, set.as_str()), list),
        // Without a list of elements it is all of them.
        Command::EmptySet(set) => vec![Step::new(DELETE_ELEMENTS, 0, ours().text(2, set.as_str()))],
        // NFTA_RULE_CHAIN
        Command::FlushChain(chain) => vec![Step::new(DELETE_RULE, 0, ours().text(2, chain.as_str()))],
        // NFTA_CHAIN_NAME
        Command::RemoveChain(chain) => vec![Step::new(DELETE_CHAIN, 0, ours().text(3, chain.as_str()))],
        // NFTA_SET_NAME
        Command::RemoveSet(set) => vec![Step::new(DELETE_SET, 0, ours().text(2, set.as_str()))],
        Command::AddSet(name, set) => vec![Step::new(NEW_SET, CREATE, new_set(ours(), name.as_str(), set, next(sets)))],
        Command::AddChain(name, ChainKind::Regular) => {
            vec![Step::new(NEW_CHAIN, CREATE, ours().text(3, name.as_str()))]
        }
        Command::AddChain(name, ChainKind::NatPrerouting(priority)) => {
            vec![Step::new(NEW_CHAIN, CREATE, message::base_chain(table, name.as_str(), "nat", *priority))]
        }
        Command::AddChain(name, ChainKind::FilterPrerouting(priority)) => {
            vec![Step::new(NEW_CHAIN, CREATE, message::base_chain(table, name.as_str(), "filter", *priority))]
        }
        Command::AddElements(set, list) => elements(NEW_ELEMENTS, CREATE, || ours().text(2, set.as_str()), list),
        Command::Remind(set, clients) => {
            let encoded = clients.iter().map(remembered);
            lists(NEW_ELEMENTS, CREATE, || ours().text(2, set.as_str()), encoded)
        }
        Command::AddRule(chain, rule) => {
            let mut steps = Vec::new();
            let mut list = expression::List::default();
            for statement in &rule.0 {
                let choices = if let Statement::Choose(chains) = statement {
                    let id = next(sets);
                    steps.extend(choices(table, chains, id));
                    Some(id)
                } else {
                    None
                };
                list.statement(statement, choices);
            }
            // NFTA_RULE_CHAIN, NFTA_RULE_EXPRESSIONS
            let attributes = ours().text(2, chain.as_str()).nested(4, &list.finish());
            steps.push(Step::new(NEW_RULE, CREATE | APPEND, attributes));
            steps
        }
    }
}

fn next(sets: &mut u32) -> u32 {
    *sets += 1;
    *sets
}

/// Attributes that a set is made with: `NFTA_SET_NAME` 2, `_FLAGS` 3, `_KEY_TYPE` 4, `_KEY_LEN` 5, `_DATA_TYPE` 6,
/// `_DATA_LEN` 7, `_DESC` 9 (`NFTA_SET_DESC_SIZE` 1), `_ID` 10, `_TIMEOUT` 11 in milliseconds, `_EXPR` 17.
fn new_set(table: Attributes, name: &str, Set { fields, kind }: &Set, id: u32) -> Attributes {
    let key = concatenated(fields.iter().map(|field| type_of(*field)));
    let length = match fields.as_slice() {
        // nft(8) ends itself over a key of one field that is longer than the field.
        [Field::Protocol] => 1,
        [Field::Port] => 2,
        _ => fields.iter().map(|field| registers(*field) * 4).sum(),
    };
    let flags = match kind {
        SetKind::Keys => 0,
        SetKind::Ranges => RANGES,
        SetKind::Remembered { .. } => TIMEOUT | DYNAMIC,
        SetKind::Leases { .. } => TIMEOUT,
        SetKind::Chains | SetKind::Pods(_) => MAP,
    };
    let set = table.text(2, name).number(3, flags).number(4, key).number(5, length).number(10, id);
    match kind {
        SetKind::Keys if fields == &[Field::Interface] => set.with(13, &in_host_order()),
        SetKind::Keys | SetKind::Ranges => set,
        SetKind::Remembered { seconds } => set
            .nested(9, &Attributes::new().number(1, REMEMBERED))
            .with(11, &(u64::from(*seconds) * 1000).to_be_bytes()),
        SetKind::Leases { seconds } => set.with(11, &(seconds * 1000).to_be_bytes()),
        SetKind::Chains => set.number(6, VERDICTS).number(7, 0),
        SetKind::Pods(family) => {
            let fields = [Field::Destination(*family), Field::Port];
            let data = concatenated(fields.into_iter().map(type_of));
            let length = fields.into_iter().map(|field| registers(field) * 4).sum();
            // The kernel gives each element a counter of its own, made after this one.
            set.number(6, data).number(7, length).nested(17, &expression::counter())
        }
    }
}

/// `NFTNL_UDATA_SET_KEYBYTEORDER` of libnftnl, in `NFTA_SET_USERDATA` 13: nft(8) reads numbers and names of interfaces in
/// the wrong order without it. The kernel keeps it for nft and does not look at it.
fn in_host_order() -> Vec<u8> {
    [[0, 4].as_slice(), &1_u32.to_ne_bytes()].concat()
}

/// The map of a choice: unnamed, and gone with its rule.
fn choices(table: &str, chains: &[super::ruleset::Name], id: u32) -> Vec<Step> {
    let size = u32::try_from(chains.len()).unwrap_or(u32::MAX);
    let flags = ANONYMOUS | CONSTANT | MAP;
    let set = of(table).text(2, expression::UNNAMED).number(3, flags).number(4, INTEGER).number(5, 4);
    let set = set.number(6, VERDICTS).number(7, 0).nested(9, &Attributes::new().number(1, size)).number(10, id);
    let mut steps = vec![Step::new(NEW_SET, CREATE, set.with(13, &in_host_order()))];
    let encoded = (0_u32..).zip(chains).map(|(number, chain)| element(&number.to_ne_bytes(), &goto(chain.as_str()), 0));
    // NFTA_SET_ELEM_LIST_SET_ID
    let list = || of(table).text(2, expression::UNNAMED).number(4, id);
    steps.extend(lists(NEW_ELEMENTS, CREATE, list, encoded));
    steps
}

/// Asks for exactly these elements of a set; each comes in an answer of its own, in this order.
pub(crate) fn asking(table: &str, set: &str, keys: &[&[Value]]) -> Vec<u8> {
    let mut list = Attributes::new();
    for key in keys {
        list.push_nested(1, &element(&key_bytes(key), &Attributes::new(), 0));
    }
    message::inet_request(GET_ELEMENTS, ACK, &of(table).text(2, set).nested(3, &list))
}

fn elements(command: u16, flags: u16, set: impl Fn() -> Attributes, elements: &[(Key, Datum)]) -> Vec<Step> {
    lists(command, flags, set, elements.iter().flat_map(|(key, datum)| element_of(key, datum)))
}

/// One element, or both ends of a range.
fn element_of(key: &Key, datum: &Datum) -> Vec<Attributes> {
    match key {
        Key::Exact(values) => vec![element(&key_bytes(values), &data(datum), 0)],
        Key::Range(range) => {
            let none = Attributes::new();
            let (first, behind) = bounds(range);
            let mut ends = vec![element(&first, &none, 0)];
            ends.extend(behind.map(|behind| element(&behind, &none, RANGE_END)));
            ends
        }
    }
}

/// Elements in as many messages as they need: `NFTA_SET_ELEM_LIST_ELEMENTS` 3, in it `NFTA_LIST_ELEM` 1.
fn lists(
    command: u16,
    flags: u16,
    set: impl Fn() -> Attributes,
    elements: impl Iterator<Item = Attributes>,
) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut list = Attributes::new();
    for element in elements {
        if list.len() + element.len() > ELEMENTS {
            steps.push(Step::new(command, flags, set().nested(3, &list)));
            list = Attributes::new();
        }
        list.push_nested(1, &element);
    }
    if list.len() > 0 {
        steps.push(Step::new(command, flags, set().nested(3, &list)));
    }
    steps
}

/// `NFTA_SET_ELEM_KEY` 1, `_DATA` 2, `_FLAGS` 3; `NFTA_DATA_VALUE` 1.
fn element(key: &[u8], data: &Attributes, flags: u32) -> Attributes {
    let mut element = Attributes::new().nested(1, &Attributes::new().with(1, key));
    if data.len() > 0 {
        element.push_nested(2, data);
    }
    if flags == 0 { element } else { element.number(3, flags) }
}

/// `NFTA_SET_ELEM_EXPIRATION` 5, in milliseconds; without a timeout of its own an element has that of the set.
fn remembered(Client { address, left }: &Client) -> Attributes {
    let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    element(&address_bytes(*address), &Attributes::new(), 0).with(5, &left.to_be_bytes())
}

fn data(datum: &Datum) -> Attributes {
    match datum {
        Datum::Nothing => Attributes::new(),
        Datum::Goto(chain) => goto(chain.as_str()),
        Datum::Pod(pod) => Attributes::new().with(1, &pod_bytes(*pod)),
    }
}

/// `NFTA_DATA_VERDICT` 2, in it `NFTA_VERDICT_CODE` 1 and `NFTA_VERDICT_CHAIN` 2.
fn goto(chain: &str) -> Attributes {
    let verdict = Attributes::new().with(1, &GOTO.to_be_bytes()).text(2, chain);
    Attributes::new().nested(2, &verdict)
}

fn verdict(code: i32) -> Attributes {
    Attributes::new().nested(2, &Attributes::new().with(1, &code.to_be_bytes()))
}

fn address_bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

fn pod_bytes(pod: SocketAddr) -> Vec<u8> {
    [address_bytes(pod.ip()), padded(&pod.port().to_be_bytes())].concat()
}

fn key_bytes(values: &[Value]) -> Vec<u8> {
    match values {
        [one] => bytes(one),
        several => several.iter().flat_map(|value| padded(&bytes(value))).collect(),
    }
}

/// Fields of a key of several begin at multiples of four bytes, as registers do.
fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(4), 0);
    padded
}

fn bytes(value: &Value) -> Vec<u8> {
    match value {
        Value::Interface(interface) => {
            let mut name = interface.as_str().as_bytes().to_vec();
            name.resize(16, 0);
            name
        }
        Value::Address(address) => address_bytes(*address),
        Value::Protocol(protocol) => vec![number(*protocol)],
        Value::Port(port) => port.to_be_bytes().into(),
    }
}

/// First address of a range and the one behind its last; none behind the last of all.
fn bounds(range: &IpNet) -> (Vec<u8>, Option<Vec<u8>>) {
    let behind = match range.broadcast() {
        IpAddr::V4(last) => u32::from(last).checked_add(1).map(|behind| behind.to_be_bytes().to_vec()),
        IpAddr::V6(last) => u128::from(last).checked_add(1).map(|behind| behind.to_be_bytes().to_vec()),
    };
    (address_bytes(range.network()), behind)
}

/// Numbers of the protocols (IANA).
const fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const fn family_number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// Registers of four bytes that a field takes.
const fn registers(field: Field) -> u32 {
    match field {
        Field::Interface | Field::Source(Family::V6) | Field::Destination(Family::V6) => 4,
        Field::Source(Family::V4)
        | Field::Destination(Family::V4)
        | Field::Protocol
        | Field::SourcePort
        | Field::Port => 1,
    }
}

pub(crate) const fn type_of(field: Field) -> u32 {
    match field {
        Field::Source(Family::V4) | Field::Destination(Family::V4) => 7,
        Field::Source(Family::V6) | Field::Destination(Family::V6) => 8,
        Field::Protocol => 12,
        Field::SourcePort | Field::Port => 13,
        Field::Interface => 41,
    }
}

fn concatenated(types: impl Iterator<Item = u32>) -> u32 {
    types.fold(0, |all, one| all << TYPE_BITS | one)
}
