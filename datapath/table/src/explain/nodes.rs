//! What becomes of a client's new flows on one node, frontend by frontend: the oracle's answer and, where that leaves the
//! packet alone, kube-proxy's.

use super::answer::{Decider, Health, NodeAnswer, Outcome, SeenClient, Step, Way};
use super::proxy::{Left, ProxyReason};
use crate::claim::Claim;
use crate::compile::{Compiled, compile, frontends};
use crate::endpoints;
use crate::input::{Directive, Input, PortInput, ServiceInput, ServiceKind};
use crate::key::{Family, ServiceKey};
use crate::oracle::{Action, Arrival, Memory, Packet, Reason, oracle};
use crate::table::{FrontendEntry, FrontendHost};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

/// A question about new flows; the node is the [input's](Input::this_node).
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The Service.
    pub service: &'a ServiceKey,
    /// Who opens the flows.
    pub client: SocketAddr,
    /// Only flows to this address.
    pub to: Option<IpAddr>,
    /// Ranges of this node's own Pods.
    pub own_pods: &'a [IpNet],
    /// Whether this node's kernel does what the table says.
    pub in_force: InForce<'a>,
    /// Whether its engine can hand a flow to another node.
    pub hands_over: bool,
}

/// Whether a node's kernel does what the table says; where not, why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InForce<'a> {
    /// It does.
    Yes,
    /// It holds nothing of ours.
    No(&'a str),
    /// It may hold this table, an earlier one, or nothing.
    Perhaps(&'a str),
}

/// What this node does; `None` if there is no such Service.
#[must_use]
pub fn explain_node(input: &Input, question: &Question<'_>) -> Option<NodeAnswer> {
    let service = input.services.get(question.service)?;
    let compiled = compile(input);
    let family = Family::of(question.client.ip());
    let mut taken = BTreeSet::new();
    let mut ways = Vec::new();
    for (number, port) in service.ports.iter().enumerate().filter(|_| service.serves(family)) {
        for front in frontends(service, port, family, &Directive::default(), &mut taken) {
            if let Some(destination) = destination(input, question, &front, family) {
                let asked = Asked { input, compiled: &compiled, question, service, port };
                ways.push(asked.way(number, front, destination));
            }
        }
    }
    Some(NodeAnswer { health: health(input, question.service, service, family), ways })
}

/// Where the client sends to; `None` where the node has no address for it, or another one was asked for.
fn destination(input: &Input, question: &Question<'_>, front: &FrontendEntry, family: Family) -> Option<SocketAddr> {
    let wanted = |address: IpAddr| question.to.is_none_or(|to| to == address);
    let address = match front.frontend.host {
        FrontendHost::Address(address) => Some(address).filter(|address| wanted(*address)),
        FrontendHost::NodePort(_) => {
            let own = input.this_node.addresses.iter().copied().filter(|address| Family::of(*address) == family);
            own.into_iter().find(|address| wanted(*address))
        }
    };
    Some(SocketAddr::new(address?, front.frontend.port))
}

fn health(input: &Input, key: &ServiceKey, service: &ServiceInput, family: Family) -> Option<Health> {
    let serves = service.kind == ServiceKind::LoadBalancer && service.external_local && !service.other_proxy;
    let port = service.health_check_node_port.filter(|_| serves)?;
    let slices = input.slices.get(key).into_iter().flat_map(BTreeMap::values);
    Some(Health { port, ready: endpoints::local_ready(slices, family, &input.this_node.name) })
}

struct Asked<'a> {
    input: &'a Input,
    compiled: &'a Compiled,
    question: &'a Question<'a>,
    service: &'a ServiceInput,
    port: &'a PortInput,
}

impl Asked<'_> {
    fn way(&self, port: usize, front: FrontendEntry, destination: SocketAddr) -> Way {
        let packet = Packet {
            arrival: self.arrival(),
            protocol: self.port.protocol,
            source: self.question.client,
            destination,
            opening: true,
            fragment: false,
        };
        let table = oracle(&self.compiled.table, &packet, &Memory::default());
        let mut steps: Vec<Step> = table.because.iter().map(Step::from).collect();
        let decided = decided(&table.action, self.question.hands_over);
        if let (Some(outcome), InForce::Yes) = (&decided, self.question.in_force) {
            let outcome = outcome.clone();
            return Way { port, front, destination, table, proxy: None, decider: Decider::Portreeve, outcome, steps };
        }
        if let Some(why) = self.why_left(&table.action, decided.is_some()) {
            // "No claimed frontend" is all that the table knows of a Service that it does not hold.
            steps.retain(|step| step.number != Reason::NotClaimed.number());
            steps.push(why);
        }
        let Self { input, question, service, port: asked, .. } = *self;
        let left = Left { input, key: question.service, service, port: asked, front: &front, packet: &packet };
        let proxy = left.verdict();
        steps.extend(proxy.steps.iter().cloned());
        let (decider, outcome) = match decided {
            Some(decided) if matches!(question.in_force, InForce::Perhaps(_)) => {
                (Decider::Either, if decided == proxy.outcome { decided } else { Outcome::Depends })
            }
            _ if service.other_proxy => (Decider::OtherProxy, proxy.outcome.clone()),
            _ => (Decider::KubeProxy, proxy.outcome.clone()),
        };
        let proxy = Some(proxy);
        Way { port, front, destination, table, proxy, decider, outcome, steps }
    }

    fn arrival(&self) -> Arrival {
        let client = self.question.client.ip();
        if self.input.this_node.addresses.contains(&client) {
            Arrival::Node
        } else if self.question.own_pods.iter().any(|range| range.contains(&client)) {
            Arrival::LocalPod
        } else {
            Arrival::Uplink
        }
    }

    /// Why a packet comes, or may come, to kube-proxy that the table might have `decided`.
    fn why_left(&self, action: &Action, decided: bool) -> Option<Step> {
        let key = self.question.service;
        if *action == Action::Forward && !self.question.hands_over {
            let text = "this node's backend hands no flow to another node: Forward works as Passthrough";
            return Some(ProxyReason::NoHandOver.with(text));
        }
        match self.question.in_force {
            InForce::No(why) if decided => {
                let text = format_args!("the kernel of this node holds nothing of this: {why}").to_string();
                return Some(ProxyReason::NotProgrammed.with(text));
            }
            InForce::Perhaps(why) if decided => {
                let text = format_args!("whether the kernel of this node holds this is not known: {why}").to_string();
                return Some(ProxyReason::PerhapsProgrammed.with(text));
            }
            InForce::Yes | InForce::No(_) | InForce::Perhaps(_) => {}
        }
        if let Some(refusal) = self.compiled.refused.get(key) {
            return Some(ProxyReason::Refused.with(format_args!("{key} is left to kube-proxy: {refusal}")));
        }
        match self.compiled.claims.get(key)? {
            Claim::Left(reason) => {
                Some(ProxyReason::Unclaimed.with(format_args!("{key} is not claimed: {}", reason.sentence())))
            }
            Claim::Claimed(_) => None,
        }
    }
}

/// What the table makes of a new flow; `None` where it leaves it alone.
fn decided(action: &Action, hands_over: bool) -> Option<Outcome> {
    Some(match action {
        Action::Deliver { candidates } => Outcome::Deliver { pods: candidates.clone(), client: SeenClient::Itself },
        Action::Drop => Outcome::Drop,
        Action::Reject | Action::Reset => Outcome::Reject,
        Action::Forward if hands_over => Outcome::Forward,
        Action::Pass | Action::Forward | Action::Observe { .. } => return None,
    })
}

#[cfg(test)]
mod tests;
