//! Statements as the expressions of a rule. Each list of numbers names the attributes that they are.

use super::super::ruleset::{Field, Statement};
use super::{address_bytes, family_number, goto, number, padded, registers, verdict};
use crate::message::Attributes;
use portreeve_table::{Family, Protocol};

/// Name that the kernel completes with a number of its own.
pub(super) const UNNAMED: &str = "__map%d";
/// The first register of four bytes (`NFT_REG32_00`). All values begin here: no statement needs those of another.
const FIRST: u32 = 8;
/// `NFT_REG_VERDICT`.
const VERDICT: u32 = 0;
/// `NF_DROP`, `NFT_RETURN`.
const DROP: i32 = 0;
const RETURN: i32 = -5;
/// `NFT_CMP_EQ`, `NFT_CMP_NEQ`.
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
/// `NFT_META_*`.
const META_INTERFACE: u32 = 6;
const META_FAMILY: u32 = 15;
const META_PROTOCOL: u32 = 16;
/// `NFT_CT_STATE`; of its bits those of `IP_CT_ESTABLISHED` and `IP_CT_RELATED` (`NF_CT_STATE_BIT`).
const CONNECTION_STATE: u32 = 0;
const ESTABLISHED_RELATED: u32 = 0b110;
/// `NFT_PAYLOAD_*_HEADER`.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;
/// `NFT_LOOKUP_F_INV`.
const INVERTED: u32 = 1;
/// `NFT_NG_RANDOM`.
const RANDOM: u32 = 1;
/// `NFT_DYNSET_OP_UPDATE`.
const UPDATE: u32 = 1;
/// `NFT_NAT_DNAT`.
const DNAT: u32 = 1;
/// `NFT_REJECT_ICMPX_UNREACH`, `NFT_REJECT_ICMPX_PORT_UNREACH`.
const ICMPX: u32 = 2;
const PORT_UNREACHABLE: u8 = 1;
/// `NFT_REJECT_TCP_RST`.
const TCP_RESET: u32 = 1;
/// Flags of the TCP header (RFC 9293, 3.1), in its 14th byte.
const TCP_FLAGS: u32 = 13;
const SYN: u8 = 0x02;
const SYN_FIN_RST_ACK: u8 = 0x17;

/// What counts packets and bytes.
pub(super) fn counter() -> Attributes {
    named("counter", &Attributes::new())
}

/// `NFTA_EXPR_NAME` 1, `NFTA_EXPR_DATA` 2.
fn named(name: &str, data: &Attributes) -> Attributes {
    Attributes::new().text(1, name).nested(2, data)
}

/// Expressions of one rule, under construction.
#[derive(Default)]
pub(super) struct List {
    expressions: Vec<Attributes>,
    /// Family that earlier expressions have matched.
    family: Option<Family>,
}

impl List {
    /// `NFTA_LIST_ELEM` 1.
    pub(super) fn finish(self) -> Attributes {
        let mut list = Attributes::new();
        for expression in &self.expressions {
            list.push_nested(1, expression);
        }
        list
    }

    fn push(&mut self, name: &str, data: &Attributes) {
        self.expressions.push(named(name, data));
    }

    /// Appends `statement`; `choices` is the map of a [choice](Statement::Choose).
    pub(super) fn statement(&mut self, statement: &Statement, choices: Option<u32>) {
        match statement {
            Statement::Family(family) => self.family(*family),
            Statement::Protocol(protocol) => self.protocol(*protocol),
            Statement::NotOpening => self.not_opening(),
            Statement::UnderWay => self.under_way(),
            Statement::In(fields, set) => self.look_up(fields, set.as_str(), None, 0),
            Statement::NotIn(fields, set) => self.look_up(fields, set.as_str(), None, INVERTED),
            Statement::Dispatch(fields, map) => self.look_up(fields, map.as_str(), Some(VERDICT), 0),
            Statement::Choose(chains) => {
                let of = u32::try_from(chains.len()).unwrap_or(u32::MAX);
                // NFTA_NG_DREG, _MODULUS, _TYPE
                self.push("numgen", &Attributes::new().number(1, FIRST).number(2, of).number(3, RANDOM));
                // NFTA_LOOKUP_SET, _SREG, _DREG, _SET_ID
                let map = Attributes::new().text(1, UNNAMED).number(2, FIRST).number(3, VERDICT);
                self.push("lookup", &choices.into_iter().fold(map, |map, id| map.number(4, id)));
            }
            Statement::TranslateBy(family, fields, map) => {
                self.look_up(fields, map.as_str(), Some(FIRST), 0);
                self.translate(*family);
            }
            Statement::TranslateTo(pod) => {
                let family = Family::of(pod.ip());
                self.immediate(FIRST, &Attributes::new().with(1, &address_bytes(pod.ip())));
                let port = FIRST + registers(Field::Destination(family));
                self.immediate(port, &Attributes::new().with(1, &padded(&pod.port().to_be_bytes())[..2]));
                self.translate(family);
            }
            Statement::Steer(to) => {
                let family = Family::of(to.ip());
                let port = FIRST + registers(Field::Destination(family));
                self.immediate(FIRST, &Attributes::new().with(1, &address_bytes(to.ip())));
                self.immediate(port, &Attributes::new().with(1, &padded(&to.port().to_be_bytes())[..2]));
                // NFTA_TPROXY_FAMILY, _REG_ADDR, _REG_PORT
                let to = Attributes::new().number(1, family_number(family).into()).number(2, FIRST).number(3, port);
                self.push("tproxy", &to);
            }
            Statement::Remember(family, set) => {
                self.load(&[Field::Source(*family)]);
                // NFTA_DYNSET_SET_NAME, _OP, _SREG_KEY
                let set = Attributes::new().text(1, set.as_str()).number(3, UPDATE).number(4, FIRST);
                self.push("dynset", &set);
            }
            Statement::Count => self.expressions.push(counter()),
            // NFTA_REJECT_TYPE, _ICMP_CODE
            Statement::Reject => {
                self.push("reject", &Attributes::new().number(1, ICMPX).with(2, &[PORT_UNREACHABLE]));
            }
            Statement::Reset => self.push("reject", &Attributes::new().number(1, TCP_RESET).with(2, &[0])),
            Statement::Drop => self.immediate(VERDICT, &verdict(DROP)),
            Statement::Return => self.immediate(VERDICT, &verdict(RETURN)),
            Statement::Goto(chain) => self.immediate(VERDICT, &goto(chain.as_str())),
        }
    }

