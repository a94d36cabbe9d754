//! Builders for tests: Services as the compiler leaves them.

use super::Programmed;
use portreeve_table::{
    Applied, ClaimedMode, Difference, Engine, EngineError, Family, ForwardingTable, Frontend, FrontendEntry,
    FrontendHost, FrontendKind, Goal, Hop, Integrity, Interface, OnNoLocal, Op, PerFamily, PodFlows, PortEntry,
    Protocol, ServiceEntry, ServiceKey, SourceFilter, Standing, Target, diff,
};
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A port at these addresses, and at this node port if it is not 0, with these Pods.
pub(crate) fn port(protocol: Protocol, at: &[&str], number: u16, node_port: u16, pods: &[&str]) -> PortEntry {
    let addresses: Vec<IpAddr> = at.iter().map(|address| address.parse().unwrap()).collect();
    let family = Family::of(addresses[0]);
    let front = |host, port, kind| {
        let frontend = Frontend { host, port, protocol };
        FrontendEntry { frontend, kind, guarded: kind == FrontendKind::LoadBalancer }
    };
    let mut frontends: Vec<FrontendEntry> = addresses
        .iter()
        .map(|address| front(FrontendHost::Address(*address), number, FrontendKind::LoadBalancer))
        .collect();
    frontends
        .extend((node_port != 0).then(|| front(FrontendHost::NodePort(family), node_port, FrontendKind::NodePort)));
    let targets = pods.iter().map(|pod| Target { hop: Hop::Pod(pod.parse().unwrap()), weight: 1 }).collect();
    let standing = if pods.is_empty() { Standing::Nowhere } else { Standing::LocalReady };
    PortEntry { name: "http".into(), family, protocol, frontends, standing, targets, kept: Vec::new() }
}

/// A port whose Pods are all elsewhere.
pub(crate) fn elsewhere(protocol: Protocol, at: &[&str], number: u16) -> PortEntry {
    PortEntry { standing: Standing::Elsewhere, ..port(protocol, at, number, 0, &[]) }
}

pub(crate) fn service(ports: impl Into<Vec<PortEntry>>) -> ServiceEntry {
    ServiceEntry {
        created: 100,
        mode: ClaimedMode::Local,
        on_no_local: OnNoLocal::Drop,
        sources: PerFamily::from_fn(|_| SourceFilter::Open),
        affinity_seconds: None,
        health_check_node_port: None,
        local_ready: PerFamily::default(),
        ports: ports.into(),
    }
}

pub(crate) fn sticky(entry: ServiceEntry) -> ServiceEntry {
    ServiceEntry { affinity_seconds: Some(10_800), ..entry }
}

pub(crate) fn guarded(entry: ServiceEntry, ranges: &[&str], own_address: bool) -> ServiceEntry {
    let ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
    let v4 = SourceFilter::Only { ranges, own_address };
    ServiceEntry { sources: PerFamily { v4, v6: SourceFilter::Open }, ..entry }
}

/// With the health check node port 31239.
pub(crate) fn checked(entry: ServiceEntry) -> ServiceEntry {
    ServiceEntry { health_check_node_port: Some(31239), ..entry }
}

pub(crate) fn observed(entry: ServiceEntry) -> ServiceEntry {
    ServiceEntry { mode: ClaimedMode::Observe, ..entry }
}

pub(crate) fn without_local(entry: ServiceEntry, on_no_local: OnNoLocal) -> ServiceEntry {
    ServiceEntry { on_no_local, ..entry }
}

/// A table of these Services of namespace `shop`, on a node with one address of each family.
pub(crate) fn table<'a>(services: impl IntoIterator<Item = (&'a str, ServiceEntry)>) -> ForwardingTable {
    let services = services.into_iter().map(|(name, entry)| (ServiceKey::new("shop", name), Arc::new(entry)));
    ForwardingTable {
        node_addresses: vec!["198.51.100.254".parse().unwrap(), "2001:db8:1::fe".parse().unwrap()],
        pod_ranges: ["10.244.0.0/16", "fd00:244::/48"].map(|range| range.parse().unwrap()).into(),
        services: services.collect(),
    }
}

pub(crate) fn uplinks(names: &[&str]) -> BTreeSet<Interface> {
    names.iter().map(|name| Interface::new(name).unwrap()).collect()
}

