//! A look-out of our own between the agents' rules and kube-proxy's, in the hook of translation, where a flow comes no further
//! once somebody has decided about it: who comes by here, kube-proxy is asked about.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::Result;

use super::force::Variant;
use super::probe::Transport;
use super::world::World;

/// In front of kube-proxy's `dstnat` (-100), behind the agents' -105. A set remembers each destination that a flow opened.
const NFT: &str = "add table inet look-out
add chain inet look-out asked { type nat hook prerouting priority -101; }
add set inet look-out four { type inet_proto . ipv4_addr . inet_service; flags dynamic; size 65535; }
add set inet look-out six { type inet_proto . ipv6_addr . inet_service; flags dynamic; size 65535; }
add rule inet look-out asked iifname eth0 meta nfproto ipv4 meta l4proto { tcp, udp } add @four { meta l4proto . ip daddr . th dport }
add rule inet look-out asked iifname eth0 meta nfproto ipv6 meta l4proto { tcp, udp } add @six { meta l4proto . ip6 daddr . th dport }
";
const CHAIN: &str = "LOOK-OUT";
const PROGRAMS: [&str; 2] = ["iptables", "ip6tables"];

/// Whether a chain of nftables would stand in front of the agents too.
fn by_iptables(world: &World, variant: Variant) -> bool {
    variant == Variant::Iptables && variant.is_ahead(world.mode)
}

/// A destination of flows.
pub(crate) type Destination = (Transport, SocketAddr);

/// Posts the look-out on a node. That of iptables is a chain in front of kube-proxy's, which the agents' stays ahead of; it has
/// to be told what to look out for.
pub(crate) fn post(world: &World, variant: Variant, index: u8, destinations: &BTreeSet<Destination>) -> Result<()> {
    let node = world.cluster.fabric().node(index);
    if !by_iptables(world, variant) {
        node.nft(NFT)?;
        return Ok(());
    }
    for (program, four) in PROGRAMS.into_iter().zip([true, false]) {
        let mut rules = format!("*nat\n:{CHAIN} - [0:0]\n-I PREROUTING -i eth0 -j {CHAIN}\n");
        for (transport, to) in destinations.iter().filter(|(_, to)| to.is_ipv4() == four) {
            let name = transport.name();
            rules.push_str(&format!("-A {CHAIN} -d {} -p {name} -m {name} --dport {}\n", to.ip(), to.port()));
        }
        node.run(&format!("{program}-restore"), &["--noflush"], &format!("{rules}COMMIT\n"))?;
    }
    Ok(())
}

/// Which of `destinations` kube-proxy was asked about on a node.
pub(crate) fn asked(
    world: &World,
    variant: Variant,
    index: u8,
    destinations: &BTreeSet<Destination>,
) -> Result<BTreeSet<Destination>> {
    let node = world.cluster.fabric().node(index);
    let mut met = Vec::new();
    if by_iptables(world, variant) {
        for program in PROGRAMS {
            met.push(node.run(&format!("{program}-save"), &["--counters", "-t", "nat"], "")?);
        }
        let rules: Vec<&str> = met.iter().flat_map(|text| text.lines()).collect();
        let by = |(transport, to): &&Destination| {
            let name = transport.name();
            let bits = if to.is_ipv4() { 32 } else { 128 };
            let rule = format!("-A {CHAIN} -d {}/{bits} -p {name} -m {name} --dport {}", to.ip(), to.port());
            rules.iter().any(|line| line.ends_with(&rule) && !line.starts_with("[0:"))
        };
        return Ok(destinations.iter().filter(by).copied().collect());
    }
    for set in ["four", "six"] {
        met.push(node.run("nft", &["list", "set", "inet", "look-out", set], "")?);
    }
    let elements: BTreeSet<&str> =
        met.iter().flat_map(|text| text.split(['{', '}', ',', '\n'])).map(str::trim).collect();
    let by = |(transport, to): &&Destination| {
        elements.contains(format!("{} . {} . {}", transport.name(), to.ip(), to.port()).as_str())
    };
    Ok(destinations.iter().filter(by).copied().collect())
}
