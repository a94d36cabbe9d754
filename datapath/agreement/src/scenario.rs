//! Tables one after the other, and the packets that meet each.

use crate::dice::Dice;
use crate::frame::{ACK, FIN, Outgoing, RST, SYN};
use crate::site::Side;
use crate::world::{
    self, NODE_ADDRESSES, NODE_PORTS, OTHER_LOCAL, PODS, PORTS, PROTOCOLS, SHORT_AFFINITY, VIPS, ip, of_family,
};
use portreeve_table::{
    Action, Arrival, Family, ForwardingTable, FrontendHost, FrontendKind, Interface, Memory, Packet, Protocol,
    ServiceEntry, compile, oracle,
};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// Packets of a phase.
const SHOTS: usize = 100;
const PHASES: usize = 7;
/// Clients outside the cluster.
pub const CLIENTS: [&str; 11] = [
    "198.51.100.2",
    "198.51.100.3",
    "198.51.100.9",
    "198.51.100.200",
    "203.0.113.5",
    "203.0.113.200",
    "2001:db8:1::2",
    "2001:db8:1::3",
    "2001:db8:2::1",
    "2001:db8:2::2",
    "2001:db8:2::3",
];
/// Addresses of Pods of other nodes.
pub const IN_POD_RANGES: [&str; 2] = ["10.244.9.9", "fd00:244:9::9"];

#[derive(Clone)]
pub(crate) struct Scenario(pub(crate) Vec<Phase>);

/// A table and what comes while it is in force.
#[derive(Clone)]
pub(crate) struct Phase {
    pub(crate) table: ForwardingTable,
    pub(crate) uplinks: BTreeSet<Interface>,
    /// The engine before is gone, and this one knows nothing of it.
    pub(crate) anew: bool,
    /// Bindings of a short affinity are over before the first packet comes.
    pub(crate) late: bool,
    pub(crate) shots: Vec<Shot>,
}

/// One packet.
#[derive(Clone, Copy, Debug)]
pub struct Shot {
    /// What it is known by; those of two packets differ.
    pub number: u32,
    /// Where it is sent from.
    pub side: Side,
    /// Transport.
    pub protocol: Protocol,
    /// Its client.
    pub source: SocketAddr,
    /// What the client talks to.
    pub destination: SocketAddr,
    /// Flags of TCP.
    pub flags: u8,
    /// For SCTP, whether it opens an association.
    pub init: bool,
    /// It is sent in two fragments.
    pub in_fragments: bool,
    /// It has the addresses of an earlier one and is left out unless that one's flow was delivered, or refused.
    pub again: bool,
}

impl Shot {
    /// As the oracle sees it; `None` from where its question does not reach.
    pub fn packet(&self, uplinks: &BTreeSet<Interface>) -> Option<Packet> {
        let is_uplink = |name: &str| uplinks.iter().any(|uplink| uplink.as_str() == name);
        let arrival = match self.side {
            Side::Uplink => Arrival::Uplink,
            Side::OtherLink if is_uplink("eth1") => Arrival::Uplink,
            Side::OtherLink => return None,
            Side::Pods => Arrival::LocalPod,
            Side::Node => Arrival::Node,
        };
        let opening = match self.protocol {
            Protocol::Tcp => self.flags & (SYN | ACK | RST | FIN) == SYN,
            Protocol::Udp => true,
            Protocol::Sctp => self.init,
        };
        let Self { protocol, source, destination, in_fragments: fragment, .. } = *self;
        Some(Packet { arrival, protocol, source, destination, opening, fragment })
    }

    /// `opened_by` is the number of the packet that opened its flow.
    pub(crate) const fn outgoing(&self, opened_by: Option<u32>) -> Outgoing {
        let Self { number, protocol, source, destination, flags, init, .. } = *self;
        Outgoing { number, protocol, source, destination, flags, opened_by, init }
    }
}

/// A scenario that follows from the dice alone.
pub(crate) fn draw(dice: &mut Dice, late: bool) -> Scenario {
    let mut input = world::world(dice);
    let mut number = 0;
    let mut history = Vec::new();
    let phases = (0..PHASES).map(|phase| {
        if phase > 0 {
            world::change(dice, &mut input);
        }
        if late {
            input.services.values_mut().for_each(|service| service.affinity_seconds = Some(SHORT_AFFINITY));
        }
        let table = compile(&input).table;
        let links: &[&str] = if dice.percent(15) { &["eth0", "eth1"] } else { &["eth0"] };
        let uplinks = links.iter().map(|name| Interface::new(name).unwrap()).collect();
        let shots = (0..SHOTS).map(|_| shot(dice, &table, &mut history, &mut number)).collect();
        Phase { table, uplinks, anew: phase > 0 && dice.percent(10), late: late && phase == PHASES - 1, shots }
    });
    Scenario(phases.collect())
}

