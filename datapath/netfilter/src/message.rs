//! Messages of the netfilter netlink family, as bytes. Numbers and layouts are those of `linux/netlink.h`,
//! `linux/netfilter/nfnetlink.h`, `linux/netfilter/nf_tables.h` and `linux/netfilter/nfnetlink_conntrack.h`; headers are in
//! the machine's byte order, numbers in attributes in the network's.

const SUBSYSTEM_CONNTRACK: u16 = 1;
const SUBSYSTEM_NFTABLES: u16 = 10;
const HEADER: usize = 16;
/// Header of the netfilter family (`struct nfgenmsg`), behind the first.
const FAMILY_HEADER: usize = 4;
const ALIGN: usize = 4;

const REQUEST: u16 = 0x1;
pub(crate) const ACK: u16 = 0x4;
pub(crate) const EXCLUSIVE: u16 = 0x200;
pub(crate) const CREATE: u16 = 0x400;
pub(crate) const APPEND: u16 = 0x800;
/// Asks for everything that fits the request rather than for one thing.
pub(crate) const DUMP: u16 = 0x300;
/// Set on the type of an attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// Type of a message that carries an errno, zero for an acknowledgement.
const ERROR: u16 = 2;
/// Type of the message behind the last of a dump; carries an errno as well.
const DONE: u16 = 3;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

pub(crate) const NEW_TABLE: u16 = 0;
pub(crate) const GET_TABLE: u16 = 1;
pub(crate) const DELETE_TABLE: u16 = 2;
pub(crate) const NEW_CHAIN: u16 = 3;
pub(crate) const GET_CHAIN: u16 = 4;
pub(crate) const DELETE_CHAIN: u16 = 5;
pub(crate) const NEW_RULE: u16 = 6;
pub(crate) const GET_RULE: u16 = 7;
pub(crate) const DELETE_RULE: u16 = 8;
pub(crate) const NEW_SET: u16 = 9;
pub(crate) const GET_SET: u16 = 10;
pub(crate) const DELETE_SET: u16 = 11;
pub(crate) const NEW_ELEMENTS: u16 = 12;
pub(crate) const GET_ELEMENTS: u16 = 13;
pub(crate) const DELETE_ELEMENTS: u16 = 14;
const GET_GENERATION: u16 = 16;

pub(crate) const GET_FLOW: u16 = 1;
pub(crate) const DELETE_FLOW: u16 = 2;

const FAMILY_UNSPECIFIED: u8 = 0;
const FAMILY_INET: u8 = 1;
pub(crate) const HOOK_PREROUTING: u32 = 0;

/// Attributes under construction.
pub(crate) struct Attributes(Vec<u8>);

impl Attributes {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn with(mut self, kind: u16, payload: &[u8]) -> Self {
        self.push(kind, payload);
        self
    }

    pub(crate) fn number(self, kind: u16, number: u32) -> Self {
        self.with(kind, &number.to_be_bytes())
    }

    pub(crate) fn text(self, kind: u16, text: &str) -> Self {
        let mut terminated = text.as_bytes().to_vec();
        terminated.push(0);
        self.with(kind, &terminated)
    }

    pub(crate) fn nested(self, kind: u16, inner: &Self) -> Self {
        self.with(NESTED | kind, &inner.0)
    }

    pub(crate) fn push(&mut self, kind: u16, payload: &[u8]) {
        let length = u16::try_from(4 + payload.len()).expect("invariant: lists are split before they reach 64 KiB");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(payload);
        self.0.resize(self.0.len().next_multiple_of(ALIGN), 0);
    }

    pub(crate) fn push_nested(&mut self, kind: u16, inner: &Self) {
        self.push(NESTED | kind, &inner.0);
    }
}

/// Messages, one behind the other.
pub(crate) struct Messages(Vec<u8>);

impl Messages {
    pub(crate) const fn new() -> Self {
        Self(Vec::new())
    }

