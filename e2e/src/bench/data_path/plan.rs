//! Addresses and ports. Every node has the same: nodes never meet each other.

use std::net::{Ipv4Addr, SocketAddrV4};

/// The node's name; every daemon believes to be on it.
pub(super) const NODE: &str = "bench-node";
/// The node, where its clients are.
pub(super) const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(super) const CLIENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// Between node and Pods.
pub(super) const POD_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
pub(super) const POD_LINK: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 2);
/// Pods of this node: each of its addresses is answered.
pub(super) const LOCAL_PODS: &str = "10.244.0.0/15";
/// All Pods.
pub(super) const PODS: &str = "10.192.0.0/10";
/// Where Pods listen.
pub(super) const POD_PORT: u16 = 8080;
/// The API server, on a network of its own.
pub(super) const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 10);
/// Node ports of the API server, and the first that is given out.
pub(super) const NODE_PORTS: &str = "10000-32767";
const FIRST_NODE_PORT: u16 = 10_000;
/// As many as there are node ports and addresses for.
pub(super) const MOST_SERVICES: usize = 20_000;
/// Pods of one Service, one of them on this node.
pub(super) const PODS_EACH: usize = 10;

/// The two local Pods a Service may have; a change of its slice goes from one to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pod {
    First,
    Second,
}

/// The local Pod of Service `n`.
pub(super) fn local_pod(n: usize, pod: Pod) -> Ipv4Addr {
    host(if pod == Pod::First { 244 } else { 245 }, n)
}

/// Pod `i` of Service `n` on other nodes; `i` below `PODS_EACH - 1`.
pub(super) fn remote_pod(n: usize, i: usize) -> Ipv4Addr {
    host(u8::try_from(200 + i).unwrap_or(u8::MAX), n)
}

fn host(second: u8, n: usize) -> Ipv4Addr {
    let byte = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    Ipv4Addr::new(10, second, byte(n / 250), byte(n % 250 + 1))
}

/// Node port of Service `n`.
pub(super) fn node_port(n: usize) -> u16 {
    FIRST_NODE_PORT + u16::try_from(n).unwrap_or(0)
}

/// What clients of Service `n` dial: the node's port or, past all proxies, the Pod itself.
pub(super) fn target(n: usize, plain: bool) -> SocketAddrV4 {
    if plain {
        SocketAddrV4::new(local_pod(n, Pod::First), POD_PORT)
    } else {
        SocketAddrV4::new(NODE_ADDRESS, node_port(n))
    }
}

/// At most `most` of `services` Services, evenly from the first to the last.
pub(super) fn spread(services: usize, most: usize) -> Vec<usize> {
    let many = services.min(most);
    (0..many).map(|i| if many == 1 { 0 } else { i * (services - 1) / (many - 1) }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_pods_share_an_address() {
        let mut seen = BTreeSet::new();
        for n in 0..MOST_SERVICES {
            assert!(seen.insert(local_pod(n, Pod::First)) && seen.insert(local_pod(n, Pod::Second)));
            assert!((0..PODS_EACH - 1).all(|i| seen.insert(remote_pod(n, i))));
        }
    }

    #[test]
    fn only_local_pods_lie_in_the_nodes_range() {
        let (local, all): (ipnet::Ipv4Net, ipnet::Ipv4Net) = (LOCAL_PODS.parse().unwrap(), PODS.parse().unwrap());
        for n in [0, 1, 9_999, MOST_SERVICES - 1] {
            assert!([Pod::First, Pod::Second].iter().all(|pod| local.contains(&local_pod(n, *pod))));
            assert!((0..PODS_EACH - 1).all(|i| !local.contains(&remote_pod(n, i)) && all.contains(&remote_pod(n, i))));
        }
        assert!(!all.contains(&NODE_ADDRESS) && !all.contains(&CLIENT_ADDRESS));
    }

    #[test]
    fn targets_reach_from_the_first_to_the_last() {
        assert_eq!(spread(1, 16), [0]);
        assert_eq!(spread(3, 16), [0, 1, 2]);
        let many = spread(10_000, 16);
        assert_eq!((many.len(), many[0], many[15]), (16, 0, 9_999));
        assert_eq!(target(9_999, false).port(), 19_999);
    }
}
