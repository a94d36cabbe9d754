//! Packets as bytes. Each carries its number, so that what becomes of it can be told from what becomes of others.

use portreeve_table::Protocol;
use std::net::{IpAddr, SocketAddr};

pub(crate) const FIN: u8 = 1;
/// The flag of TCP that opens a connection.
pub const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// Chunks of SCTP (RFC 9260, 3.2).
const DATA: u8 = 0;
const INIT: u8 = 1;

/// What is to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing {
    pub(crate) number: u32,
    pub(crate) protocol: Protocol,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    /// Flags of TCP.
    pub(crate) flags: u8,
    /// For TCP the number of the packet that opened the flow, if it is another one.
    pub(crate) opened_by: Option<u32>,
    /// For SCTP, whether it opens an association.
    pub(crate) init: bool,
}

/// One or two IP packets with headers.
pub(crate) fn frames(packet: &Outgoing, in_fragments: bool) -> Vec<Vec<u8>> {
    let transport = transport(packet, in_fragments);
    // A multiple of eight behind the number's place in every transport.
    let cut = if packet.protocol == Protocol::Udp { 16 } else { 24 };
    if !in_fragments {
        return vec![[header(packet, transport.len(), None), transport].concat()];
    }
    let (first, second) = transport.split_at(cut);
    vec![
        [header(packet, first.len(), Some((0, true))), first.to_vec()].concat(),
        [header(packet, second.len(), Some((u16::try_from(cut).unwrap(), false))), second.to_vec()].concat(),
    ]
}

fn header(packet: &Outgoing, length: usize, fragment: Option<(u16, bool)>) -> Vec<u8> {
    let number = packet.number.to_be_bytes();
    let protocol = code(packet.protocol);
    match (packet.source.ip(), packet.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            // The kernel writes length and checksum.
            let (offset, more) = fragment.unwrap_or((0, false));
            let [high, low] = ((offset / 8) | (u16::from(more) << 13)).to_be_bytes();
            let mut header = vec![0x45, 0, 0, 0, number[2], number[3], high, low, 64, protocol, 0, 0];
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let length = u16::try_from(length + if fragment.is_some() { 8 } else { 0 }).unwrap().to_be_bytes();
            let next = if fragment.is_some() { FRAGMENT } else { protocol };
            let mut header = vec![0x60, 0, 0, 0, length[0], length[1], next, 64];
            header.extend(source.octets());
            header.extend(destination.octets());
            if let Some((offset, more)) = fragment {
                header.extend([protocol, 0]);
                header.extend((offset | u16::from(more)).to_be_bytes());
                header.extend(number);
            }
            header
        }
        _ => unreachable!("both ends of a packet are of one family"),
    }
}

/// Next header of IPv6 for a fragment.
const FRAGMENT: u8 = 44;

