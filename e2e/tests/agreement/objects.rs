//! Random worlds as the objects that are sent to the API server.

use portreeve_agreement::{Dice, NODE_ADDRESSES, OTHER_LOCAL};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

pub(crate) const NAMESPACE: &str = "shop";
pub(crate) const NODE: &str = "n1";
/// Services of a world.
const SERVICES: u16 = 60;
/// Slices that change from one phase to the next.
const CHANGES: usize = 40;
/// Load balancer addresses and external IPs of each family.
const ADDRESSES: u16 = 24;
const PODS: u16 = 6;
const PORTS: [u16; 4] = [80, 81, 443, 8443];
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const RANGES: [&str; 12] = [
    "198.51.100.0/29",
    "198.51.100.8/29",
    "203.0.113.0/24",
    "203.0.113.0/25",
    "198.51.100.254/32",
    "198.51.100.253/32",
    "2001:db8:1::/64",
    "2001:db8:1::fe/128",
    "2001:db8:1::fd/128",
    "2001:db8:2::/127",
    "0.0.0.0/0",
    "::/0",
];

/// Services, what their load balancers gave them, and slices, by name.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) services: BTreeMap<String, Value>,
    pub(crate) ingress: BTreeMap<String, Value>,
    pub(crate) slices: BTreeMap<String, Value>,
}

pub(crate) fn address(six: bool, number: u16) -> String {
    if six {
        Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, number).to_string()
    } else {
        Ipv4Addr::new(192, 0, 2, u8::try_from(number).unwrap()).to_string()
    }
}

/// The node, with addresses of two types: node ports are not served at all of them in each mode.
pub(crate) fn node() -> (Value, Value) {
    let of_type = |kind: &'static str, all: [&'static str; 2]| all.map(|at| json!({"type": kind, "address": at}));
    let addresses = [of_type("InternalIP", NODE_ADDRESSES), of_type("ExternalIP", OTHER_LOCAL)].concat();
    let ranges = json!(["10.244.0.0/16", "fd00:244::/48"]);
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE},
        "spec": {"podCIDR": ranges[0], "podCIDRs": ranges},
    });
    (node, json!({"status": {"addresses": addresses}}))
}

impl World {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let mut world = Self::default();
        let mut taken = BTreeSet::new();
        for number in 0..SERVICES {
            let name = format!("s{number}");
            let service = service(dice, &name, &mut taken, &mut world.ingress);
            world.slices.extend(slices(dice, &service));
            world.services.insert(name, service);
        }
        world
    }

    /// Other endpoints for some Services; the names of the slices that changed.
    pub(crate) fn change(&mut self, dice: &mut Dice) -> BTreeSet<String> {
        let names: Vec<String> = self.slices.keys().cloned().collect();
        let changed: BTreeSet<String> = (0..CHANGES).map(|_| dice.pick(&names)).collect();
        for name in &changed {
            let slice = self.slices.get_mut(name).unwrap();
            let draws = dice.weighed(&[(1, 0), (3, 2), (6, 6)]);
            let (six, half) = (slice["addressType"] == "IPv6", slice["metadata"]["labels"]["half"] == "1");
            slice["endpoints"] = endpoints(dice, six, half, draws);
        }
        changed
    }
}

