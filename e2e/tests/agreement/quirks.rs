//! Where kube-proxy does something else than the oracle says for a Service whose directive is to do as kube-proxy does. All
//! else is a failure, and so is one of these that is no longer met.

use portreeve_e2e::node::config::ProxyMode;

/// Something that kube-proxy does in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Quirk {
    EveryLocalAddress,
    PrimaryAddresses,
    NowhereBeforeSources,
    ExternalIpFirst,
}

impl Quirk {
    pub(crate) const fn of(mode: ProxyMode) -> &'static [Self] {
        match mode {
            ProxyMode::Iptables => &[Self::EveryLocalAddress, Self::NowhereBeforeSources, Self::ExternalIpFirst],
            ProxyMode::Nftables => &[Self::PrimaryAddresses],
        }
    }

    /// The reason, with its source in Kubernetes 1.36.
    pub(crate) const fn why(self) -> &'static str {
        match self {
            Self::EveryLocalAddress => {
                "iptables mode serves node ports at every address that the kernel calls local, ours at those that the Node \
                 lists (pkg/proxy/iptables/proxier.go: `-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS`)"
            }
            Self::PrimaryAddresses => {
                "nftables mode serves node ports at the node's first address of each family, ours at all that the Node lists \
                 (pkg/proxy/nftables/proxier.go: set nodeport-ips; --nodeport-addresses is `primary` by default)"
            }
            Self::NowhereBeforeSources => {
                "iptables mode writes no source filter for a Service without endpoints, and rejects what ours drops \
                 (pkg/proxy/iptables/proxier.go: usesFWChain needs hasEndpoints)"
            }
            Self::ExternalIpFirst => {
                "for an address that is an external IP and a load balancer's, iptables mode asks the external IP's rule \
                 first, which knows no source ranges (pkg/proxy/iptables/proxier.go: order of KUBE-SERVICES)"
            }
        }
    }
}
