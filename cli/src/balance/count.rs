//! From two readings to flows per Pod, and what each Pod should have got. Pure.

use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use portreeve_ask::Flows;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// One reading of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    since: Timestamp,
    flows: BTreeMap<(String, SocketAddr), u64>,
}

impl From<Flows> for Counts {
    fn from(flows: Flows) -> Self {
        let pods = flows.pods.into_iter().map(|pod| ((pod.protocol, pod.pod), pod.flows));
        Self { since: flows.since, flows: pods.collect() }
    }
}

/// Who is behind the Service, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    by_address: BTreeMap<IpAddr, Place>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    pod: String,
    node: String,
    ready: bool,
}

impl Places {
    /// Endpoints with a node; those without one get nothing under Local.
    pub(super) fn of(slices: &[EndpointSlice]) -> Self {
        let mut by_address = BTreeMap::new();
        for endpoint in slices.iter().flat_map(|slice| slice.endpoints.iter().flatten()) {
            let first = endpoint.addresses.first().and_then(|text| text.parse::<IpAddr>().ok());
            let (Some(address), Some(node)) = (first, endpoint.node_name.clone()) else { continue };
            let pod = endpoint.target_ref.as_ref().and_then(|target| target.name.clone());
            let ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
            by_address.insert(address, Place { pod: pod.unwrap_or_else(|| address.to_string()), node, ready });
        }
        Self { by_address }
    }

    pub(super) fn nodes(&self) -> BTreeSet<String> {
        self.by_address.values().map(|place| place.node.clone()).collect()
    }

    /// Pods with their nodes; of both families each is one.
    fn pods(&self) -> BTreeSet<(String, String)> {
        self.by_address.values().map(|place| (place.node.clone(), place.pod.clone())).collect()
    }

    fn ready(&self) -> BTreeSet<(String, String)> {
        let ready = self.by_address.values().filter(|place| place.ready);
        ready.map(|place| (place.node.clone(), place.pod.clone())).collect()
    }
}

/// A share as a fraction of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    of: u64,
    in_all: u64,
}

impl Share {
    const NOTHING: Self = Self { of: 0, in_all: 1 };

    /// Rounded half up.
    pub(super) fn permille(self) -> u64 {
        let (of, all) = (u128::from(self.of), u128::from(self.in_all.max(1)));
        u64::try_from((2000 * of + all) / (2 * all)).unwrap_or(u64::MAX)
    }

    /// How far `self` is from `expected`, in permille of that; none if nothing was expected.
    fn beyond(self, expected: Self) -> Option<i64> {
        let (is, all) = (i128::from(self.of), i128::from(self.in_all.max(1)));
        let (should, of) = (i128::from(expected.of), i128::from(expected.in_all));
        let (is, should) = (is * of, should * all);
        (should > 0).then(|| i64::try_from((1000 * (is - should)).div_euclid(should)).unwrap_or(i64::MAX))
    }
}

/// Flows of one Pod or of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) flows: u64,
    /// Of all flows that were counted.
    pub(super) counted: Share,
    /// Of all flows, if they come evenly over the nodes with a ready Pod and a node gives each of its Pods the same.
    pub(super) expected: Share,
}

impl Load {
    /// How far the counted share is from the expected one, in permille of that.
    pub(super) fn deviation(&self) -> Option<i64> {
        self.counted.beyond(self.expected).filter(|_| self.counted.in_all > 0)
    }
}

/// What was counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Balance {
    pub(super) service: String,
    pub(super) window: Duration,
    pub(super) flows: u64,
    /// By node and Pod.
    pub(super) pods: BTreeMap<(String, String), Load>,
    pub(super) nodes: BTreeMap<String, Load>,
    /// Nodes that did not answer, with the reason.
    pub(super) unasked: BTreeMap<String, String>,
    /// What may make the counts less than the truth, in sentences.
    pub(super) notes: Vec<String>,
}

