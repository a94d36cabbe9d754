//! A few hundred Services over a few thousand endpoints, and their changes.

use portreeve_agreement::Dice;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::Ipv6Addr;

pub(crate) const NAMESPACE: &str = "shop";
pub(crate) const NODE: &str = "n1";
pub(crate) const ADDRESSES: [&str; 2] = ["198.51.100.254", "2001:db8:1::fe"];
pub(crate) const SERVICES: u16 = 300;
/// Endpoints of each slice at the beginning, of which each Service has two.
const ENDPOINTS: u16 = 6;
/// Endpoints that a slice can have.
const ROOM: u16 = 12;

/// Everything that is written before an agent starts.
pub(crate) fn objects(backend: &str, dice: &mut Dice) -> (Vec<Value>, Vec<(String, Value)>) {
    let config = json!({
        "apiVersion": "portreeve.io/v1alpha1", "kind": "DatapathConfig", "metadata": {"name": "default"},
        "spec": {"backend": backend},
    });
    let (mut objects, mut statuses) = (vec![config], Vec::new());
    for number in 0..SERVICES {
        let (service, ingress, traffic) = service(number, dice);
        objects.extend([service, traffic]);
        let path = format!("/api/v1/namespaces/{NAMESPACE}/services/{}/status", name(number));
        statuses.push((path, json!({"status": {"loadBalancer": {"ingress": ingress}}})));
    }
    (objects, statuses)
}

pub(crate) fn node() -> (Value, Value) {
    let ranges = json!(["10.244.0.0/16", "fd00:244::/48"]);
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE},
        "spec": {"podCIDR": ranges[0], "podCIDRs": ranges},
    });
    (node, json!({"status": {"addresses": ADDRESSES.map(|at| json!({"type": "InternalIP", "address": at}))}}))
}

fn name(service: u16) -> String {
    format!("s{service:03}")
}

fn service(number: u16, dice: &mut Dice) -> (Value, Value, Value) {
    let metadata = json!({"namespace": NAMESPACE, "name": name(number)});
    let mut ports = vec![json!({"name": "http", "protocol": "TCP", "port": 80})];
    if dice.percent(30) {
        ports.push(json!({"name": "dns", "protocol": "UDP", "port": 53}));
    }
    let mut spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"], "ports": ports,
    });
    if dice.percent(20) {
        spec["sessionAffinity"] = json!("ClientIP");
    }
    if dice.percent(20) {
        spec["loadBalancerSourceRanges"] = json!(["203.0.113.0/24", "2001:db8:2::/64"]);
    }
    let [high, low] = number.to_be_bytes();
    let ingress = json!([{"ip": format!("192.0.{}.{low}", 2 + high)}, {"ip": Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, number)}]);
    let otherwise = dice.pick(&["Drop", "Reject", "Passthrough"]);
    let traffic = json!({
        "apiVersion": "portreeve.io/v1alpha1", "kind": "ServiceTraffic", "metadata": metadata,
        "spec": {"mode": "Local", "onNoLocal": otherwise},
    });
    (json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}), ingress, traffic)
}

/// One slice and what it holds.
#[derive(Clone)]
pub(crate) struct Slice {
    service: u16,
    six: bool,
    endpoints: Vec<Endpoint>,
}

#[derive(Clone)]
struct Endpoint {
    number: u16,
    here: bool,
    conditions: [bool; 3],
}

/// Ready; terminating and serving; terminating and not; not ready.
const CONDITIONS: [[bool; 3]; 4] =
    [[true, true, false], [false, true, true], [false, false, true], [false, false, false]];

/// All slices, of both families of each Service.
pub(crate) fn slices(dice: &mut Dice) -> Vec<Slice> {
    let both = (0..SERVICES).flat_map(|service| [false, true].map(|six| (service, six)));
    both.map(|(service, six)| {
        let endpoints =
            (0..ENDPOINTS).map(|number| Endpoint { number, here: dice.percent(60), conditions: CONDITIONS[0] });
        Slice { service, six, endpoints: endpoints.collect() }
    })
    .collect()
}

impl Slice {
    /// Lets this many endpoints come, go, move to another node or change their conditions.
    pub(crate) fn change(&mut self, dice: &mut Dice, changes: usize) {
        for _ in 0..changes {
            let there: BTreeSet<u16> = self.endpoints.iter().map(|endpoint| endpoint.number).collect();
            let free: Vec<u16> = (0..ROOM).filter(|number| !there.contains(number)).collect();
            match dice.below(10) {
                0..3 if !free.is_empty() => {
                    let number = dice.pick(&free);
                    self.endpoints.push(Endpoint { number, here: dice.percent(60), conditions: CONDITIONS[0] });
                }
                3..5 if !self.endpoints.is_empty() => {
                    let at = dice.below(self.endpoints.len());
                    self.endpoints.remove(at);
                }
                _ if !self.endpoints.is_empty() => {
                    let at = dice.below(self.endpoints.len());
                    let endpoint = &mut self.endpoints[at];
                    let others: Vec<_> = CONDITIONS.into_iter().filter(|is| *is != endpoint.conditions).collect();
                    endpoint.conditions = dice.pick(&others);
                }
                // It is empty, and becomes so no more.
                _ => self.endpoints.push(Endpoint { number: 0, here: true, conditions: CONDITIONS[0] }),
            }
        }
    }

    pub(crate) fn object(&self) -> Value {
        let Self { service, six, endpoints } = self;
        let [high, low] = service.to_be_bytes();
        let endpoints: Vec<Value> = endpoints
            .iter()
            .map(|Endpoint { number, here, conditions: [ready, serving, terminating] }| {
                // A Pod serves one Service alone.
                let address = if *six {
                    Ipv6Addr::new(0xfd00, 0x244, 0, *service, 0, 0, 0, *number).to_string()
                } else {
                    format!("10.244.{}.{low}", u16::from(high) * 16 + number)
                };
                json!({
                    "addresses": [address], "nodeName": if *here { NODE } else { "n2" },
                    "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
                })
            })
            .collect();
        let (family, service) = (if *six { "IPv6" } else { "IPv4" }, name(*service));
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {
                "namespace": NAMESPACE, "name": format!("{service}-{}", family.to_lowercase()),
                "labels": {"kubernetes.io/service-name": service},
            },
            "ports": [
                {"name": "http", "protocol": "TCP", "port": 8080}, {"name": "dns", "protocol": "UDP", "port": 5353},
            ],
            "endpoints": endpoints,
        })
    }
}
