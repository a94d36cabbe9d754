//! The executable specification: what becomes of one packet, and why.
//!
//! Engines agree with it packet by packet. It looks a frontend up by going through all of them: it is written to be read,
//! not to be fast. The order of its questions is the order in which an engine must ask them.

mod packet;
mod reason;

pub use packet::{Action, AffinityKey, Arrival, Because, Bound, Flow, FlowKey, Memory, Packet, Verdict};
pub use reason::Reason;

use crate::input::OnNoLocal;
use crate::key::{Family, Protocol, ServiceKey};
use crate::table::{
    ClaimedMode, ForwardingTable, FrontendEntry, FrontendHost, FrontendKind, Hop, PortEntry, ServiceEntry,
    SourceFilter, Standing, Target,
};
use std::net::IpAddr;

/// What the node does with `packet`, given what it remembers of earlier ones.
#[must_use]
pub fn oracle(table: &ForwardingTable, packet: &Packet, memory: &Memory) -> Verdict {
    let mut because = Vec::new();
    let action = decide(table, packet, memory, &mut because);
    Verdict { action, because }
}

fn decide(table: &ForwardingTable, packet: &Packet, memory: &Memory, because: &mut Vec<Because>) -> Action {
    let arrival = match packet.arrival {
        Arrival::Uplink => None,
        Arrival::Node => Some((Reason::FromNode, "it comes from a process of this node")),
        Arrival::LocalPod => Some((Reason::FromLocalPod, "it comes from a Pod of this node")),
    };
    if let Some((reason, text)) = arrival {
        because.push(reason.with(text));
        return Action::Pass;
    }
    if packet.fragment {
        because.push(Reason::Fragment.with("it is a fragment; the netfilter rules see it reassembled"));
        return Action::Pass;
    }
    if let Some(action) = memory.flows.get(&packet.flow()).and_then(|flow| under_way(table, packet, flow, because)) {
        return action;
    }
    let Some(claim) = Claimed::find(table, packet) else {
        because.push(
            Reason::NotClaimed
                .with(format_args!("{}/{} is no claimed frontend of this node", packet.destination, packet.protocol)),
        );
        return Action::Pass;
    };
    because.push(Reason::Claimed.with(format_args!(
        "{} belongs to {}, claimed in mode {}",
        claim.front.frontend,
        claim.key,
        claim.entry.mode.as_str()
    )));
    if let Some(range) = table.pod_ranges.iter().find(|range| range.contains(&packet.source.ip())) {
        because.push(
            Reason::FromCluster.with(format_args!("its source {} lies in the Pod range {range}", packet.source.ip())),
        );
        return Action::Pass;
    }
    if packet.protocol != Protocol::Udp && !packet.opening {
        because.push(Reason::MidFlow.with("it opens no connection and belongs to none of ours: kube-proxy may own it"));
        return Action::Pass;
    }
    let action = claim.new_flow(packet, memory, because);
    match claim.entry.mode {
        ClaimedMode::Observe => {
            because.push(Reason::Observed.with("mode Observe counts what would be done and touches nothing"));
            Action::Observe { would: Box::new(action) }
        }
        ClaimedMode::Local | ClaimedMode::Balance => action,
    }
}

/// What becomes of a packet whose flow is remembered; `None` if the flow is forgotten and the packet is as the first of
/// a new one.
fn under_way(table: &ForwardingTable, packet: &Packet, flow: &Flow, because: &mut Vec<Because>) -> Option<Action> {
    let Flow { service, pod } = flow;
    let keeps = table.services.get(service).map(|entry| entry.keeps(packet.protocol, *pod));
    match keeps {
        None => because.push(Reason::FlowOfLeft.with(format_args!(
            "the flow goes to {pod} of {service}; that this node no longer claims the Service ends no flow"
        ))),
        Some(true) => because.push(Reason::FlowKept.with(format_args!("the flow goes to {pod} of {service}"))),
        Some(false) if packet.protocol == Protocol::Udp || packet.opening => {
            because.push(
                Reason::FlowForgotten
                    .with(format_args!("the flow went to {pod}, which {service} no longer has here: it is forgotten")),
            );
            return None;
        }
        Some(false) => {
            because.push(
                Reason::FlowReset.with(format_args!(
                    "the flow went to {pod}, which {service} no longer has here: its client is told"
                )),
            );
            return Some(Action::Reset);
        }
    }
    Some(Action::Deliver { candidates: vec![Target { hop: Hop::Pod(*pod), weight: 1 }] })
}

/// A frontend with everything that decides about it.
struct Claimed<'a> {
    key: &'a ServiceKey,
    entry: &'a ServiceEntry,
    port: &'a PortEntry,
    front: &'a FrontendEntry,
}

impl<'a> Claimed<'a> {
    /// The frontend that the packet is for: one with its destination as address before one with any of the node's.
    fn find(table: &'a ForwardingTable, packet: &Packet) -> Option<Self> {
        let host = packet.destination.ip();
        let at = |wanted: FrontendHost| {
            let all = table.services.iter().flat_map(|(key, entry)| {
                let fronts = |port: &'a PortEntry| port.frontends.iter().map(move |front| (port, front));
                entry.ports.iter().flat_map(fronts).map(move |(port, front)| Self { key, entry, port, front })
            });
            let mut fitting = all.filter(move |claim| {
                let frontend = claim.front.frontend;
                frontend.host == wanted
                    && frontend.port == packet.destination.port()
                    && frontend.protocol == packet.protocol
            });
            fitting.next()
        };
        let on_node = || {
            let own = table.node_addresses.contains(&host);
            own.then(|| at(FrontendHost::NodePort(Family::of(host)))).flatten()
        };
        at(FrontendHost::Address(host)).or_else(on_node)
    }