const fn code(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

fn transport(packet: &Outgoing, in_fragments: bool) -> Vec<u8> {
    let Outgoing { number, source, destination, flags, opened_by, .. } = *packet;
    let mut bytes = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    match packet.protocol {
        Protocol::Tcp => {
            // An answer's first number is that of the flow's own first packet, which makes it the one behind it for both.
            let begun = opened_by.map_or(number, |opened| opened.wrapping_add(1));
            bytes.extend(begun.to_be_bytes());
            bytes.extend(if flags & ACK == 0 { 0 } else { opened_by.unwrap_or(number).wrapping_add(1) }.to_be_bytes());
            bytes.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
            if flags & SYN == 0 {
                bytes.extend(number.to_be_bytes());
            }
            if flags & SYN == 0 || in_fragments {
                bytes.resize(32, 0);
            }
        }
        Protocol::Udp => {
            bytes.extend([0, 24, 0, 0]);
            bytes.extend(number.to_be_bytes());
            bytes.resize(24, 0);
        }
        Protocol::Sctp => {
            let tag = if packet.init { 0 } else { number };
            bytes.extend(tag.to_be_bytes());
            bytes.extend([0; 4]);
            let kind = if packet.init { INIT } else { DATA };
            // Flags of DATA: begin and end.
            bytes.extend([kind, if packet.init { 0 } else { 3 }, 0, 20]);
            bytes.extend(number.to_be_bytes());
            bytes.extend(if packet.init { [0, 1, 0, 0, 0, 1, 0, 1] } else { [0; 8] });
            bytes.extend(number.to_be_bytes());
        }
    }
    seal(packet, &mut bytes);
    bytes
}

/// Writes the checksum.
fn seal(packet: &Outgoing, bytes: &mut [u8]) {
    match packet.protocol {
        Protocol::Sctp => {
            let sum = crc32c(bytes);
            bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        }
        Protocol::Tcp | Protocol::Udp => {
            let at = if packet.protocol == Protocol::Tcp { 16 } else { 6 };
            let mut all = Vec::new();
            for end in [packet.source.ip(), packet.destination.ip()] {
                match end {
                    IpAddr::V4(address) => all.extend(address.octets()),
                    IpAddr::V6(address) => all.extend(address.octets()),
                }
            }
            all.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
            all.extend([0, 0, 0, code(packet.protocol)]);
            all.extend_from_slice(bytes);
            all.resize(all.len().next_multiple_of(2), 0);
            let mut sum: u32 = all.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
            while sum > 0xffff {
                sum = (sum & 0xffff) + (sum >> 16);
            }
            let sum = !u16::try_from(sum).unwrap();
            // 0 means none to UDP.
            bytes[at..at + 2].copy_from_slice(&if sum == 0 { 0xffff } else { sum }.to_be_bytes());
        }
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
    !bytes.iter().fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    /// A packet with a number.
    Packet { number: u32, source: SocketAddr, destination: SocketAddr, flags: u8 },
    /// A RST that carries no number.
    Reset { source: SocketAddr, destination: SocketAddr },
    /// An ICMP error about a packet.
    Error { kind: (u8, u8), from: IpAddr, about: u32, source: SocketAddr, destination: SocketAddr },
}

/// Reads an IP packet; `None` if it is nothing of interest here.
pub(crate) fn read(bytes: &[u8]) -> Option<Sight> {
    let (protocol, source, destination, transport) = open(bytes)?;
    if let (1, 3) | (58, 1) = (protocol, *transport.first()?) {
        let kind = (transport[0], *transport.get(1)?);
        let (protocol, inner_source, inner_destination, inner) = open(transport.get(8..)?)?;
        let (number, _) = number(protocol, inner)?;
        let ends = ends(inner_source, inner_destination, inner)?;
        return Some(Sight::Error { kind, from: source, about: number?, source: ends.0, destination: ends.1 });
    }
    let (number, flags) = number(protocol, transport)?;
    let (source, destination) = ends(source, destination, transport)?;
    match number {
        Some(number) => Some(Sight::Packet { number, source, destination, flags }),
        None => (flags & RST != 0).then_some(Sight::Reset { source, destination }),
    }
}

fn ends(source: IpAddr, destination: IpAddr, transport: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let port = |at: usize| Some(u16::from_be_bytes(transport.get(at..at + 2)?.try_into().ok()?));
    Some((SocketAddr::new(source, port(0)?), SocketAddr::new(destination, port(2)?)))
}

/// Number and flags, the number being there or not.
fn number(protocol: u8, transport: &[u8]) -> Option<(Option<u32>, u8)> {
    let at = |at: usize| Some(u32::from_be_bytes(transport.get(at..at + 4)?.try_into().ok()?));
    match protocol {
        6 => {
            let flags = *transport.get(13)?;
            Some((if flags & SYN == 0 { at(20) } else { at(4) }, flags))
        }
        17 => Some((at(8), 0)),
        132 => Some((at(16), 0)),
        _ => None,
    }
}

/// Protocol, ends and transport of an IP packet; of a fragment only if it is the first.
fn open(bytes: &[u8]) -> Option<(u8, IpAddr, IpAddr, &[u8])> {
    match bytes.first()? >> 4 {
        4 => {
            let first = u16::from_be_bytes(bytes.get(6..8)?.try_into().ok()?) & 0x1fff == 0;
            let [source, destination] = [12, 16].map(|at| <[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok());
            let header = usize::from(bytes[0] & 15) * 4;
            let total = usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?));
            let rest = bytes.get(header..total.min(bytes.len()))?;
            first.then_some((bytes[9], source?.into(), destination?.into(), rest))
        }
        6 => {
            let [source, destination] = [8, 24].map(|at| <[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok());
            let (mut protocol, mut rest) = (*bytes.get(6)?, bytes.get(40..)?);
            if protocol == FRAGMENT {
                let first = u16::from_be_bytes(rest.get(2..4)?.try_into().ok()?) & 0xfff8 == 0;
                (protocol, rest) = (rest[0], rest.get(8..)?);
                first.then_some(())?;
            }
            Some((protocol, source?.into(), destination?.into(), rest))
        }
        _ => None,
    }
}
