//! One translated flow, as the kernel tells of it and as it is named to the kernel.
//!
//! Attributes are those of `linux/netfilter/nfnetlink_conntrack.h`, named in the comment beside each list of numbers.

use crate::message::{self, Attributes};
use portreeve_table::{Family, Protocol};
use std::net::{IpAddr, SocketAddr};

/// `IPS_DST_NAT`: the destination was translated.
const DESTINATION_TRANSLATED: u32 = 1 << 5;
/// `CTA_TUPLE_ORIG`, `_REPLY`; `CTA_STATUS`; `CTA_ID`; `CTA_ZONE`; `CTA_FILTER`; `CTA_STATUS_MASK`.
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const STATUS_MASK: u16 = 26;
/// `CTA_TUPLE_IP`, `_PROTO`, `_ZONE`.
const TUPLE_ADDRESSES: u16 = 1;
const TUPLE_TRANSPORT: u16 = 2;
const TUPLE_ZONE: u16 = 3;
/// `CTA_PROTO_NUM`, `_SRC_PORT`, `_DST_PORT`.
const PROTOCOL: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
/// `CTA_FILTER_REPLY_FLAGS`, and its bits for source address, protocol and source port: the only numbers here in the
/// machine's byte order (`ctnetlink_parse_filter`).
const FILTER_REPLY: u16 = 2;
const BY_ADDRESS: u32 = 1;
const BY_PORT: u32 = 1 << 3 | 1 << 4;

/// A flow whose destination the kernel translates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Transport.
    pub protocol: Protocol,
    /// Who opened it.
    pub client: SocketAddr,
    /// Where the client sends.
    pub frontend: SocketAddr,
    /// Where its packets go.
    pub pod: SocketAddr,
    /// Where the Pod sends its answers: the client, unless the source was translated too.
    pub answered: IpAddr,
    /// The kernel's number of this entry: one that is made later for the same addresses has another.
    id: u32,
}

/// Where flows go.
#[derive(Clone, Copy, Debug)]
pub(super) enum To {
    Any,
    Host(IpAddr),
    Pod(Protocol, SocketAddr),
}

/// One direction of a flow.
struct Tuple {
    protocol: u8,
    source: SocketAddr,
    destination: SocketAddr,
}

/// Why the kernel's words about a flow cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl Flow {
    /// Reads one answer of a dump. `None` for what can be none of ours: another transport, a destination that was not
    /// translated, a zone, which is how others keep their own connections apart.
    pub(super) fn read(answer: &[u8]) -> Result<Option<Self>, Malformed> {
        let all = message::attributes(answer).ok_or(Malformed)?;
        let status = u32::from_be_bytes(required(&all, STATUS)?);
        if find(&all, ZONE).is_some() || status & DESTINATION_TRANSLATED == 0 {
            return Ok(None);
        }
        let (Some(original), Some(reply)) = (tuple(&all, ORIGINAL)?, tuple(&all, REPLY)?) else { return Ok(None) };
        let Some(protocol) = protocol(original.protocol) else { return Ok(None) };
        Ok(Some(Self {
            protocol,
            client: original.source,
            frontend: original.destination,
            pod: reply.source,
            answered: reply.destination.ip(),
            id: u32::from_be_bytes(required(&all, ID)?),
        }))
    }

    /// Names exactly this entry.
    pub(super) fn name(&self) -> Attributes {
        let Self { protocol, client, frontend, id, .. } = self;
        let transport = Attributes::new().with(PROTOCOL, &[number(*protocol)]);
        let transport = transport.with(SOURCE_PORT, &client.port().to_be_bytes());
        let transport = transport.with(DESTINATION_PORT, &frontend.port().to_be_bytes());
        let addresses = with_address(Attributes::new(), source(client.ip()), client.ip());
        let addresses = with_address(addresses, source(frontend.ip()) + 1, frontend.ip());
        let tuple = Attributes::new().nested(TUPLE_ADDRESSES, &addresses).nested(TUPLE_TRANSPORT, &transport);
        Attributes::new().nested(ORIGINAL, &tuple).with(ID, &id.to_be_bytes())
    }

    pub(super) const fn family(&self) -> Family {
        Family::of(self.client.ip())
    }

    /// A flow from `client` to `frontend` that goes to `pod`.
    #[cfg(test)]
    pub(crate) fn sample(protocol: Protocol, client: &str, frontend: &str, pod: &str) -> Self {
        let [client, frontend, pod] = [client, frontend, pod].map(|end| end.parse::<SocketAddr>().unwrap());
        Self { protocol, client, frontend, pod, answered: client.ip(), id: 0 }
    }
}