type Taken = BTreeSet<(String, u16, &'static str)>;

fn service(dice: &mut Dice, name: &str, taken: &mut Taken, balancers: &mut BTreeMap<String, Value>) -> Value {
    let mut ports: BTreeSet<(&str, u16)> = BTreeSet::new();
    for _ in 0..1 + dice.below(3) {
        ports.insert((dice.pick(&PROTOCOLS), dice.pick(&PORTS)));
    }
    // No two Services have a frontend in common: which of them kube-proxy serves is a matter of chance.
    let mut addresses = |dice: &mut Dice| -> Vec<String> {
        let number = 1 + u16::try_from(dice.below(ADDRESSES.into())).unwrap();
        let drawn = match dice.below(40) {
            0 => dice.pick(&NODE_ADDRESSES).to_owned(),
            odd => address(odd % 2 == 1, number),
        };
        let wanted: Vec<_> = ports.iter().map(|(protocol, port)| (drawn.clone(), *port, *protocol)).collect();
        if wanted.iter().any(|front| taken.contains(front)) {
            return Vec::new();
        }
        taken.extend(wanted);
        vec![drawn]
    };
    let balanced = dice.percent(75);
    let vips: Vec<String> = (0..if balanced { 3 } else { 0 }).flat_map(|_| addresses(dice)).collect();
    let mut external: Vec<String> = if dice.percent(25) { addresses(dice) } else { Vec::new() };
    if !vips.is_empty() && dice.percent(10) {
        external.push(dice.pick(&vips));
    }
    let families = dice.weighed(&[(5, vec!["IPv4", "IPv6"]), (3, vec!["IPv4"]), (2, vec!["IPv6"])]);
    let ports: Vec<Value> = ports
        .iter()
        .map(|(protocol, port)| json!({"name": format!("{}-{port}", protocol.to_lowercase()), "protocol": protocol, "port": port}))
        .collect();
    let mut spec = json!({
        "type": if balanced { "LoadBalancer" } else { "NodePort" },
        "externalTrafficPolicy": "Local",
        "ipFamilyPolicy": if families.len() == 2 { "RequireDualStack" } else { "SingleStack" },
        "ipFamilies": families,
        "ports": ports,
    });
    if !external.is_empty() {
        spec["externalIPs"] = json!(external);
    }
    if dice.percent(30) {
        spec["sessionAffinity"] = json!("ClientIP");
    }
    if balanced && dice.percent(45) {
        let ranges: BTreeSet<&str> = (0..1 + dice.below(3)).map(|_| dice.pick(&RANGES)).collect();
        spec["loadBalancerSourceRanges"] = json!(ranges);
    }
    if balanced && dice.percent(20) {
        spec["allocateLoadBalancerNodePorts"] = json!(false);
    }
    if !vips.is_empty() {
        let mode = |dice: &mut Dice| dice.weighed(&[(9, "VIP"), (1, "Proxy")]);
        let ingress: Vec<Value> = vips.iter().map(|vip| json!({"ip": vip, "ipMode": mode(dice)})).collect();
        balancers.insert(name.to_owned(), json!({"status": {"loadBalancer": {"ingress": ingress}}}));
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": NAMESPACE, "name": name}, "spec": spec})
}

/// One or two slices for each family of a Service; no endpoint is in both, since kube-proxy then takes either's word.
fn slices(dice: &mut Dice, service: &Value) -> Vec<(String, Value)> {
    let name = service["metadata"]["name"].as_str().unwrap();
    let mut all = Vec::new();
    for family in service["spec"]["ipFamilies"].as_array().unwrap() {
        for half in 0..1 + dice.below(2) {
            let target = 8080 + dice.below(2);
            let ports = service["spec"]["ports"].as_array().unwrap().iter().filter(|_| dice.percent(93));
            let ports: Vec<Value> =
                ports.map(|port| json!({"name": port["name"], "protocol": port["protocol"], "port": target})).collect();
            let slice_name = format!("{name}-{}-{half}", family.as_str().unwrap().to_lowercase());
            let draws = dice.weighed(&[(1, 0), (3, 2), (6, 6)]);
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "namespace": NAMESPACE, "name": slice_name,
                    "labels": {"kubernetes.io/service-name": name, "half": half.to_string()},
                },
                "addressType": family, "ports": ports,
                "endpoints": endpoints(dice, family == "IPv6", half == 1, draws),
            });
            all.push((slice_name, slice));
        }
    }
    all
}

fn endpoints(dice: &mut Dice, six: bool, half: bool, draws: usize) -> Value {
    // Of a kind: all here, none here, or as it comes.
    let nodes = match dice.below(4) {
        0 => vec![(1, Some(NODE))],
        1 => vec![(1, Some("n2"))],
        _ => vec![(6, Some(NODE)), (3, Some("n2")), (1, None)],
    };
    let mut known = BTreeMap::new();
    for _ in 0..draws {
        let number = u16::try_from(dice.below(PODS.into())).unwrap() + if half { PODS } else { 0 };
        let address = if six { format!("fd00:244::{:x}", 0x11 + number) } else { format!("10.244.0.{}", 11 + number) };
        let mut endpoint = json!({"addresses": [address], "conditions": conditions(dice)});
        if let Some(node) = dice.weighed(&nodes) {
            endpoint["nodeName"] = json!(node);
        }
        known.insert(address, endpoint);
    }
    known.into_values().collect()
}

/// Mostly what the endpoint controller writes; else anything, left out included.
fn conditions(dice: &mut Dice) -> Value {
    let written =
        [(6, Some([true, true, false])), (3, Some([false, true, true])), (3, Some([false, false, false])), (6, None)];
    let names = ["ready", "serving", "terminating"];
    let mut conditions = Map::new();
    match dice.weighed(&written) {
        Some(values) => conditions.extend(names.into_iter().zip(values).map(|(name, is)| (name.to_owned(), json!(is)))),
        None => {
            for name in names {
                let value = dice.pick(&[Some(true), Some(false), None]);
                conditions.extend(value.map(|is| (name.to_owned(), json!(is))));
            }
        }
    }
    Value::Object(conditions)
}