    fn push(&mut self, kind: u16, flags: u16, sequence: u32, family: u8, resource: u16, attributes: &Attributes) {
        let length = HEADER + FAMILY_HEADER + attributes.len();
        let length = u32::try_from(length).expect("invariant: a message has a few attributes of 64 KiB at most");
        self.0.extend_from_slice(&length.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.0.extend_from_slice(&(REQUEST | flags).to_ne_bytes());
        self.0.extend_from_slice(&sequence.to_ne_bytes());
        self.0.extend_from_slice(&0_u32.to_ne_bytes());
        self.0.extend_from_slice(&[family, 0]);
        self.0.extend_from_slice(&resource.to_be_bytes());
        self.0.extend_from_slice(&attributes.0);
    }

    /// A batch, of which the kernel takes all or nothing once it has come to the [end](Self::end_batch).
    pub(crate) fn batch() -> Self {
        let mut messages = Self::new();
        messages.push(BATCH_BEGIN, 0, 0, FAMILY_UNSPECIFIED, SUBSYSTEM_NFTABLES, &Attributes::new());
        messages
    }

    pub(crate) fn end_batch(mut self, sequence: u32) -> Vec<u8> {
        self.push(BATCH_END, 0, sequence, FAMILY_UNSPECIFIED, SUBSYSTEM_NFTABLES, &Attributes::new());
        self.0
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }

    /// A message about connections of a family (`AF_INET`, `AF_INET6`).
    pub(crate) fn conntrack(&mut self, command: u16, flags: u16, sequence: u32, family: u8, attributes: &Attributes) {
        self.push(SUBSYSTEM_CONNTRACK << 8 | command, flags, sequence, family, 0, attributes);
    }

    /// A message about something of the `inet` family.
    pub(crate) fn inet(&mut self, command: u16, flags: u16, sequence: u32, attributes: &Attributes) {
        self.push(SUBSYSTEM_NFTABLES << 8 | command, flags, sequence, FAMILY_INET, 0, attributes);
    }
}

/// A chain of a type (`nat`, `filter`) at `priority` of the prerouting hook.
pub(crate) fn base_chain(table: &str, chain: &str, kind: &str, priority: i32) -> Attributes {
    let hook = Attributes::new().number(1, HOOK_PREROUTING).with(2, &priority.to_be_bytes());
    Attributes::new().text(1, table).text(3, chain).nested(4, &hook).text(7, kind)
}

/// Asks for the number of the current ruleset: answered by every kernel with nftables, and changes nothing.
pub(crate) fn get_generation() -> Vec<u8> {
    let mut messages = Messages::new();
    let kind = SUBSYSTEM_NFTABLES << 8 | GET_GENERATION;
    messages.push(kind, ACK, 1, FAMILY_UNSPECIFIED, 0, &Attributes::new());
    messages.0
}

/// Asks for what the kernel knows of a table as a whole.
pub(crate) fn get_table(table: &str) -> Vec<u8> {
    inet_request(GET_TABLE, ACK, &Attributes::new().text(1, table))
}

/// Asks for something of the `inet` family, or with [`DUMP`] for all that fits.
pub(crate) fn inet_request(command: u16, flags: u16, attributes: &Attributes) -> Vec<u8> {
    nftables_request(FAMILY_INET, command, flags, attributes)
}

/// The same of any family of tables (`NFPROTO_*`).
pub(crate) fn nftables_request(family: u8, command: u16, flags: u16, attributes: &Attributes) -> Vec<u8> {
    let mut messages = Messages::new();
    messages.push(SUBSYSTEM_NFTABLES << 8 | command, flags, 1, family, 0, attributes);
    messages.0
}

/// Packets that each rule of a chain has counted, in order, as answers to [`GET_RULE`] tell them; `None` if one has no counter
/// or too many. `NFTA_RULE_EXPRESSIONS` 4.
pub(crate) fn counted(rules: &[Vec<u8>]) -> Option<Vec<u64>> {
    let of_rule = |rule: &Vec<u8>| {
        let expressions = attributes(find(rule, 4)?)?;
        let mut counters = expressions.into_iter().filter_map(|(_, expression)| packets(expression));
        counters.next().filter(|_| counters.next().is_none())
    };
    rules.iter().map(of_rule).collect()
}

/// Packets that an expression has counted; `None` if it is no counter. `NFTA_EXPR_NAME` 1, `_DATA` 2;
/// `NFTA_COUNTER_PACKETS` 2.
pub(crate) fn packets(expression: &[u8]) -> Option<u64> {
    let is_counter = find(expression, 1)? == b"counter\0";
    let packets = find(find(expression, 2).filter(|_| is_counter)?, 2)?;
    packets.try_into().ok().map(u64::from_be_bytes)
}

/// A batch that would make an `inet` table with a nat chain at `priority`, without the message that ends a batch: the
/// kernel checks every step, acknowledges it and discards all (`nft --check` does the same).
pub(crate) fn nat_chain_dry_run(table: &str, priority: i32) -> Vec<u8> {
    let mut messages = Messages::batch();
    let make = CREATE | EXCLUSIVE | ACK;
    messages.inet(NEW_TABLE, make, 2, &Attributes::new().text(1, table));
    messages.inet(NEW_CHAIN, make, 3, &base_chain(table, "probe", "nat", priority));
    messages.0
}

/// One message of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The request of this sequence number succeeded.
    Done { sequence: u32 },
    /// The request of this sequence number failed with this errno.
    Failed { sequence: u32, errno: i32 },
    /// Attributes of what was asked for.
    Data(Vec<u8>),
}

