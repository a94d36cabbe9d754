//! A Service of the table as it is written down.

use ipnet::IpNet;
use portreeve_table::{Family, FrontendKind, OnNoLocal, PerFamily, PortEntry, ServiceEntry, SourceFilter, Standing};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// One claimed Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceView {
    /// Creation time, seconds since 1970.
    pub created: i64,
    /// Observe, Local or Balance.
    pub mode: String,
    /// Drop, Reject, Passthrough or Forward.
    pub on_no_local: String,
    /// Sources that guarded frontends accept.
    pub sources: PerFamilyView<SourcesView>,
    /// Timeout of session affinity.
    pub affinity_seconds: Option<u32>,
    /// The health check node port.
    pub health_check_node_port: Option<u16>,
    /// Ready Pods on the node, by which health checks are answered.
    pub local_ready: PerFamilyView<usize>,
    /// By name, transport and family: `http/tcp/IPv4`.
    pub ports: BTreeMap<String, PortView>,
}

/// One value for each family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerFamilyView<T> {
    /// For IPv4.
    #[serde(rename = "IPv4")]
    pub v4: T,
    /// For IPv6.
    #[serde(rename = "IPv6")]
    pub v6: T,
}

/// Sources that a guarded frontend accepts; all where there is no list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourcesView {
    /// Only these.
    pub only: Option<Vec<IpNet>>,
    /// The Service's load balancer addresses too.
    pub own_address: bool,
}

/// One port of one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortView {
    /// What clients use.
    pub frontends: Vec<FrontendView>,
    /// LocalReady, LocalDraining, Elsewhere or Nowhere.
    pub standing: String,
    /// Where new flows go.
    pub targets: Vec<TargetView>,
    /// Pods that keep the flows they have and take no new ones.
    pub kept: Vec<SocketAddr>,
}

/// What a client uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontendView {
    /// Address and port, or a node port.
    pub at: String,
    /// LoadBalancer, ExternalIP or NodePort.
    pub kind: String,
    /// Whether sources are asked about.
    pub guarded: bool,
}

/// Where new flows go, with its share relative to the others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetView {
    /// A Pod.
    pub to: String,
    /// Its share.
    pub weight: u32,
}

impl From<&ServiceEntry> for ServiceView {
    fn from(entry: &ServiceEntry) -> Self {
        Self {
            created: entry.created,
            mode: entry.mode.as_str().to_owned(),
            on_no_local: on_no_local(entry.on_no_local).to_owned(),
            sources: PerFamilyView::of(&entry.sources, sources),
            affinity_seconds: entry.affinity_seconds,
            health_check_node_port: entry.health_check_node_port,
            local_ready: PerFamilyView::of(&entry.local_ready, |ready| *ready),
            ports: entry.ports.iter().map(|port| (port_key(port), PortView::from(port))).collect(),
        }
    }
}

/// A Service's port names are unique, also the empty one.
fn port_key(port: &PortEntry) -> String {
    format!("{}/{}/{}", port.name, port.protocol, port.family)
}

impl From<&PortEntry> for PortView {
    fn from(port: &PortEntry) -> Self {
        let frontends = port.frontends.iter().map(|entry| FrontendView {
            at: entry.frontend.to_string(),
            kind: kind(entry.kind).to_owned(),
            guarded: entry.guarded,
        });
        let targets =
            port.targets.iter().map(|target| TargetView { to: target.hop.to_string(), weight: target.weight });
        Self {
            frontends: frontends.collect(),
            standing: standing(port.standing).to_owned(),
            targets: targets.collect(),
            kept: port.kept.clone(),
        }
    }
}

impl<T> PerFamilyView<T> {
    fn of<S>(values: &PerFamily<S>, view: impl Fn(&S) -> T) -> Self {
        Self { v4: view(values.get(Family::V4)), v6: view(values.get(Family::V6)) }
    }
}

fn sources(filter: &SourceFilter) -> SourcesView {
    match filter {
        SourceFilter::Open => SourcesView::default(),
        SourceFilter::Only { ranges, own_address } => {
            SourcesView { only: Some(ranges.clone()), own_address: *own_address }
        }
    }
}

const fn on_no_local(choice: OnNoLocal) -> &'static str {
    match choice {
        OnNoLocal::Drop => "Drop",
        OnNoLocal::Reject => "Reject",
        OnNoLocal::Passthrough => "Passthrough",
        OnNoLocal::Forward => "Forward",
    }
}

const fn kind(kind: FrontendKind) -> &'static str {
    match kind {
        FrontendKind::LoadBalancer => "LoadBalancer",
        FrontendKind::ExternalIp => "ExternalIP",
        FrontendKind::NodePort => "NodePort",
    }
}

const fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::LocalReady => "LocalReady",
        Standing::LocalDraining => "LocalDraining",
        Standing::Elsewhere => "Elsewhere",
        Standing::Nowhere => "Nowhere",
    }
}
