//! Addresses of the scenarios' Services. The test plays the cloud: it says which node a packet for an address comes to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use portreeve_e2e::fabric::plan::{Dual, SERVICES_V4, SERVICES_V6, node};

/// Nodes by their index, as in `n1`.
pub(crate) const NODES: [u8; 3] = [1, 2, 3];

/// The load balancer address of Service `number` whose packets come to node `index`.
pub(crate) fn load_balancer(index: u8, number: u8) -> Dual {
    address(18, index, number)
}

/// The external address of Service `number` whose packets come to node `index`.
pub(crate) fn external(index: u8, number: u8) -> Dual {
    address(19, index, number)
}

/// RFC 2544's range for tests of networks, and RFC 3849's for documentation.
fn address(kind: u8, index: u8, number: u8) -> Dual {
    Dual {
        v4: Ipv4Addr::new(198, kind, index, number),
        v6: Ipv6Addr::new(0x2001, 0xdb8, kind.into(), index.into(), 0, 0, 0, number.into()),
    }
}

/// Routes of the router: each node's addresses to that node, ClusterIPs to n1.
pub(crate) fn routes() -> String {
    let mut batch = String::new();
    for index in NODES {
        let via = node(index);
        for kind in [18, 19] {
            let Dual { v4, v6 } = address(kind, index, 0);
            batch.push_str(&format!("route add {v4}/24 via {}\nroute add {v6}/64 via {}\n", via.v4, via.v6));
        }
    }
    let n1 = node(1);
    batch + &format!("route add {SERVICES_V4} via {}\nroute add {SERVICES_V6} via {}\n", n1.v4, n1.v6)
}

/// A place that clients talk to: one address of each family, and a port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Front {
    pub(crate) host: Dual,
    pub(crate) port: u16,
}

impl Front {
    /// IPv4 first.
    pub(crate) fn both(&self) -> [SocketAddr; 2] {
        self.host.both().map(|ip| SocketAddr::new(ip, self.port))
    }
}

/// The node that has `ip` on its uplink or on the bridge of its Pods: what a Pod sees of a flow that the node hides.
pub(crate) fn node_of(ip: IpAddr) -> Option<u8> {
    NODES.into_iter().find(|index| {
        let bridge = Dual {
            v4: Ipv4Addr::new(10, 244, *index, 1),
            v6: Ipv6Addr::new(0xfd44, 0, 0, (*index).into(), 0, 0, 0, 1),
        };
        [node(*index), bridge].iter().any(|of| of.of_family(ip) == ip)
    })
}
