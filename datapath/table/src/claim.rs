//! Whether a Service's external traffic is ours, and why not if it is not.

use crate::input::{Directive, ServiceInput, ServiceKind};
use crate::table::ClaimedMode;

/// The answer for one Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Ours, in this mode, if capacity allows.
    Claimed(ClaimedMode),
    /// kube-proxy keeps it.
    Left(ClaimReason),
}

/// Why a Service is left to kube-proxy. In the order in which they are asked: the first that fits is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimReason {
    /// Its `service.kubernetes.io/service-proxy-name` label gives it to another proxy.
    HasServiceProxyName,
    /// Our opt-out label is on it.
    Ignored,
    /// It has no virtual address.
    Headless,
    /// Nobody outside the cluster can address it.
    NotExternal,
    /// `externalTrafficPolicy` is `Cluster`.
    PolicyCluster,
    /// There is no directive for it.
    NoDirective,
    /// Its directive says `Off`.
    DirectiveOff,
    /// All of its addresses have `ipMode: Proxy`, and it has no node port.
    IpModeProxy,
    /// No address has been assigned yet, and it has no node port.
    NoFrontend,
}

impl ClaimReason {
    /// Every reason, in the order in which they are asked.
    pub const ALL: [Self; 9] = [
        Self::HasServiceProxyName,
        Self::Ignored,
        Self::Headless,
        Self::NotExternal,
        Self::PolicyCluster,
        Self::NoDirective,
        Self::DirectiveOff,
        Self::IpModeProxy,
        Self::NoFrontend,
    ];

    /// The reason for people.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::HasServiceProxyName => {
                "its label service.kubernetes.io/service-proxy-name gives it to another service proxy"
            }
            Self::Ignored => "its label portreeve.io/ignore opts it out",
            Self::Headless => "it is headless: clients talk to its Pods directly",
            Self::NotExternal => {
                "clients outside the cluster cannot address it: it has neither a node port, a load balancer nor externalIPs"
            }
            Self::PolicyCluster => "its externalTrafficPolicy is Cluster",
            Self::NoDirective => "no ServiceTraffic says what to do with it",
            Self::DirectiveOff => "its ServiceTraffic says Off: no policy asks for the data path",
            Self::IpModeProxy => "its load balancer addresses have ipMode Proxy, and it has no node port",
            Self::NoFrontend => "it has no load balancer address yet, and no node port",
        }
    }
}

/// Asks everything but the frontends, which the compiler knows only once it has built them.
pub(crate) fn before_frontends(service: &ServiceInput, directive: Option<&Directive>) -> Claim {
    let left = |reason| Claim::Left(reason);
    if service.other_proxy {
        return left(ClaimReason::HasServiceProxyName);
    }
    if service.ignored {
        return left(ClaimReason::Ignored);
    }
    if service.headless && service.kind != ServiceKind::ExternalName {
        return left(ClaimReason::Headless);
    }
    if !service.is_external() {
        return left(ClaimReason::NotExternal);
    }
    if !service.external_local {
        return left(ClaimReason::PolicyCluster);
    }
    match directive.map(|directive| directive.claimed_mode()) {
        None => left(ClaimReason::NoDirective),
        Some(None) => left(ClaimReason::DirectiveOff),
        Some(Some(mode)) => Claim::Claimed(mode),
    }
}

/// Why a Service that would be claimed has no frontend.
pub(crate) const fn without_frontends(service: &ServiceInput) -> ClaimReason {
    if service.proxied_addresses > 0 { ClaimReason::IpModeProxy } else { ClaimReason::NoFrontend }
}
