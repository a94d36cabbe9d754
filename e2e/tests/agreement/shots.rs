//! Packets for a table: each opens a flow of its own, from outside.

use portreeve_agreement::{CLIENTS, Dice, IN_POD_RANGES, NODE_ADDRESSES, OTHER_LOCAL, POD_LINK, SYN, Shot, Side};
use portreeve_table::{
    Arrival, Family, ForwardingTable, FrontendEntry, FrontendHost, FrontendKind, Packet, Protocol, ServiceEntry,
};
use std::net::{IpAddr, SocketAddr};

use super::objects::address;

/// So many, numbered from `first`.
pub(crate) fn draw(dice: &mut Dice, table: &ForwardingTable, first: u32, count: u32) -> Vec<Shot> {
    let fronts: Vec<(&ServiceEntry, FrontendEntry)> = table
        .services
        .values()
        .flat_map(|entry| entry.frontends().map(move |front| (entry.as_ref(), *front)))
        .collect();
    (first..first + count).map(|number| one(dice, &fronts, number)).collect()
}

fn one(dice: &mut Dice, fronts: &[(&ServiceEntry, FrontendEntry)], number: u32) -> Shot {
    let (entry, front) = dice.pick(fronts);
    let mut protocol = front.frontend.protocol;
    let local = match front.frontend.host {
        FrontendHost::Address(at) => at,
        FrontendHost::NodePort(family) => {
            let all = dice.weighed(&[(12, NODE_ADDRESSES), (3, OTHER_LOCAL), (1, POD_LINK)]);
            of_family(all, family)
        }
    };
    let mut destination = SocketAddr::new(local, front.frontend.port);
    // Now and then something near a frontend.
    match dice.below(40) {
        0 => protocol = dice.pick(&[Protocol::Tcp, Protocol::Udp, Protocol::Sctp]),
        1 => destination.set_port(dice.pick(&[80, 81, 443, 8443, 9, 8080])),
        2 => {
            let six = destination.is_ipv6();
            destination.set_ip(address(six, 1 + u16::try_from(dice.below(30)).unwrap()).parse().unwrap());
        }
        _ => {}
    }
    let family = Family::of(destination.ip());
    let sources: Vec<IpAddr> = match dice.below(20) {
        0 => vec![of_family(IN_POD_RANGES, family)],
        1..=3 => own(entry, family),
        _ => Vec::new(),
    };
    let outside: Vec<IpAddr> = CLIENTS.iter().map(|at| at.parse().unwrap()).collect();
    let outside: Vec<IpAddr> = outside.into_iter().filter(|at| Family::of(*at) == family).collect();
    let mut source = if sources.is_empty() { dice.pick(&outside) } else { dice.pick(&sources) };
    if source == destination.ip() {
        source = outside[0];
    }
    Shot {
        number,
        side: Side::Uplink,
        protocol,
        source: SocketAddr::new(source, 1024 + u16::try_from(number % 60_000).unwrap()),
        destination,
        flags: SYN,
        init: true,
        in_fragments: dice.percent(3),
        again: false,
    }
}

/// The Service's own load balancer addresses that are not the node's.
fn own(entry: &ServiceEntry, family: Family) -> Vec<IpAddr> {
    let balanced = entry.frontends().filter(|front| front.kind == FrontendKind::LoadBalancer);
    let addresses = balanced.filter_map(|front| match front.frontend.host {
        FrontendHost::Address(at) if Family::of(at) == family => Some(at),
        _ => None,
    });
    addresses.filter(|at| NODE_ADDRESSES.iter().chain(&OTHER_LOCAL).all(|local| local.parse() != Ok(*at))).collect()
}

fn of_family(pair: [&str; 2], family: Family) -> IpAddr {
    pair[usize::from(family == Family::V6)].parse().unwrap()
}

/// As the oracle sees it: rules see fragments as the packet that they are parts of.
pub(crate) const fn packet(shot: &Shot) -> Packet {
    let Shot { protocol, source, destination, .. } = *shot;
    Packet { arrival: Arrival::Uplink, protocol, source, destination, opening: true, fragment: false }
}