    fn family(&mut self, family: Family) {
        if self.family.replace(family) != Some(family) {
            self.meta(META_FAMILY, FIRST);
            self.compare(EQUAL, &[family_number(family)]);
        }
    }

    fn protocol(&mut self, protocol: Protocol) {
        self.meta(META_PROTOCOL, FIRST);
        self.compare(EQUAL, &[number(protocol)]);
    }

    fn not_opening(&mut self) {
        self.protocol(Protocol::Tcp);
        self.payload(TRANSPORT, TCP_FLAGS, 1, FIRST);
        self.mask(&[SYN_FIN_RST_ACK]);
        self.compare(NOT_EQUAL, &[SYN]);
    }

    /// `NFTA_CT_DREG` 1, `_KEY` 2.
    fn under_way(&mut self) {
        self.push("ct", &Attributes::new().number(1, FIRST).number(2, CONNECTION_STATE));
        self.mask(&ESTABLISHED_RELATED.to_ne_bytes());
        self.compare(NOT_EQUAL, &[0; 4]);
    }

    /// Leaves these bits of the first register: `NFTA_BITWISE_SREG` 1, `_DREG` 2, `_LEN` 3, `_MASK` 4, `_XOR` 5.
    fn mask(&mut self, bits: &[u8]) {
        let length = u32::try_from(bits.len()).unwrap_or(u32::MAX);
        let value = |bytes: &[u8]| Attributes::new().with(1, bytes);
        let mask = Attributes::new().number(1, FIRST).number(2, FIRST).number(3, length);
        self.push("bitwise", &mask.nested(4, &value(bits)).nested(5, &value(&vec![0; bits.len()])));
    }

    /// Fields one behind the other, from the first register on.
    fn load(&mut self, fields: &[Field]) {
        for field in fields {
            if let Field::Source(family) | Field::Destination(family) = field {
                self.family(*family);
            }
        }
        let mut register = FIRST;
        for field in fields {
            match field {
                Field::Interface => self.meta(META_INTERFACE, register),
                Field::Protocol => self.meta(META_PROTOCOL, register),
                Field::Source(Family::V4) => self.payload(NETWORK, 12, 4, register),
                Field::Destination(Family::V4) => self.payload(NETWORK, 16, 4, register),
                Field::Source(Family::V6) => self.payload(NETWORK, 8, 16, register),
                Field::Destination(Family::V6) => self.payload(NETWORK, 24, 16, register),
                // The ports are at the same places for TCP, UDP and SCTP.
                Field::SourcePort => self.payload(TRANSPORT, 0, 2, register),
                Field::Port => self.payload(TRANSPORT, 2, 2, register),
            }
            register += registers(*field);
        }
    }

    /// `NFTA_LOOKUP_SET` 1, `_SREG` 2, `_DREG` 3, `_FLAGS` 5.
    fn look_up(&mut self, fields: &[Field], set: &str, into: Option<u32>, flags: u32) {
        self.load(fields);
        let set = Attributes::new().text(1, set).number(2, FIRST);
        let set = into.into_iter().fold(set, |set, into| set.number(3, into));
        self.push("lookup", &if flags == 0 { set } else { set.number(5, flags) });
    }

    /// Destination NAT to the address in the first registers and the port behind it: `NFTA_NAT_TYPE` 1, `_FAMILY` 2,
    /// `_REG_ADDR_MIN` 3, `_REG_PROTO_MIN` 5.
    fn translate(&mut self, family: Family) {
        let port = FIRST + registers(Field::Destination(family));
        let nat = Attributes::new().number(1, DNAT).number(2, family_number(family).into());
        self.push("nat", &nat.number(3, FIRST).number(5, port));
    }

    /// `NFTA_META_DREG` 1, `_KEY` 2.
    fn meta(&mut self, key: u32, into: u32) {
        self.push("meta", &Attributes::new().number(1, into).number(2, key));
    }

    /// `NFTA_PAYLOAD_DREG` 1, `_BASE` 2, `_OFFSET` 3, `_LEN` 4.
    fn payload(&mut self, base: u32, offset: u32, length: u32, into: u32) {
        self.push("payload", &Attributes::new().number(1, into).number(2, base).number(3, offset).number(4, length));
    }

    /// `NFTA_CMP_SREG` 1, `_OP` 2, `_DATA` 3.
    fn compare(&mut self, how: u32, with: &[u8]) {
        let data = Attributes::new().with(1, with);
        self.push("cmp", &Attributes::new().number(1, FIRST).number(2, how).nested(3, &data));
    }

    /// `NFTA_IMMEDIATE_DREG` 1, `_DATA` 2.
    fn immediate(&mut self, into: u32, data: &Attributes) {
        self.push("immediate", &Attributes::new().number(1, into).nested(2, data));
    }
}
