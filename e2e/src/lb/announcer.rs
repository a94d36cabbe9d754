//! The announcer: one healthy node carries the address on its link, and the neighbours are told when it moves.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::forwarder::host_bits;
use super::{LbNode, NodeView};
use crate::fabric;
use crate::netns::NetNsError;

/// Who should own the address: the present owner while it is healthy, else the first healthy node by name.
pub(super) fn choose(nodes: &BTreeMap<String, NodeView>, owner: Option<&str>) -> Option<String> {
    let healthy = |name: &str| nodes.get(name).is_some_and(|node| node.healthy);
    match owner {
        Some(owner) if healthy(owner) => Some(owner.to_owned()),
        _ => nodes.iter().find(|(_, node)| node.healthy).map(|(name, _)| name.clone()),
    }
}

/// Puts `vips` on the node's link. Setting the link address to what it is makes the kernel announce every IPv4 address
/// by gratuitous ARP (`arp_notify`); a new IPv6 address is announced by itself (`ndisc_notify`).
pub(super) fn take(node: &LbNode, vips: &[IpAddr]) -> Result<(), NetNsError> {
    let mut batch = String::new();
    for vip in vips {
        batch.push_str(&format!("addr replace {vip}/{} dev eth0\n", host_bits(*vip)));
    }
    batch.push_str(&format!("link set eth0 address {}\n", fabric::mac(node.address)));
    node.netns.ip(&batch)
}

/// Takes `vips` off the node's link; a node that is switched off has none.
pub(super) fn leave(node: &LbNode, vips: &[IpAddr]) -> Result<(), NetNsError> {
    if !node.netns.exists() {
        return Ok(());
    }
    for vip in vips {
        // A node that was switched off and on again does not carry the address any more.
        if let Err(e) = node.netns.ip(&format!("addr del {vip}/{} dev eth0\n", host_bits(*vip))) {
            tracing::debug!("{} did not carry {vip}: {e}", node.name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(healthy: &[(&str, bool)]) -> BTreeMap<String, NodeView> {
        healthy.iter().map(|(n, healthy)| ((*n).into(), NodeView { healthy: *healthy, weight: 1, checks: 1 })).collect()
    }

    #[test]
    fn the_owner_stays_while_healthy_and_moves_when_not() {
        let all = nodes(&[("n1", true), ("n2", true)]);
        assert_eq!(choose(&all, None).as_deref(), Some("n1"));
        assert_eq!(choose(&all, Some("n2")).as_deref(), Some("n2"));
        assert_eq!(choose(&nodes(&[("n1", true), ("n2", false)]), Some("n2")).as_deref(), Some("n1"));
        assert_eq!(choose(&nodes(&[("n1", false)]), Some("n1")), None);
    }
}