/// Splits one datagram of the kernel into its messages. `None` if a length lies.
pub(crate) fn answers(mut bytes: &[u8]) -> Option<Vec<Answer>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        if length < HEADER || length > bytes.len() {
            return None;
        }
        let (kind, sequence) = (u32_at(bytes, 4)?.to_ne_bytes(), u32_at(bytes, 8)?);
        found.push(match u16::from_ne_bytes([kind[0], kind[1]]) {
            ERROR | DONE => match i32::from_ne_bytes(u32_at(&bytes[..length], HEADER)?.to_ne_bytes()) {
                0 => Answer::Done { sequence },
                negative => Answer::Failed { sequence, errno: negative.checked_neg()? },
            },
            _ => Answer::Data(bytes[..length].get(HEADER + FAMILY_HEADER..)?.to_vec()),
        });
        bytes = bytes.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
    }
    Some(found)
}

/// One change of somebody's rules, as the kernel tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change<'a> {
    /// Port of the socket that did it.
    pub(crate) author: u32,
    /// The table that was changed, or in which something was.
    pub(crate) table: &'a [u8],
    /// The chain that was changed, or in which a rule was.
    pub(crate) chain: Option<&'a [u8]>,
    family: u8,
    command: u16,
}

impl Change<'_> {
    /// Whether the table is of family `inet`.
    pub(crate) const fn is_inet(&self) -> bool {
        self.family == FAMILY_INET
    }

    /// Whether it is one of the table as a whole.
    pub(crate) const fn is_table(&self) -> bool {
        matches!(self.command, NEW_TABLE | DELETE_TABLE)
    }
}

/// The changes of rules that one datagram tells of. `None` if a length lies.
pub(crate) fn changes(mut bytes: &[u8]) -> Option<Vec<Change<'_>>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
        if length < HEADER + FAMILY_HEADER || length > bytes.len() {
            return None;
        }
        let (kind, message) = (u32_at(bytes, 4)?.to_ne_bytes(), &bytes[HEADER..length]);
        let (command, attributes) = (u16::from(kind[0]), &message[FAMILY_HEADER..]);
        let name = |kind| find(attributes, kind).and_then(|name| name.strip_suffix(&[0]));
        // In every message of an object that is in a table, the first attribute is the table's name.
        if let (SUBSYSTEM_NFTABLES, Some(table)) = (u16::from(kind[1]), name(1)) {
            let chain = match command {
                NEW_CHAIN | DELETE_CHAIN => name(3),
                NEW_RULE | DELETE_RULE => name(2),
                _ => None,
            };
            found.push(Change { author: u32_at(bytes, 12)?, table, chain, family: message[0], command });
        }
        bytes = bytes.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
    }
    Some(found)
}

/// The payload of the first attribute of this kind.
pub(crate) fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let header = u32_at(attributes, 0)?.to_ne_bytes();
        let (length, found) =
            (usize::from(u16::from_ne_bytes([header[0], header[1]])), u16::from_ne_bytes([header[2], header[3]]));
        let payload = attributes.get(4..length)?;
        if found & !NESTED == kind {
            return Some(payload);
        }
        attributes = attributes.get(length.next_multiple_of(ALIGN)..)?;
    }
}

