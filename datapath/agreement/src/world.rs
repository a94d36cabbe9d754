//! Random worlds: few addresses, ports and Pods, so that Services collide and every branch of the oracle is met often.

use crate::dice::Dice;
use portreeve_table::input::{PortInput, ServiceKind, SlicePort};
use portreeve_table::{
    Directive, EndpointInput, Family, Input, Mode, OnNoLocal, PerFamily, Protocol, ServiceInput, ServiceKey,
    SliceInput, ThisNode,
};
use std::net::IpAddr;

/// Names of Services that there are.
const SERVICES: usize = 14;
const NODE: &str = "n1";
/// Addresses of the node that node ports stand for.
pub const NODE_ADDRESSES: [&str; 2] = ["198.51.100.254", "2001:db8:1::fe"];
/// Addresses of the node that they do not stand for.
pub const OTHER_LOCAL: [&str; 2] = ["198.51.100.253", "2001:db8:1::fd"];
/// Addresses of the node on its link to the Pods.
pub const POD_LINK: [&str; 2] = ["169.254.1.1", "fd00:244::1"];
pub(crate) const VIPS: [&str; 6] =
    ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8:f::1", "2001:db8:f::2", "198.51.100.254"];
const EXTERNAL_IPS: [&str; 4] = ["192.0.2.11", "192.0.2.2", "2001:db8:f::b", "2001:db8:1::fd"];
const POD_RANGES: [&str; 2] = ["10.244.0.0/16", "fd00:244::/48"];
pub(crate) const PODS: [&str; 6] =
    ["10.244.0.11", "10.244.0.12", "10.244.0.13", "fd00:244::11", "fd00:244::12", "fd00:244::13"];
pub(crate) const PORTS: [u16; 3] = [80, 81, 443];
pub(crate) const NODE_PORTS: [u16; 5] = [30080, 30081, 30082, 30083, 30084];
const RANGES: [&str; 10] = [
    "198.51.100.0/29",
    "198.51.100.8/29",
    "203.0.113.0/24",
    "203.0.113.0/25",
    "198.51.100.254/32",
    "2001:db8:1::/64",
    "2001:db8:1::fe/128",
    "2001:db8:2::/127",
    "0.0.0.0/0",
    "::/0",
];
pub(crate) const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
/// Timeout of session affinity that a test can wait for.
pub(crate) const SHORT_AFFINITY: u32 = 1;
const LONG_AFFINITY: u32 = 10_800;

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn addresses<const N: usize>(texts: [&str; N]) -> Vec<IpAddr> {
    texts.iter().map(|text| ip(text)).collect()
}

pub(crate) fn world(dice: &mut Dice) -> Input {
    let mut input = Input {
        this_node: ThisNode { name: NODE.into(), addresses: addresses(NODE_ADDRESSES) },
        pod_ranges: POD_RANGES.map(|range| range.parse().unwrap()).into(),
        ..Input::default()
    };
    for _ in 0..6 + dice.below(8) {
        put(dice, &mut input);
    }
    input
}

/// A few events of a cluster's life.
pub(crate) fn change(dice: &mut Dice, input: &mut Input) {
    for _ in 0..3 + dice.below(6) {
        let keys: Vec<ServiceKey> = input.services.keys().cloned().collect();
        let key = if keys.is_empty() { key(dice) } else { dice.pick(&keys) };
        match dice.below(20) {
            0..10 => endpoint(dice, input, &key),
            10 | 11 => slices(dice, input, &key),
            12..14 => drop(input.directives.insert(key, directive(dice))),
            14 => drop(input.slices.remove(&key)),
            15 => put(dice, input),
            16 => drop(input.services.remove(&key)),
            17 => {
                if let Some(service) = input.services.get_mut(&key) {
                    service.source_ranges = ranges(dice);
                    service.load_balancer = service.load_balancer.iter().skip(1).copied().collect();
                }
            }
            18 => {
                if let Some(service) = input.services.get_mut(&key) {
                    service.affinity_seconds = affinity(dice);
                }
            }
            _ => {
                let kept = 1 + dice.below(2);
                input.this_node.addresses = addresses(NODE_ADDRESSES)[..kept].to_vec();
                let kept = 1 + dice.below(2);
                input.pod_ranges = POD_RANGES[..kept].iter().map(|range| range.parse().unwrap()).collect();
            }
        }
    }
}

fn key(dice: &mut Dice) -> ServiceKey {
    ServiceKey::new("shop", &format!("s{}", dice.below(SERVICES)))
}

/// A Service under a name that may be taken, with slices and directive.
fn put(dice: &mut Dice, input: &mut Input) {
    let key = key(dice);
    let mut service = service(dice);
    // The API server gives each to one Service alone.
    let taken =
        |port| input.services.iter().any(|(other, service)| *other != key && service.health_check_node_port == port);
    let mut free = (31000..).map(Some).filter(|port| !taken(*port));
    service.health_check_node_port = free.next().flatten().filter(|_| dice.percent(30));
    input.services.insert(key.clone(), service);
    input.directives.insert(key.clone(), directive(dice));
    slices(dice, input, &key);
}