/// Asks for flows whose destination is translated to this. The kernel may tell of more: before 5.8 it does not know the one
/// restriction, before 5.19 not the other, and of an IPv6 address it takes all that are different
/// (`ctnetlink_filter_match_tuple`, 6.18 still), so that it is not told that one.
pub(super) fn translated(to: To) -> Attributes {
    let bit = DESTINATION_TRANSLATED.to_be_bytes();
    let request = Attributes::new().with(STATUS, &bit).with(STATUS_MASK, &bit);
    let (host, by_port) = match to {
        To::Any | To::Host(IpAddr::V6(_)) => return request,
        To::Host(host) => (host, None),
        To::Pod(protocol, pod) => (pod.ip(), Some((protocol, pod.port()))),
    };
    let addresses = with_address(Attributes::new(), source(host), host);
    let (mut tuple, mut by) = (Attributes::new().nested(TUPLE_ADDRESSES, &addresses), 0);
    if host.is_ipv4() {
        by |= BY_ADDRESS;
    }
    if let Some((protocol, port)) = by_port {
        let transport = Attributes::new().with(PROTOCOL, &[number(protocol)]);
        tuple = tuple.nested(TUPLE_TRANSPORT, &transport.with(SOURCE_PORT, &port.to_be_bytes()));
        by |= BY_PORT;
    }
    let flags = Attributes::new().with(FILTER_REPLY, &by.to_ne_bytes());
    request.nested(REPLY, &tuple).nested(FILTER, &flags)
}

/// `None` if it has no ports or lies in a zone.
fn tuple(attributes: &[(u16, &[u8])], direction: u16) -> Result<Option<Tuple>, Malformed> {
    let tuple = message::attributes(find(attributes, direction).ok_or(Malformed)?).ok_or(Malformed)?;
    let inner = |kind| message::attributes(find(&tuple, kind).ok_or(Malformed)?).ok_or(Malformed);
    let (addresses, transport) = (inner(TUPLE_ADDRESSES)?, inner(TUPLE_TRANSPORT)?);
    let [protocol] = required(&transport, PROTOCOL)?;
    if find(&tuple, TUPLE_ZONE).is_some() || self::protocol(protocol).is_none() {
        return Ok(None);
    }
    let end = |address: u16, port| -> Result<SocketAddr, Malformed> {
        let ip = match find(&addresses, address) {
            Some(bytes) => IpAddr::from(<[u8; 4]>::try_from(bytes).map_err(|_| Malformed)?),
            // CTA_IP_V6_SRC and _DST stand two behind those of IPv4.
            None => IpAddr::from(required::<16>(&addresses, address + 2)?),
        };
        Ok(SocketAddr::new(ip, u16::from_be_bytes(required(&transport, port)?)))
    };
    Ok(Some(Tuple { protocol, source: end(1, SOURCE_PORT)?, destination: end(2, DESTINATION_PORT)? }))
}

fn find<'a>(attributes: &[(u16, &'a [u8])], kind: u16) -> Option<&'a [u8]> {
    attributes.iter().find(|(found, _)| *found == kind).map(|(_, payload)| *payload)
}

fn required<const LENGTH: usize>(attributes: &[(u16, &[u8])], kind: u16) -> Result<[u8; LENGTH], Malformed> {
    find(attributes, kind).and_then(|bytes| bytes.try_into().ok()).ok_or(Malformed)
}

/// `CTA_IP_V4_SRC`, `CTA_IP_V6_SRC`; the destination's is the next.
const fn source(address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(_) => 1,
        IpAddr::V6(_) => 3,
    }
}

fn with_address(attributes: Attributes, kind: u16, address: IpAddr) -> Attributes {
    match address {
        IpAddr::V4(address) => attributes.with(kind, &address.octets()),
        IpAddr::V6(address) => attributes.with(kind, &address.octets()),
    }
}

const fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

const fn protocol(number: u8) -> Option<Protocol> {
    match number {
        6 => Some(Protocol::Tcp),
        17 => Some(Protocol::Udp),
        132 => Some(Protocol::Sctp),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