    fn new_flow(&self, packet: &Packet, memory: &Memory, because: &mut Vec<Because>) -> Action {
        if let Some(asked) = self.ask_source(packet.source.ip()) {
            let refused = asked.reason == Reason::SourceRefused;
            because.push(asked);
            if refused {
                return Action::Drop;
            }
        }
        because.push(standing(self.entry, self.port));
        let action = new_flow(self.entry, self.port);
        let Action::Deliver { candidates } = &action else { return action };
        match self.ask_affinity(candidates, packet, memory) {
            Some((bound, reason)) => {
                because.push(reason);
                bound.map_or(action, |bound| Action::Deliver { candidates: vec![bound] })
            }
            None => action,
        }
    }

    /// The source filter's answer; `None` where it is not asked.
    fn ask_source(&self, source: IpAddr) -> Option<Because> {
        let SourceFilter::Only { ranges, own_address } = self.entry.sources.get(self.port.family) else { return None };
        if !self.front.guarded {
            return None;
        }
        let own = |front: &FrontendEntry| {
            front.kind == FrontendKind::LoadBalancer && front.frontend.host == FrontendHost::Address(source)
        };
        Some(if let Some(range) = ranges.iter().find(|range| range.contains(&source)) {
            Reason::SourceInRange.with(format_args!("its source {source} lies in the accepted range {range}"))
        } else if *own_address && self.entry.frontends().any(own) {
            Reason::SourceIsOwn.with(format_args!(
                "its source {source} is a load balancer address of the Service, and this node lies in an accepted range"
            ))
        } else {
            Reason::SourceRefused.with(format_args!("its source {source} lies in no accepted range: dropped"))
        })
    }

    /// The Pod that the client is bound to, if that is still a candidate; `None` where there is no binding to speak of.
    fn ask_affinity(
        &self,
        candidates: &[Target],
        packet: &Packet,
        memory: &Memory,
    ) -> Option<(Option<Target>, Because)> {
        let seconds = self.entry.affinity_seconds?;
        let client = packet.source.ip();
        let key = AffinityKey {
            service: self.key.clone(),
            port: self.port.name.clone(),
            protocol: self.port.protocol,
            client,
        };
        let Bound { pod, last } = memory.clients.get(&key)?;
        let age = memory.now.saturating_sub(*last);
        if age > u64::from(seconds) {
            let text = format_args!("the client {client} was bound to {pod} {age} s ago, longer than {seconds} s");
            return Some((None, Reason::AffinityExpired.with(text)));
        }
        let target = candidates.iter().find(|target| target.hop == Hop::Pod(*pod)).copied();
        Some((
            target,
            match target {
                Some(_) => Reason::AffinityKept.with(format_args!("the client {client} is bound to {pod}")),
                None => Reason::AffinityLost
                    .with(format_args!("the client {client} was bound to {pod}, which takes no new flows")),
            },
        ))
    }
}

/// What becomes of a new flow from an accepted source, before affinity.
pub(crate) fn new_flow(entry: &ServiceEntry, port: &PortEntry) -> Action {
    match port.standing {
        Standing::LocalReady | Standing::LocalDraining => Action::Deliver { candidates: port.targets.clone() },
        Standing::Elsewhere => match entry.on_no_local {
            OnNoLocal::Drop => Action::Drop,
            OnNoLocal::Reject => Action::Reject,
            OnNoLocal::Passthrough => Action::Pass,
            OnNoLocal::Forward => Action::Forward,
        },
        Standing::Nowhere => Action::Reject,
    }
}

/// Why that becomes of it.
pub(crate) fn standing(entry: &ServiceEntry, port: &PortEntry) -> Because {
    let pods = || {
        let pods: Vec<String> = port.targets.iter().map(|target| target.hop.to_string()).collect();
        pods.join(", ")
    };
    match (port.standing, entry.on_no_local) {
        (Standing::LocalReady, _) => {
            Reason::LocalReady.with(format_args!("new flows go to Pods of this node: {}", pods()))
        }
        (Standing::LocalDraining, _) => Reason::LocalDraining.with(format_args!(
            "new flows go to Pods of this node that are terminating, since none is ready: {}",
            pods()
        )),
        (Standing::Elsewhere, OnNoLocal::Drop) => {
            Reason::NoLocalDrop.with("no Pod here, some elsewhere: new flows are dropped")
        }
        (Standing::Elsewhere, OnNoLocal::Reject) => {
            Reason::NoLocalReject.with("no Pod here, some elsewhere: new flows are rejected")
        }
        (Standing::Elsewhere, OnNoLocal::Passthrough) => {
            Reason::NoLocalPassthrough.with("no Pod here, some elsewhere: new flows are left to kube-proxy")
        }
        (Standing::Elsewhere, OnNoLocal::Forward) => {
            Reason::NoLocalForward.with("no Pod here, some elsewhere: new flows are for another node")
        }
        (Standing::Nowhere, _) => Reason::Nowhere.with("no Pod anywhere: new flows are rejected"),
    }
}

#[cfg(test)]
mod tests;