fn service(dice: &mut Dice) -> ServiceInput {
    let kinds = [(8, ServiceKind::LoadBalancer), (1, ServiceKind::NodePort), (1, ServiceKind::ClusterIp)];
    let mut ports: Vec<PortInput> = Vec::new();
    for _ in 0..1 + dice.below(3) {
        let (protocol, port) = (dice.pick(&PROTOCOLS), dice.pick(&PORTS));
        let node_port = dice.percent(70).then(|| dice.pick(&NODE_PORTS));
        let name = format!("{protocol}-{port}").into();
        if ports.iter().all(|known| known.name != name) {
            ports.push(PortInput { name, protocol, port, node_port });
        }
    }
    let (v4, v6) = dice.weighed(&[(5, (true, true)), (3, (true, false)), (2, (false, true))]);
    let kind = dice.weighed(&kinds);
    ServiceInput {
        created: i64::try_from(dice.below(5)).unwrap(),
        kind,
        external_local: dice.percent(95),
        headless: false,
        other_proxy: false,
        ignored: false,
        families: PerFamily { v4, v6 },
        ports: ports.into(),
        load_balancer: dice.some(&VIPS, 3).iter().map(|address| ip(address)).collect(),
        proxied_addresses: 0,
        external_ips: dice.some(&EXTERNAL_IPS, 2).iter().map(|address| ip(address)).collect(),
        source_ranges: ranges(dice),
        affinity_seconds: affinity(dice),
        health_check_node_port: None,
    }
}

fn ranges(dice: &mut Dice) -> Box<[ipnet::IpNet]> {
    let most = dice.weighed(&[(5, 0), (5, 4)]);
    dice.some(&RANGES, most).iter().map(|range| range.parse().unwrap()).collect()
}

fn affinity(dice: &mut Dice) -> Option<u32> {
    dice.weighed(&[(6, None), (2, Some(SHORT_AFFINITY)), (2, Some(LONG_AFFINITY))])
}

fn directive(dice: &mut Dice) -> Directive {
    let modes = [(1, Mode::Off), (3, Mode::Observe), (20, Mode::Local), (2, Mode::Balance)];
    Directive {
        mode: dice.weighed(&modes),
        on_no_local: dice.pick(&[OnNoLocal::Drop, OnNoLocal::Reject, OnNoLocal::Passthrough, OnNoLocal::Forward]),
        source_ranges_on_node_ports: dice.percent(40),
    }
}

fn slices(dice: &mut Dice, input: &mut Input, key: &ServiceKey) {
    let Some(service) = input.services.get(key) else { return };
    let port = |(number, port): (u16, &PortInput)| SlicePort {
        name: port.name.clone(),
        protocol: port.protocol,
        port: 8080 + number % 2,
    };
    let ports: Box<[SlicePort]> = (0..).zip(service.ports.iter()).map(port).collect();
    // Of a kind: all here, none here, or as it comes.
    let nodes = match dice.below(4) {
        0 => vec![(1, Some(NODE))],
        1 => vec![(1, Some("n2"))],
        _ => vec![(6, Some(NODE)), (3, Some("n2")), (1, None)],
    };
    let draws = dice.weighed(&[(1, 0), (3, 2), (9, 9)]);
    let mut endpoints: Vec<EndpointInput> = Vec::new();
    for _ in 0..draws {
        let address = dice.pick(&PODS);
        let node = dice.weighed(&nodes).map(Into::into);
        if endpoints.iter().all(|known| known.address != ip(address)) {
            endpoints.push(with_conditions(
                dice,
                EndpointInput { address: ip(address), node, ready: true, serving: true, terminating: false },
            ));
        }
    }
    let slice = SliceInput { ports, endpoints: endpoints.into() };
    input.slices.insert(key.clone(), [("0".into(), slice)].into());
}

fn with_conditions(dice: &mut Dice, endpoint: EndpointInput) -> EndpointInput {
    let (ready, serving, terminating) =
        dice.weighed(&[(6, (true, true, false)), (3, (false, true, true)), (2, (false, false, false))]);
    EndpointInput { ready, serving, terminating, ..endpoint }
}

/// One endpoint comes, goes or changes.
fn endpoint(dice: &mut Dice, input: &mut Input, key: &ServiceKey) {
    let Some(slice) = input.slices.get_mut(key).and_then(|slices| slices.values_mut().next()) else { return };
    let mut endpoints = slice.endpoints.to_vec();
    let there: Vec<IpAddr> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    let address = if !there.is_empty() && dice.percent(70) { dice.pick(&there) } else { ip(dice.pick(&PODS)) };
    let known = endpoints.iter().position(|endpoint| endpoint.address == address);
    match (known, dice.below(2)) {
        (Some(known), 0) => drop(endpoints.remove(known)),
        (Some(known), _) => endpoints[known] = with_conditions(dice, endpoints[known].clone()),
        (None, _) => endpoints.push(EndpointInput {
            address,
            node: Some(NODE.into()),
            ready: true,
            serving: true,
            terminating: false,
        }),
    }
    slice.endpoints = endpoints.into();
}

/// Addresses of `from` of this family.
pub(crate) fn of_family(from: &[&str], family: Family) -> Vec<IpAddr> {
    from.iter().map(|text| ip(text)).filter(|address| Family::of(*address) == family).collect()
}