/// All attributes of a list. `None` if a length lies.
pub(crate) fn attributes(mut list: &[u8]) -> Option<Vec<(u16, &[u8])>> {
    let mut found = Vec::new();
    while !list.is_empty() {
        let header = u32_at(list, 0)?.to_ne_bytes();
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        found.push((u16::from_ne_bytes([header[2], header[3]]) & !NESTED, list.get(4..length)?));
        list = list.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
    }
    Some(found)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(sequence: u32, value: i32) -> Vec<u8> {
        let mut bytes = 20_u32.to_ne_bytes().to_vec();
        bytes.extend([ERROR.to_ne_bytes(), 0_u16.to_ne_bytes()].concat());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(value.to_ne_bytes());
        bytes
    }

    #[test]
    fn every_message_of_a_batch_says_its_own_length_and_is_aligned() {
        let batch = nat_chain_dry_run("t", -105);
        let (mut at, mut sequences) = (0, Vec::new());
        while at < batch.len() {
            sequences.push(u32_at(&batch, at + 8).unwrap());
            let length = u32_at(&batch, at).unwrap() as usize;
            assert_eq!(length % ALIGN, 0);
            at += length;
        }
        assert_eq!((at, sequences), (batch.len(), vec![0, 2, 3]));
    }

    #[test]
    fn acknowledgements_and_errors_of_one_datagram_are_told_apart() {
        let datagram = [error(2, 0), error(3, -95)].concat();
        assert_eq!(
            answers(&datagram),
            Some(vec![Answer::Done { sequence: 2 }, Answer::Failed { sequence: 3, errno: 95 }])
        );
    }

    #[test]
    fn an_attribute_is_found_behind_others_and_not_behind_a_lying_length() {
        let attributes = Attributes::new().text(1, "table").number(4, 7).0;
        assert_eq!(find(&attributes, 4), Some(&[0, 0, 0, 7][..]));
        assert_eq!(find(&attributes, 5), None);
        let mut lying = attributes;
        lying[0] = 2;
        assert_eq!(find(&lying, 4), None);
    }

    #[test]
    fn all_attributes_of_a_list_are_given_unless_a_length_lies() {
        let list = Attributes::new().text(1, "table").nested(4, &Attributes::new().number(7, 7)).0;
        assert_eq!(attributes(&list), Some(vec![(1, &b"table\0"[..]), (4, &[8, 0, 7, 0, 0, 0, 0, 7][..])]));
        assert_eq!(attributes(&list[..list.len() - 1]), None);
        for length in [0_u8, 3, 200] {
            let mut lying = list.clone();
            lying[0] = length;
            assert_eq!(attributes(&lying), None, "length {length}");
        }
    }

    #[test]
    fn the_end_of_a_dump_carries_its_error() {
        let ends = |value| {
            let mut end = error(1, value);
            end[4..6].copy_from_slice(&DONE.to_ne_bytes());
            answers(&end)
        };
        assert_eq!(ends(0), Some(vec![Answer::Done { sequence: 1 }]));
        assert_eq!(ends(-12), Some(vec![Answer::Failed { sequence: 1, errno: 12 }]));
    }

    #[test]
    fn a_change_is_told_with_its_author_its_table_and_its_chain() {
        let told = |command, attributes: &Attributes, port: u32| {
            let mut messages = Messages::new();
            messages.inet(command, 0, 1, attributes);
            messages.0[12..16].copy_from_slice(&port.to_ne_bytes());
            messages.0
        };
        let rule = told(NEW_RULE, &Attributes::new().text(1, "ours").text(2, "entry"), 7);
        let chain = told(DELETE_CHAIN, &Attributes::new().text(1, "theirs").text(3, "exit"), 8);
        let datagram =
            [rule, chain, told(DELETE_TABLE, &Attributes::new().text(1, "ours"), 9), get_generation()].concat();
        let changes = changes(&datagram).unwrap();
        let seen: Vec<_> = changes.iter().map(|it| (it.author, it.table, it.chain, it.is_table())).collect();
        assert_eq!(
            seen,
            [
                (7, &b"ours"[..], Some(&b"entry"[..]), false),
                (8, &b"theirs"[..], Some(&b"exit"[..]), false),
                (9, &b"ours"[..], None, true)
            ]
        );
        assert!(changes.iter().all(Change::is_inet));
        assert_eq!(super::changes(&datagram[..30]), None);
    }

    #[test]
    fn a_datagram_with_a_lying_length_or_a_torn_error_is_no_answer() {
        for length in [0_u32, 15, 21, 4096] {
            let mut datagram = error(1, 0);
            datagram[..4].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(answers(&datagram), None, "length {length}");
        }
        let mut torn = error(1, 0);
        torn[..4].copy_from_slice(&16_u32.to_ne_bytes());
        assert_eq!(answers(&torn[..16]), None);
        assert_eq!(answers(&error(1, i32::MIN)), None);
    }
}