/// One Service of every kind.
pub(crate) fn sample() -> ForwardingTable {
    use Protocol::{Sctp, Tcp, Udp};
    let two = ["10.244.0.2:8080", "10.244.0.3:8080"];
    let guarded_port = || {
        let mut port = port(Tcp, &["192.0.2.20"], 443, 30443, &two[..1]);
        port.frontends.iter_mut().for_each(|front| front.guarded = true);
        port
    };
    let ranges = ["203.0.113.0/25", "203.0.113.128/25", "198.51.100.0/24"];
    let six = ["[fd00:244::2]:8080"];
    table([
        (
            "web",
            checked(service([
                port(Tcp, &["192.0.2.10", "192.0.2.11"], 80, 30080, &two),
                port(Tcp, &["2001:db8::10"], 80, 30080, &six),
            ])),
        ),
        ("dns", service([port(Udp, &["192.0.2.10"], 53, 30053, &two[..1])])),
        ("signal", service([port(Sctp, &["192.0.2.10"], 36412, 0, &two[..1])])),
        ("guarded", guarded(service([guarded_port()]), &ranges, true)),
        (
            "sticky",
            sticky(service([port(Udp, &["192.0.2.30"], 80, 0, &two), port(Udp, &["2001:db8::30"], 80, 0, &six)])),
        ),
        ("dropped", service([elsewhere(Tcp, &["192.0.2.40"], 80)])),
        ("rejected", without_local(service([elsewhere(Tcp, &["192.0.2.41"], 80)]), OnNoLocal::Reject)),
        ("passed", without_local(service([elsewhere(Tcp, &["192.0.2.42"], 80)]), OnNoLocal::Passthrough)),
        ("empty", service([port(Tcp, &["192.0.2.43"], 80, 0, &[])])),
        (
            "observed",
            guarded(observed(checked(service([port(Tcp, &["192.0.2.50"], 80, 30050, &two)]))), &ranges, false),
        ),
    ])
}

/// The engine as the agent drives it: with the steps from the table before.
pub(crate) struct Driven<E = Programmed> {
    programmed: E,
    uplinks: BTreeSet<Interface>,
    table: ForwardingTable,
}

impl Driven {
    pub(crate) fn on(interface: &str) -> Self {
        Self::by(Programmed::open().unwrap(), interface)
    }

    /// As if all clients that must be told had had their time.
    pub(crate) fn let_resets_be_over(&mut self) {
        self.programmed.let_resets_be_over();
    }
}

impl<E: Engine> Driven<E> {
    pub(crate) fn by(programmed: E, interface: &str) -> Self {
        Self { programmed, uplinks: uplinks(&[interface]), table: ForwardingTable::default() }
    }

    pub(crate) fn apply(&mut self, table: &ForwardingTable) -> Result<Applied, EngineError> {
        self.apply_by(table, &diff(&self.table, table))
    }

    /// By steps that say more than the two tables do.
    pub(crate) fn apply_by(&mut self, table: &ForwardingTable, steps: &[Op]) -> Result<Applied, EngineError> {
        self.table = table.clone();
        let applied = self.programmed.apply(Goal { table, uplinks: &self.uplinks }, steps)?;
        self.programmed.end_flows(table)?;
        Ok(applied)
    }

    /// Flows of a Service of namespace `shop`.
    pub(crate) fn flows(&mut self, service: &str) -> Result<Vec<PodFlows>, EngineError> {
        self.programmed.flows(&ServiceKey::new("shop", service))
    }

    /// What the kernel has otherwise than it should, each with the name of its Service if it has one.
    pub(crate) fn read_back(&mut self) -> Vec<(Option<String>, String)> {
        let named = |it: Difference| (it.service.map(|service| service.name.to_string()), it.what);
        self.programmed.read_back().unwrap().into_iter().map(named).collect()
    }

    pub(crate) fn steer(&mut self, listeners: &[SocketAddr]) -> Result<(), EngineError> {
        self.programmed.steer_health_checks(listeners)
    }

    /// Ends the flows that the table does not keep, and gives their number.
    pub(crate) fn sweep(&mut self) -> usize {
        let Self { programmed, table, .. } = self;
        let keeps = |service: &ServiceKey, protocol, pod| table.services[service].keeps(protocol, pod);
        programmed.sweep(table, &keeps).unwrap()
    }

    pub(crate) fn integrity(&mut self) -> Integrity {
        self.programmed.integrity().unwrap()
    }

    pub(crate) fn remove(&mut self) {
        self.programmed.remove().unwrap();
    }
}
