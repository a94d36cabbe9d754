//! What is compared: the node namespaces that stand side by side.

use serde::{Deserialize, Serialize};

use crate::node::config::ProxyMode;

/// An engine of our agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Nftables,
    Iptables,
}

impl Engine {
    /// As DatapathConfig names it.
    pub(super) const fn backend(self) -> &'static str {
        match self {
            Self::Nftables => "Nftables",
            Self::Iptables => "Iptables",
        }
    }
}

/// One node, by what translates addresses on it. The order is that of the columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Variant {
    /// Plain routing to the Pod's own address: no netfilter, no conntrack.
    Plain,
    /// The same once more: what differs is noise.
    PlainAgain,
    /// A single nftables rule with one destination: the floor of anything that uses the kernel's NAT.
    OneRule,
    ProxyIptables,
    ProxyNftables,
    Nftables,
    Iptables,
    NftablesBesideProxyIptables,
    NftablesBesideProxyNftables,
    IptablesBesideProxyIptables,
}

impl Variant {
    pub(super) const ALL: [Self; 10] = [
        Self::Plain,
        Self::PlainAgain,
        Self::OneRule,
        Self::ProxyIptables,
        Self::ProxyNftables,
        Self::Nftables,
        Self::Iptables,
        Self::NftablesBesideProxyIptables,
        Self::NftablesBesideProxyNftables,
        Self::IptablesBesideProxyIptables,
    ];
    /// Those whose daemons are compared, one at a time.
    pub(super) const DAEMONS: [Self; 4] = [Self::ProxyIptables, Self::ProxyNftables, Self::Nftables, Self::Iptables];

    /// kube-proxy on this node, if there is one.
    pub(super) const fn proxy(self) -> Option<ProxyMode> {
        match self {
            Self::ProxyIptables | Self::NftablesBesideProxyIptables | Self::IptablesBesideProxyIptables => {
                Some(ProxyMode::Iptables)
            }
            Self::ProxyNftables | Self::NftablesBesideProxyNftables => Some(ProxyMode::Nftables),
            _ => None,
        }
    }

    /// Our engine on this node, if there is one.
    pub(super) const fn engine(self) -> Option<Engine> {
        match self {
            Self::Nftables | Self::NftablesBesideProxyIptables | Self::NftablesBesideProxyNftables => {
                Some(Engine::Nftables)
            }
            Self::Iptables | Self::IptablesBesideProxyIptables => Some(Engine::Iptables),
            _ => None,
        }
    }

    /// Whether clients dial the Pod's own address.
    pub(super) const fn is_plain(self) -> bool {
        matches!(self, Self::Plain | Self::PlainAgain)
    }

    /// Name of its namespaces' pins and of its logs.
    pub(super) const fn id(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::PlainAgain => "plain-again",
            Self::OneRule => "one-rule",
            Self::ProxyIptables => "kp-ipt",
            Self::ProxyNftables => "kp-nft",
            Self::Nftables => "nft",
            Self::Iptables => "ipt",
            Self::NftablesBesideProxyIptables => "nft-kp-ipt",
            Self::NftablesBesideProxyNftables => "nft-kp-nft",
            Self::IptablesBesideProxyIptables => "ipt-kp-ipt",
        }
    }

    /// Head of its column; the page explains them.
    pub(super) const fn column(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::PlainAgain => "plain again",
            Self::OneRule => "one NAT rule",
            Self::ProxyIptables => "kube-proxy iptables",
            Self::ProxyNftables => "kube-proxy nftables",
            Self::Nftables => "**nftables**",
            Self::Iptables => "**iptables**",
            Self::NftablesBesideProxyIptables => "**nftables** beside kube-proxy iptables",
            Self::NftablesBesideProxyNftables => "**nftables** beside kube-proxy nftables",
            Self::IptablesBesideProxyIptables => "**iptables** beside kube-proxy iptables",
        }
    }

    /// Name in legends and sentences.
    pub(super) fn legend(self) -> String {
        let name = self.column().replace("**", "");
        if self.engine().is_some() { format!("ours, {name}") } else { name }
    }
}

#[cfg(test)]
mod tests {
    use super::Variant;

    #[test]
    fn every_node_but_the_plain_ones_and_the_floor_has_a_daemon() {
        let bare = Variant::ALL.into_iter().filter(|it| it.proxy().is_none() && it.engine().is_none());
        assert_eq!(bare.collect::<Vec<_>>(), [Variant::Plain, Variant::PlainAgain, Variant::OneRule]);
    }

    #[test]
    fn pins_have_names_of_their_own() {
        let names: std::collections::BTreeSet<_> = Variant::ALL.iter().map(|it| it.id()).collect();
        assert_eq!(names.len(), Variant::ALL.len());
    }
}
