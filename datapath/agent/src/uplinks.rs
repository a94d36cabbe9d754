//! Which interfaces are uplinks: where clients arrive. Pure; the dump it works on is read in [`links`](crate::links).

use portreeve_crds::node_datapath::Uplink;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Most uplinks, and addresses of one, that NodeDatapath lists.
const MAX_UPLINKS: usize = 16;
const MAX_ADDRESSES: usize = 32;

/// One interface of the node's network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mtu: u32,
    pub(crate) loopback: bool,
    /// Addresses with prefix length, sorted.
    pub(crate) addresses: Vec<(IpAddr, u8)>,
}

/// The node's interfaces at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dump {
    /// By index.
    pub(crate) links: Vec<Link>,
    /// Interfaces of default routes in the main table, both families.
    pub(crate) default_routes: BTreeSet<u32>,
}

/// The uplinks: interfaces that a pattern names or, without patterns, those that hold one of the node's InternalIPs or a
/// default route. Loopback never is one. Ordered by index; each with the reason.
pub(crate) fn select(dump: &Dump, internal: &[IpAddr], patterns: Option<&[String]>) -> Vec<Uplink> {
    dump.links
        .iter()
        .filter(|link| !link.loopback)
        .filter_map(|link| reason(link, dump, internal, patterns).map(|reason| uplink(link, reason)))
        .take(MAX_UPLINKS)
        .collect()
}

fn reason(link: &Link, dump: &Dump, internal: &[IpAddr], patterns: Option<&[String]>) -> Option<String> {
    if let Some(patterns) = patterns {
        return patterns.iter().find(|pattern| matches(pattern, &link.name)).map(|pattern| {
            if pattern == &link.name {
                "named in DatapathConfig".to_owned()
            } else {
                format!("matches {pattern} in DatapathConfig")
            }
        });
    }
    let own = link.addresses.iter().map(|(address, _)| address).find(|address| internal.contains(address));
    match (own, dump.default_routes.contains(&link.index)) {
        (Some(address), true) => Some(format!("holds InternalIP {address} and a default route")),
        (Some(address), false) => Some(format!("holds InternalIP {address}")),
        (None, true) => Some("holds a default route".to_owned()),
        (None, false) => None,
    }
}

/// Whether `name` fits `pattern`: equal, or beginning with what precedes a trailing `*`.
fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |start| name.starts_with(start))
}

fn uplink(link: &Link, reason: String) -> Uplink {
    Uplink {
        name: link.name.clone(),
        // The kernel counts both in a signed int of its own.
        index: i32::try_from(link.index).unwrap_or(i32::MAX),
        mtu: i32::try_from(link.mtu).unwrap_or(i32::MAX),
        addresses: link
            .addresses
            .iter()
            .take(MAX_ADDRESSES)
            .map(|(address, length)| format!("{address}/{length}"))
            .collect(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump() -> Dump {
        let link = |index, name: &str, address: &str| Link {
            index,
            name: name.to_owned(),
            mtu: 1500,
            loopback: name == "lo",
            addresses: vec![(address.parse().unwrap(), 24)],
        };
        Dump {
            links: vec![
                link(1, "lo", "127.0.0.1"),
                link(2, "eth0", "10.0.0.1"),
                link(3, "eth1", "192.168.0.1"),
                link(4, "veth1", "10.1.0.1"),
            ],
            default_routes: [3].into(),
        }
    }

    fn chosen(internal: &[&str], patterns: Option<&[&str]>) -> Vec<String> {
        let internal: Vec<IpAddr> = internal.iter().map(|text| text.parse().unwrap()).collect();
        let patterns: Option<Vec<String>> = patterns.map(|list| list.iter().map(|&text| text.to_owned()).collect());
        select(&dump(), &internal, patterns.as_deref())
            .into_iter()
            .map(|uplink| format!("{}: {}", uplink.name, uplink.reason))
            .collect()
    }

    #[test]
    fn the_internal_ip_and_the_default_route_make_uplinks() {
        assert_eq!(chosen(&["10.0.0.1"], None), ["eth0: holds InternalIP 10.0.0.1", "eth1: holds a default route"]);
        assert_eq!(chosen(&["192.168.0.1"], None), ["eth1: holds InternalIP 192.168.0.1 and a default route"]);
    }

    #[test]
    fn a_selection_replaces_the_automatic_choice() {
        assert_eq!(chosen(&["10.0.0.1"], Some(&["veth1"])), ["veth1: named in DatapathConfig"]);
        assert_eq!(
            chosen(&[], Some(&["eth*"])),
            ["eth0: matches eth* in DatapathConfig", "eth1: matches eth* in DatapathConfig"]
        );
        assert!(chosen(&["10.0.0.1"], Some(&["nothing"])).is_empty());
    }

    #[test]
    fn loopback_is_never_an_uplink() {
        assert!(chosen(&["127.0.0.1"], None).iter().all(|uplink| !uplink.starts_with("lo")));
        assert!(chosen(&[], Some(&["*"])).iter().all(|uplink| !uplink.starts_with("lo")));
    }

    #[test]
    fn a_star_matches_only_at_the_end() {
        assert!(matches("eth*", "eth") && matches("*", "x") && matches("a.1", "a.1"));
        assert!(!matches("eth", "eth0") && !matches("et*0", "eth0"));
    }
}
