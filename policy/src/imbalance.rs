//! How unevenly a load balancer loads the Pods of a Service with `externalTrafficPolicy: Local`.
//!
//! A load balancer shares its traffic over nodes, a node shares what it gets over its own Pods. With P Pods on N nodes
//! and n on the emptiest of them, the hottest Pod gets 1/(N·n) of all, P/(N·n) times the mean, and the Service is full
//! when that one Pod is.
//!
//! Integers only, in permille. The ratio is rounded up: then `ratio > limit` holds for the rounded number exactly when
//! it holds for the true one, and no excess hides in a rounding. Usable capacity is rounded down, so that it promises
//! no more than there is; shares are rounded half up, because they are only looked at.

use portreeve_crds::service_traffic::{Hottest, Imbalance, NodeShare};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Nodes that the report names at most, the hottest first; the schema's own limit.
const NODES_SHOWN: usize = 32;

/// How a load balancer shares its traffic over the nodes that have ready Pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadModel {
    /// The same to every node: what nearly all load balancers do.
    EvenNodes,
    /// To each node by its weight; a node without one gets nothing. Where no weights are known, the number of ready
    /// Pods is taken, which is what kube-proxy announces in `X-Load-Balancing-Endpoint-Weight`.
    Weighted,
    /// All to one node, as an announcer on layer 2 does.
    SingleNode {
        /// The node that holds the address.
        leader: String,
    },
    /// The same to every zone, within a zone the same to every node: a load balancer that keeps to its zones.
    Zones {
        /// Zone by node; nodes that are missing here form a zone of their own together.
        zone_by_node: BTreeMap<String, String>,
    },
}

/// A share of the Service's load, as a fraction. The denominator is never 0.
#[derive(Clone, Copy)]
struct Share {
    of: u128,
    in_all: u128,
}

impl Share {
    const NOTHING: Self = Self { of: 0, in_all: 1 };

    fn cmp(self, other: Self) -> Ordering {
        (self.of * other.in_all).cmp(&(other.of * self.in_all))
    }

    fn permille_half_up(self) -> i32 {
        clamp((2000 * self.of + self.in_all) / (2 * self.in_all))
    }
}

/// Predicts the imbalance over `ready_by_node`. Pods without a node (key `""`) cannot be reached by `Local` traffic and
/// are left out.
///
/// `None` where there is nothing to divide: no ready Pod on any node, or none that the model sends anything to.
/// `suggested_replicas` stays empty; see [`suggested_replicas`].
#[must_use]
pub fn imbalance(
    ready_by_node: &BTreeMap<String, u32>,
    weights: Option<&BTreeMap<String, u32>>,
    model: LoadModel,
) -> Option<Imbalance> {
    let active: BTreeMap<&str, u32> = ready_by_node
        .iter()
        .filter(|(node, pods)| !node.is_empty() && **pods > 0)
        .map(|(node, pods)| (node.as_str(), *pods))
        .collect();
    let mut shares = shares(&active, weights, &model);
    // Stable, so that equals stay in the order of their names.
    shares.sort_by(|(_, _, a), (_, _, b)| b.cmp(*a));
    let &(hottest, _, top) = shares.first().filter(|(_, _, share)| share.of > 0)?;
    let pods: u128 = active.values().map(|pods| u128::from(*pods)).sum();
    Some(Imbalance {
        ratio_permille: clamp((1000 * pods * top.of).div_ceil(top.in_all)),
        usable_permille: clamp(1000 * top.in_all / (pods * top.of)),
        hottest: Hottest { node: hottest.to_owned(), share_permille: top.permille_half_up() },
        suggested_replicas: Vec::new(),
        nodes: shares
            .iter()
            .take(NODES_SHOWN)
            .map(|(node, pods, share)| NodeShare {
                node: (*node).to_owned(),
                pods: clamp(u128::from(*pods)),
                share_permille: share.permille_half_up(),
            })
            .collect(),
    })
}

/// A node, its Pods, and the share that each of them gets.
type Loaded<'a> = (&'a str, u32, Share);

fn shares<'a>(
    active: &BTreeMap<&'a str, u32>,
    weights: Option<&BTreeMap<String, u32>>,
    model: &LoadModel,
) -> Vec<Loaded<'a>> {
    let each = |share: &dyn Fn(&str, u32) -> Share| -> Vec<Loaded<'a>> {
        active.iter().map(|(node, pods)| (*node, *pods, share(node, *pods))).collect()
    };
    match model {
        LoadModel::EvenNodes => {
            let nodes = active.len() as u128;
            each(&|_, pods| Share { of: 1, in_all: nodes * u128::from(pods) })
        }
        LoadModel::Weighted => {
            let weight = |node: &str, pods| weights.map_or(pods, |all| all.get(node).copied().unwrap_or(0));
            let sum: u128 = active.iter().map(|(node, pods)| u128::from(weight(node, *pods))).sum();
            each(&|node, pods| match sum {
                0 => Share::NOTHING,
                _ => Share { of: u128::from(weight(node, pods)), in_all: sum * u128::from(pods) },
            })
        }
        LoadModel::SingleNode { leader } => each(&|node, pods| match node == leader {
            true => Share { of: 1, in_all: u128::from(pods) },
            false => Share::NOTHING,
        }),
        LoadModel::Zones { zone_by_node } => {
            let zone = |node: &str| zone_by_node.get(node).map_or("", String::as_str);
            let mut nodes_by_zone: BTreeMap<&str, u128> = BTreeMap::new();
            for node in active.keys() {
                *nodes_by_zone.entry(zone(node)).or_default() += 1;
            }
            let zones = nodes_by_zone.len() as u128;
            // Indexed: every active node was counted just now.
            each(&|node, pods| Share { of: 1, in_all: zones * nodes_by_zone[zone(node)] * u128::from(pods) })
        }
    }
}

/// Replica counts near `pods` whose load would stay within `max_ratio_permille` if they were spread evenly over `nodes`
/// nodes: the nearest below, `pods` itself where only the placement is at fault, the nearest above. Ascending; empty
/// without nodes and for a limit below 1000, which nothing can meet.
#[must_use]
pub fn suggested_replicas(pods: u32, nodes: u32, max_ratio_permille: u32) -> Vec<u32> {
    if nodes == 0 || max_ratio_permille < 1000 {
        return Vec::new();
    }
    // Every multiple of `nodes` is even, so neither search goes further than `nodes` steps.
    let fits = |count: &u32| even_spread_permille(*count, nodes) <= u64::from(max_ratio_permille);
    let below = (1..pods).rev().find(fits);
    let same = Some(pods).filter(|pods| *pods > 0).filter(fits);
    let above = (pods.saturating_add(1)..=u32::MAX).find(fits);
    let found: BTreeSet<u32> = [below, same, above].into_iter().flatten().collect();
    found.into_iter().collect()
}

/// The ratio of `pods` Pods (at least one), spread over `nodes` nodes so that no two differ by more than one.
fn even_spread_permille(pods: u32, nodes: u32) -> u64 {
    if pods <= nodes {
        return 1000;
    }
    let emptiest = u64::from(pods / nodes);
    (1000 * u64::from(pods)).div_ceil(u64::from(nodes) * emptiest)
}

fn clamp(number: u128) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
