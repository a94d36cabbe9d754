//! What a new Pod is given so that the scheduler spreads it.
//!
//! A load balancer under `Local` loads nodes, not Pods; so Pods of one Service belong on different nodes. A preferred
//! term cannot keep a Pod from being scheduled. It is given to Pods at CREATE only: in a template it would roll the
//! workload, and a Pod's anti-affinity is immutable afterwards.
//!
//! The population that matters is the load balancer's, so the term carries the Service's selector, not the workload's.

mod existing;
mod owner;
mod pod;
mod stanza;

use crate::facts::{ClusterFacts, NamespaceFacts};
use crate::policies::{PolicyRef, PolicySet};
use crate::selectors::{Labels, service_selects};
use crate::subject::Subject;
use json_patch::Patch;
use k8s_openapi::api::core::v1::{Pod, Service};
use portreeve_crds::policy::{ServiceType, SpreadMechanism, SpreadMode};

pub use owner::{OwnerFacts, stem};

/// Up to this many schedulable nodes `Auto` means anti-affinity. Above, its cost per Pod is felt in the scheduler, and
/// topology spread constraints cost about a quarter of it.
pub const AUTO_ANTI_AFFINITY_NODES: u32 = 300;

/// Terms that one Pod is given at most: each costs the scheduler on every Pod.
pub const MAX_TERMS: usize = 2;

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// What is done with a Pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Injection {
    /// It is given the stanza.
    Patch {
        /// The change, against the Pod as it was seen; replaces nothing of the user's.
        ops: Patch,
        /// Services whose selectors the stanza carries, by name.
        services: Vec<String>,
        /// The policy that asks for it; with several Services, the first one's.
        policy: PolicyRef,
        /// What was injected; never `Auto`.
        mechanism: SpreadMechanism,
    },
    /// It is left alone.
    Skip(SkipReason),
}

/// Why a Pod is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SkipReason {
    /// The label `portreeve.io/ignore: "true"` on the Pod or its namespace.
    OptedOut,
    /// No Service selects the Pod (headless ones and ExternalName have no external traffic and do not count).
    NoService,
    /// Every Service that selects the Pod has `Cluster`: any Pod may get any traffic then.
    NoLocalService,
    /// No effective policy of those Services says `Inject`.
    NotAsked,
    /// The kubelet's own copy of a static Pod.
    MirrorPod,
    /// The Pod is bound to its node by the host's network.
    HostNetwork,
    /// Owned by a DaemonSet: one per node already.
    DaemonSet,
    /// Owned by a Job: it serves for a while only.
    Job,
    /// `spec.nodeName` is set: the scheduler is not asked.
    NodeName,
    /// Node selector or required node affinity leave one host.
    HostnamePin,
    /// A podAffinity on the hostname wants it close to others.
    WantsCompany,
    /// An anti-affinity term or spread constraint on the hostname selects the Pod itself.
    AlreadySpreads,
    /// A spread constraint on the hostname is there, for others than the Pod itself, and the API allows no second one.
    ConstraintTaken,
    /// A selector in the Pod that Kubernetes does not understand; the API server will say so.
    InvalidSelector,
}

impl SkipReason {
    /// Every reason, in order.
    pub const ALL: [Self; 14] = [
        Self::OptedOut,
        Self::NoService,
        Self::NoLocalService,
        Self::NotAsked,
        Self::MirrorPod,
        Self::HostNetwork,
        Self::DaemonSet,
        Self::Job,
        Self::NodeName,
        Self::HostnamePin,
        Self::WantsCompany,
        Self::AlreadySpreads,
        Self::ConstraintTaken,
        Self::InvalidSelector,
    ];

    /// The reason as one word. Safe as a metric label: the set is closed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OptedOut => "opted_out",
            Self::NoService => "no_service",
            Self::NoLocalService => "no_local_service",
            Self::NotAsked => "not_asked",
            Self::MirrorPod => "mirror_pod",
            Self::HostNetwork => "host_network",
            Self::DaemonSet => "daemon_set",
            Self::Job => "job",
            Self::NodeName => "node_name",
            Self::HostnamePin => "hostname_pin",
            Self::WantsCompany => "wants_company",
            Self::AlreadySpreads => "already_spreads",
            Self::ConstraintTaken => "constraint_taken",
            Self::InvalidSelector => "invalid_selector",
        }
    }
}

/// A Service that asks for its Pods to be spread.
struct Asking<'a> {
    name: &'a str,
    selector: &'a Labels,
    weight: i32,
    mechanism: SpreadMechanism,
    policy: PolicyRef,
}

