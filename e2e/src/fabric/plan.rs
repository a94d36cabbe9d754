//! The address plan. Everything lives in namespaces of the testbed, so it can collide with nothing on the machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Nodes and control plane.
pub const FABRIC_V4: &str = "172.30.0.0/24";
/// Nodes and control plane.
pub const FABRIC_V6: &str = "fd30::/64";
/// Outside clients: another network, behind the router.
pub const CLIENTS_V4: &str = "172.31.0.0/24";
/// Outside clients: another network, behind the router.
pub const CLIENTS_V6: &str = "fd31::/64";
/// All Pods of the cluster.
pub const PODS_V4: &str = "10.244.0.0/16";
/// All Pods of the cluster.
pub const PODS_V6: &str = "fd44::/48";
/// ClusterIPs.
pub const SERVICES_V4: &str = "10.96.0.0/16";
/// ClusterIPs.
pub const SERVICES_V6: &str = "fd96::/112";
/// ClusterIP of the API server's own Service, the first of the range.
pub const KUBERNETES_V4: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// ClusterIP of the cluster's DNS.
pub const DNS_V4: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// ClusterIP of the cluster's DNS.
pub const DNS_V6: Ipv6Addr = Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 0xa);

/// One address of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dual {
    /// IPv4 address.
    pub v4: Ipv4Addr,
    /// IPv6 address.
    pub v6: Ipv6Addr,
}

impl Dual {
    /// The address of the same family as `like`.
    pub fn of_family(&self, like: IpAddr) -> IpAddr {
        if like.is_ipv4() { self.v4.into() } else { self.v6.into() }
    }

    /// Both, IPv4 first.
    pub fn both(&self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

const fn fabric_host(host: u8) -> Dual {
    Dual { v4: Ipv4Addr::new(172, 30, 0, host), v6: Ipv6Addr::new(0xfd30, 0, 0, 0, 0, 0, 0, host as u16) }
}

/// The router between clients and fabric, which is also where the load balancers run; its fabric side.
pub const ROUTER: Dual = fabric_host(1);
/// The router's client side.
pub const CLIENT_GATEWAY: Dual =
    Dual { v4: Ipv4Addr::new(172, 31, 0, 1), v6: Ipv6Addr::new(0xfd31, 0, 0, 0, 0, 0, 0, 1) };
/// The control plane.
pub const CONTROL_PLANE: Dual = fabric_host(10);

/// Node `index`, counted from 1 (`n1`).
pub fn node(index: u8) -> Dual {
    fabric_host(10 + index)
}

/// Client `index`, counted from 1.
pub fn client(index: u8) -> Dual {
    let host = 100 + index;
    Dual { v4: Ipv4Addr::new(172, 31, 0, host), v6: Ipv6Addr::new(0xfd31, 0, 0, 0, 0, 0, 0, host.into()) }
}

/// The Pod ranges of node `index`, IPv4 then IPv6.
pub fn pods(index: u8) -> [String; 2] {
    [format!("10.244.{index}.0/24"), format!("fd44:0:0:{index:x}::/64")]
}

/// Virtual address `index` (from 1) of load balancers that are reached through the router.
pub fn routed_vip(index: u8) -> Dual {
    Dual { v4: Ipv4Addr::new(198, 51, 100, index), v6: Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, index.into()) }
}

/// Virtual address `index` (from 1) inside the nodes' own network, for a node to announce.
pub fn announced_vip(index: u8) -> Dual {
    fabric_host(200 + index)
}