fn shot(dice: &mut Dice, table: &ForwardingTable, history: &mut Vec<Shot>, number: &mut u32) -> Shot {
    *number += 1;
    if !history.is_empty() && dice.percent(25) {
        let before = dice.pick(history);
        let flags = if dice.percent(80) { ACK } else { SYN };
        return Shot { number: *number, flags, again: true, in_fragments: false, ..before };
    }
    let mut shot = fresh(dice, table, *number);
    if !history.is_empty() && dice.percent(15) {
        // The client comes again with a new flow.
        let before: Shot = dice.pick(history);
        let source = SocketAddr::new(before.source.ip(), shot.source.port());
        shot = Shot { number: *number, source, flags: SYN, ..before };
    }
    let opens = shot.packet(&BTreeSet::new()).filter(|packet| packet.opening && packet.arrival == Arrival::Uplink);
    let kept = opens.is_some_and(|packet| {
        let action = oracle(table, &Packet { fragment: false, ..packet }, &Memory::default()).action;
        matches!(action, Action::Deliver { .. } | Action::Drop | Action::Reject)
    });
    if kept {
        history.push(shot);
    }
    shot
}

fn fresh(dice: &mut Dice, table: &ForwardingTable, number: u32) -> Shot {
    let side = dice.weighed(&[(90, Side::Uplink), (4, Side::OtherLink), (3, Side::Pods), (3, Side::Node)]);
    let (mut protocol, mut destination, entry) = destination(dice, table);
    // Nothing that a process of the node sends to the node itself comes to where it could be seen.
    let local = |address: IpAddr| NODE_ADDRESSES.iter().chain(&OTHER_LOCAL).any(|local| ip(local) == address);
    while side == Side::Node && local(destination.ip()) {
        (protocol, destination) = (dice.pick(&PROTOCOLS), SocketAddr::new(ip(dice.pick(&VIPS)), dice.pick(&PORTS)));
    }
    let family = Family::of(destination.ip());
    let from = match side {
        Side::Uplink | Side::OtherLink => dice.weighed(&[(85, &CLIENTS[..]), (7, &IN_POD_RANGES[..]), (8, &VIPS[..5])]),
        Side::Pods => &PODS[..],
        Side::Node => &NODE_ADDRESSES[..],
    };
    let mut source = dice.pick(&of_family(from, family));
    if let (true, Some(entry)) = (from == &VIPS[..5], entry) {
        let own = entry.frontends().filter(|front| front.kind == FrontendKind::LoadBalancer);
        let own = own.filter_map(|front| match front.frontend.host {
            FrontendHost::Address(address) if Family::of(address) == family && !local(address) => Some(address),
            _ => None,
        });
        source = own.last().unwrap_or(source);
    }
    if source == destination.ip() {
        source = of_family(&CLIENTS, family)[0];
    }
    // Every number has its own port, so that no connection is met by chance.
    let port = 1024 + u16::try_from(number % 60_000).unwrap();
    let flags = match dice.below(100) {
        0..85 => SYN,
        85..93 => dice.pick(&[ACK, ACK | RST, ACK | FIN, RST, SYN | ACK]),
        93..95 => SYN | 0x08,
        95..97 => SYN | 0xc0,
        97 => SYN | 0x20,
        98 => SYN | FIN,
        _ => SYN | RST,
    };
    Shot {
        number,
        side,
        protocol,
        source: SocketAddr::new(source, port),
        destination,
        flags,
        init: dice.percent(90),
        in_fragments: dice.percent(4),
        again: false,
    }
}

/// Mostly a frontend of the table, else something near one.
fn destination<'a>(dice: &mut Dice, table: &'a ForwardingTable) -> (Protocol, SocketAddr, Option<&'a ServiceEntry>) {
    let entries = table.services.values();
    let fronts: Vec<(_, &ServiceEntry)> =
        entries.flat_map(|entry| entry.frontends().map(move |front| (front.frontend, entry.as_ref()))).collect();
    if !fronts.is_empty() && dice.percent(88) {
        let (front, entry) = dice.pick(&fronts);
        let address = match front.host {
            FrontendHost::Address(address) => address,
            FrontendHost::NodePort(family) => {
                let all = if dice.percent(90) { &NODE_ADDRESSES } else { &OTHER_LOCAL };
                of_family(all, family)[0]
            }
        };
        let protocol = if dice.percent(95) { front.protocol } else { dice.pick(&PROTOCOLS) };
        return (protocol, SocketAddr::new(address, front.port), Some(entry));
    }
    let addresses = [&VIPS[..], &NODE_ADDRESSES[..], &OTHER_LOCAL[..]].concat();
    let ports = [&PORTS[..], &NODE_PORTS[..], &[9]].concat();
    (dice.pick(&PROTOCOLS), SocketAddr::new(ip(dice.pick(&addresses)), dice.pick(&ports)), None)
}