/// Decides what a Pod is given at CREATE.
///
/// `services` are those of the Pod's namespace, all or only those that select it. A Pod that was patched once is left
/// alone the second time ([`SkipReason::AlreadySpreads`]), so reinvocation adds nothing.
#[must_use]
pub fn decide_injection(
    pod: &Pod,
    services: &[&Service],
    namespace: &NamespaceFacts,
    set: &PolicySet,
    cluster: ClusterFacts,
    facts: &OwnerFacts,
) -> Injection {
    match decide(pod, services, namespace, set, cluster, facts) {
        Ok(injection) => injection,
        Err(reason) => Injection::Skip(reason),
    }
}

fn decide(
    pod: &Pod,
    services: &[&Service],
    namespace: &NamespaceFacts,
    set: &PolicySet,
    cluster: ClusterFacts,
    facts: &OwnerFacts,
) -> Result<Injection, SkipReason> {
    if namespace.ignored() || pod::ignored(pod) {
        return Err(SkipReason::OptedOut);
    }
    let asking = asking(pod, services, namespace, set)?;
    pod::check(pod)?;
    if existing::spreads(pod, namespace).map_err(|_| SkipReason::InvalidSelector)? {
        return Err(SkipReason::AlreadySpreads);
    }
    // `asking` answers with at least one.
    let first = asking.first().ok_or(SkipReason::NotAsked)?;
    let mechanism = resolve(first.mechanism, cluster);
    let (ops, used) = match mechanism {
        SpreadMechanism::TopologySpread => (stanza::topology_spread(pod, first, cluster, facts)?, &asking[..1]),
        SpreadMechanism::PodAntiAffinity | SpreadMechanism::Auto => {
            (stanza::anti_affinity(pod, &asking, facts), &asking[..])
        }
    };
    Ok(Injection::Patch {
        ops: stanza::with_annotation(pod, ops, &first.policy, mechanism),
        services: used.iter().map(|service| service.name.to_owned()).collect(),
        policy: first.policy.clone(),
        mechanism,
    })
}

/// The Services whose selectors the stanza carries: by name, one per selector, [`MAX_TERMS`] at most.
fn asking<'a>(
    pod: &Pod,
    services: &[&'a Service],
    namespace: &NamespaceFacts,
    set: &PolicySet,
) -> Result<Vec<Asking<'a>>, SkipReason> {
    let none = Labels::new();
    let labels = pod.metadata.labels.as_ref().unwrap_or(&none);
    let mut selecting: Vec<(&str, &Labels, &Service)> = services
        .iter()
        .filter_map(|service| {
            let subject = Subject::new(service);
            let outside = subject.headless() || subject.kind() == Some(ServiceType::ExternalName);
            let selector = subject.selector().filter(|selector| !outside && service_selects(Some(selector), labels))?;
            Some((service.metadata.name.as_deref().unwrap_or_default(), selector, *service))
        })
        .collect();
    if selecting.is_empty() {
        return Err(SkipReason::NoService);
    }
    selecting.retain(|(_, _, service)| keeps_to_the_node(service));
    if selecting.is_empty() {
        return Err(SkipReason::NoLocalService);
    }
    selecting.sort_unstable_by_key(|(name, _, _)| *name);
    let mut asking: Vec<Asking<'a>> = Vec::new();
    for (name, selector, service) in selecting {
        if asking.len() == MAX_TERMS {
            break;
        }
        if asking.iter().any(|known| known.selector == selector) {
            continue;
        }
        let spread = set.effective(namespace, service).spread;
        if let (SpreadMode::Inject, Some(policy)) = (spread.mode, spread.policy) {
            asking.push(Asking { name, selector, weight: spread.weight, mechanism: spread.mechanism, policy });
        }
    }
    if asking.is_empty() { Err(SkipReason::NotAsked) } else { Ok(asking) }
}

/// Whether external or internal traffic stays on the node that received it.
fn keeps_to_the_node(service: &Service) -> bool {
    let subject = Subject::new(service);
    let internal = subject.spec().and_then(|spec| spec.internal_traffic_policy.as_deref());
    subject.is_local() || internal == Some("Local")
}

fn resolve(mechanism: SpreadMechanism, cluster: ClusterFacts) -> SpreadMechanism {
    match mechanism {
        SpreadMechanism::Auto if cluster.nodes > AUTO_ANTI_AFFINITY_NODES => SpreadMechanism::TopologySpread,
        SpreadMechanism::Auto => SpreadMechanism::PodAntiAffinity,
        named => named,
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