impl Balance {
    /// From Pods and counts before and after a window.
    pub(super) fn new(
        service: &str,
        window: Duration,
        (places, then): (&Places, &Places),
        before: &BTreeMap<String, Result<Counts, String>>,
        after: &BTreeMap<String, Result<Counts, String>>,
    ) -> Self {
        let (mut notes, mut unasked) = (changes(places, then), BTreeMap::new());
        let mut flows: BTreeMap<(String, String), u64> =
            places.pods().into_iter().chain(then.pods()).map(|pod| (pod, 0)).collect();
        for (node, last) in after {
            let (first, last) = match (before.get(node), last) {
                (Some(Ok(first)), Ok(last)) => (first, last),
                (Some(Err(why)), _) | (_, Err(why)) => {
                    unasked.insert(node.clone(), why.clone());
                    continue;
                }
                (None, Ok(_)) => continue,
            };
            notes.extend(doubts(node, first, last));
            for (at, counted) in &last.flows {
                let earlier = first.flows.get(at).copied().unwrap_or(0);
                let place = then.by_address.get(&at.1.ip()).or_else(|| places.by_address.get(&at.1.ip()));
                let pod = place.map_or_else(|| at.1.ip().to_string(), |place| place.pod.clone());
                *flows.entry((node.clone(), pod)).or_default() += counted.checked_sub(earlier).unwrap_or(*counted);
            }
        }
        flows.retain(|(node, _), _| !unasked.contains_key(node));
        let all = flows.values().sum();
        let ready = then.ready();
        let expected = expected(&ready);
        let pods: BTreeMap<_, _> = flows
            .into_iter()
            .map(|(pod, flows)| {
                let expected = expected.get(&pod).copied().unwrap_or(Share::NOTHING);
                (pod, Load { flows, counted: Share { of: flows, in_all: all }, expected })
            })
            .collect();
        let nodes = by_node(&pods, &ready, all);
        if !unasked.is_empty() {
            notes.push("Shares are of what the nodes that answered have counted.".to_owned());
        }
        Self { service: service.to_owned(), window, flows: all, pods, nodes, unasked, notes }
    }

    /// Whether nothing makes the counts doubtful.
    pub(super) fn complete(&self) -> bool {
        self.notes.is_empty() && self.unasked.is_empty()
    }
}

/// What an even load balancer gives each ready Pod: as `policy` predicts it ([`LoadModel::EvenNodes`]), as a fraction.
///
/// [`LoadModel::EvenNodes`]: portreeve_policy::imbalance::LoadModel::EvenNodes
pub(super) fn expected(ready: &BTreeSet<(String, String)>) -> BTreeMap<(String, String), Share> {
    let mut on_node: BTreeMap<&str, u64> = BTreeMap::new();
    for (node, _) in ready {
        *on_node.entry(node).or_default() += 1;
    }
    let nodes = on_node.len() as u64;
    let share = |node: &str| Share { of: 1, in_all: nodes * on_node.get(node).copied().unwrap_or(1) };
    ready.iter().map(|pod| (pod.clone(), share(&pod.0))).collect()
}

fn by_node(
    pods: &BTreeMap<(String, String), Load>,
    ready: &BTreeSet<(String, String)>,
    all: u64,
) -> BTreeMap<String, Load> {
    let with_ready: BTreeSet<&str> = ready.iter().map(|(node, _)| node.as_str()).collect();
    let mut flows: BTreeMap<String, u64> = BTreeMap::new();
    for ((node, _), load) in pods {
        *flows.entry(node.clone()).or_default() += load.flows;
    }
    let load = |(node, flows): (String, u64)| {
        let even = Share { of: 1, in_all: with_ready.len() as u64 };
        let expected = if with_ready.contains(node.as_str()) { even } else { Share::NOTHING };
        (node, Load { flows, counted: Share { of: flows, in_all: all }, expected })
    };
    flows.into_iter().map(load).collect()
}

/// Pods that came, went or turned in the window.
fn changes(places: &Places, then: &Places) -> Vec<String> {
    let named = |pods: Vec<&(String, String)>| {
        pods.into_iter().map(|(node, pod)| format!("{pod} on {node}")).collect::<Vec<_>>().join(", ")
    };
    let (old, new) = (places.ready(), then.ready());
    let told = [("came", new.difference(&old).collect::<Vec<_>>()), ("went", old.difference(&new).collect())];
    let told = told.into_iter().filter(|(_, pods)| !pods.is_empty());
    told.map(|(what, pods)| format!("Ready Pods {what} in the window: {}.", named(pods))).collect()
}

/// Why the difference of two readings may not be all that there was.
fn doubts(node: &str, first: &Counts, last: &Counts) -> Option<String> {
    let back = last.flows.iter().any(|(at, counted)| first.flows.get(at).is_some_and(|earlier| counted < earlier));
    if back {
        return Some(format!("A count on {node} began anew in the window: what it had counted until then is missing."));
    }
    (first.since != last.since).then(|| {
        format!("The agent on {node} programmed the Service anew in the window: some of its flows may be missing.")
    })
}
