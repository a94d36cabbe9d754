//! The forwarder: equal-cost routes to the virtual address, one per healthy node, chosen by the kernel's hash of the
//! flow's five-tuple. The packet reaches the node as the client sent it; the answer goes back through the router.

use std::net::IpAddr;

use crate::fabric::plan::Dual;

/// A node that takes flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) node: Dual,
    /// 1 each for an even spread.
    pub(super) weight: u16,
}

/// The iproute2 line that makes `vip` go over exactly `paths`. Without any the address is unreachable, as it is when
/// nobody announces it to a router.
pub(super) fn route(vip: IpAddr, paths: &[Path]) -> String {
    let bits = host_bits(vip);
    let Some((first, more)) = paths.split_first() else {
        return format!("route replace unreachable {vip}/{bits}\n");
    };
    if more.is_empty() {
        return format!("route replace {vip}/{bits} via {} dev eth0\n", first.node.of_family(vip));
    }
    let hops: Vec<_> = paths
        .iter()
        // The kernel stores a weight in eight bits.
        .map(|path| format!("nexthop via {} dev eth0 weight {}", path.node.of_family(vip), path.weight.clamp(1, 255)))
        .collect();
    format!("route replace {vip}/{bits} {}\n", hops.join(" "))
}

/// The line that forgets `vip`.
pub(super) fn unroute(vip: IpAddr) -> String {
    let bits = host_bits(vip);
    format!("route del {vip}/{bits}\n")
}

/// Length of the prefix that holds one address.
pub(super) fn host_bits(vip: IpAddr) -> u8 {
    if vip.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests;
