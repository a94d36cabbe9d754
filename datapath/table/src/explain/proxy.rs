//! What kube-proxy does with a new flow that is left to it, as far as the inputs tell: its rules of the iptables and nftables
//! modes, which agree but where a step says that they do not. What depends on its configuration is not guessed.

use super::answer::{Outcome, ProxyVerdict, SeenClient, Step};
use crate::compile::{frontends, source_filter};
use crate::endpoints::{self, Selected};
use crate::input::{Directive, Input, PortInput, ServiceInput, SliceInput};
use crate::key::{Family, ServiceKey};
use crate::oracle::{Arrival, Packet};
use crate::table::{Frontend, FrontendEntry, FrontendHost, FrontendKind, Hop, SourceFilter, Standing, Target};
use std::collections::{BTreeMap, BTreeSet};

/// One step of kube-proxy's way, or of the way to kube-proxy. Numbers are stable, as those of [`Reason`](crate::Reason) are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ProxyReason {
    /// The Service is not claimed.
    Unclaimed = 100,
    /// The Service is claimed and was refused.
    Refused = 101,
    /// The node has programmed nothing.
    NotProgrammed = 102,
    /// It is not known whether the node has programmed anything.
    PerhapsProgrammed = 103,
    /// `onNoLocal: Forward` where the engine cannot.
    NoHandOver = 104,
    /// `externalTrafficPolicy: Cluster`.
    Cluster = 110,
    /// `externalTrafficPolicy: Local`.
    Local = 111,
    /// `Local`, and the client is a process of this node: as under `Cluster`.
    FromNode = 112,
    /// `Local`, and the client is a Pod of this node: as under `Cluster`, without hiding its address.
    FromLocalPod = 113,
    /// `Local`, and the client is a Pod of another node.
    FromOtherPod = 114,
    /// `loadBalancerSourceRanges` has the source.
    SourceInRange = 120,
    /// The source is a load balancer address of the Service, accepted for the node itself.
    SourceIsOwn = 121,
    /// `loadBalancerSourceRanges` does not have the source.
    SourceRefused = 122,
    /// Ready Pods.
    Ready = 130,
    /// Only Pods that are terminating, which serve (KEP-1669).
    Draining = 131,
    /// None on this node, some elsewhere.
    NoLocal = 132,
    /// None anywhere.
    Nowhere = 133,
    /// Another Service has the same frontend.
    Shared = 140,
    /// Another service proxy has the Service.
    OtherProxy = 141,
}

impl ProxyReason {
    /// Every reason, by number.
    pub const ALL: [Self; 19] = [
        Self::Unclaimed,
        Self::Refused,
        Self::NotProgrammed,
        Self::PerhapsProgrammed,
        Self::NoHandOver,
        Self::Cluster,
        Self::Local,
        Self::FromNode,
        Self::FromLocalPod,
        Self::FromOtherPod,
        Self::SourceInRange,
        Self::SourceIsOwn,
        Self::SourceRefused,
        Self::Ready,
        Self::Draining,
        Self::NoLocal,
        Self::Nowhere,
        Self::Shared,
        Self::OtherProxy,
    ];

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }
}

/// Which endpoints are asked.
#[derive(Clone, Copy)]
enum Scope {
    /// Those of all nodes.
    Cluster(SeenClient),
    /// Those of this node.
    Local,
}

/// A flow that is left to kube-proxy.
pub(super) struct Left<'a> {
    pub(super) input: &'a Input,
    pub(super) key: &'a ServiceKey,
    pub(super) service: &'a ServiceInput,
    pub(super) port: &'a PortInput,
    pub(super) front: &'a FrontendEntry,
    pub(super) packet: &'a Packet,
}

impl Left<'_> {
    /// The order of the questions is that of kube-proxy's chains.
    pub(super) fn verdict(&self) -> ProxyVerdict {
        let mut steps = Vec::new();
        let outcome = self.decide(&mut steps);
        ProxyVerdict { outcome, steps }
    }

    fn decide(&self, steps: &mut Vec<Step>) -> Outcome {
        if self.service.other_proxy {
            steps.push(ProxyReason::OtherProxy.with(
                "kube-proxy passes over Services with the label service.kubernetes.io/service-proxy-name; what the proxy \
                 that it names does is not known",
            ));
            return Outcome::Depends;
        }
        if let Some(rival) = self.rival() {
            steps.push(ProxyReason::Shared.with(format_args!(
                "{rival} has {} too: kube-proxy serves one of the two, and does not promise which",
                self.front.frontend
            )));
            return Outcome::Depends;
        }
        if let Some((asked, refused)) = self.ask_source() {
            steps.push(asked);
            if refused {
                return self.refused(steps);
            }
        }
        if !self.service.external_local {
            steps.push(ProxyReason::Cluster.with(
                "externalTrafficPolicy Cluster: a Pod of any node, which sees the address of this node as its client's",
            ));
            return self.select(Scope::Cluster(SeenClient::Node), steps);
        }
        match self.packet.arrival {
            Arrival::Node => {
                steps.push(ProxyReason::FromNode.with(
                    "the client is this node: even under Local a Pod of any node, which sees this node's address",
                ));
                self.select(Scope::Cluster(SeenClient::Node), steps)
            }
            Arrival::LocalPod => {
                steps.push(ProxyReason::FromLocalPod.with(
                    "the client is a Pod of this node: even under Local a Pod of any node, which sees its address",
                ));
                self.select(Scope::Cluster(SeenClient::Itself), steps)
            }
            Arrival::Uplink if self.is_from_a_pod() => self.as_of_other_pod(steps),
            Arrival::Uplink => {
                steps.push(
                    ProxyReason::Local
                        .with("externalTrafficPolicy Local: only Pods of this node, which see the client's address"),
                );
                self.select(Scope::Local, steps)
            }
        }
    }

    fn is_from_a_pod(&self) -> bool {
        self.input.pod_ranges.iter().any(|range| range.contains(&self.packet.source.ip()))
    }

    /// A Pod of another node that arrives with its own address: whether kube-proxy takes it for one of the cluster is
    /// told by `--detect-local-mode`, which no object of the API holds.
    fn as_of_other_pod(&self, steps: &mut Vec<Step>) -> Outcome {
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        let as_inside = self.select(Scope::Cluster(SeenClient::Itself), &mut inside);
        let as_outside = self.select(Scope::Local, &mut outside);
        let same = as_inside == as_outside;
        let text = "the client is a Pod of another node: with --detect-local-mode ClusterCIDR kube-proxy draws from the \
                    Pods of all nodes even under Local, with any other from those of this node";
        if same {
            steps.push(ProxyReason::FromOtherPod.with(format_args!("{text}, which comes to the same here")));
            steps.append(&mut outside);
            return as_outside;
        }
        steps.push(ProxyReason::FromOtherPod.with(text));
        Outcome::Depends
    }

    /// The first other Service with this frontend.
    fn rival(&self) -> Option<&ServiceKey> {
        let Frontend { host, port, protocol } = self.front.frontend;
        let family = match host {
            FrontendHost::Address(address) => Family::of(address),
            FrontendHost::NodePort(family) => family,
        };
        let others = self.input.services.iter().filter(|(key, service)| {
            *key != self.key && !service.other_proxy && service.is_external() && service.serves(family)
        });
        let mut having = others.filter(|(_, service)| {
            let near = service
                .ports
                .iter()
                .filter(|have| have.protocol == protocol && (have.port == port || have.node_port == Some(port)));
            near.flat_map(|have| frontends(service, have, family, &Directive::default(), &mut BTreeSet::new()))
                .any(|entry| entry.frontend == self.front.frontend)
        });
        having.next().map(|(key, _)| key)
    }

    /// The source filter's answer and whether it refuses; `None` where it is not asked.
    fn ask_source(&self) -> Option<(Step, bool)> {
        if self.front.kind != FrontendKind::LoadBalancer {
            return None;
        }
        let source = self.packet.source.ip();
        let filter = source_filter(self.service, Family::of(source), &self.input.this_node);
        let SourceFilter::Only { ranges, own_address } = filter else { return None };
        Some(if let Some(range) = ranges.iter().find(|range| range.contains(&source)) {
            let text = format_args!("{source} lies in {range} of loadBalancerSourceRanges").to_string();
            (ProxyReason::SourceInRange.with(text), false)
        } else if own_address && self.service.load_balancer.contains(&source) {
            let text = "the source is a load balancer address of the Service, accepted since this node lies in one of \
                        loadBalancerSourceRanges";
            (ProxyReason::SourceIsOwn.with(text), false)
        } else {
            let text = format_args!("{source} lies in none of loadBalancerSourceRanges: dropped").to_string();
            (ProxyReason::SourceRefused.with(text), true)
        })
    }

    /// The modes disagree about a refused source where no Pod is anywhere: the iptables one then writes no filter.
    fn refused(&self, steps: &mut Vec<Step>) -> Outcome {
        let nowhere = self.local().standing == Standing::Nowhere;
        if nowhere {
            steps.push(ProxyReason::Nowhere.with(
                "no Pod anywhere: kube-proxy's iptables mode rejects without a look at the source, its nftables mode drops",
            ));
            return Outcome::Depends;
        }
        Outcome::Drop
    }

    fn select(&self, scope: Scope, steps: &mut Vec<Step>) -> Outcome {
        match scope {
            Scope::Local => self.select_local(steps),
            Scope::Cluster(client) => self.select_cluster(client, steps),
        }
    }

    fn select_local(&self, steps: &mut Vec<Step>) -> Outcome {
        let Selected { standing, targets, kept: _ } = self.local();
        let deliver = |pods| Outcome::Deliver { pods, client: SeenClient::Itself };
        match standing {
            Standing::LocalReady => {
                steps.push(ProxyReason::Ready.with(format_args!("ready Pods of this node: {}", list(&targets))));
                deliver(targets)
            }
            Standing::LocalDraining => {
                steps.push(ProxyReason::Draining.with(format_args!(
                    "no Pod of this node is ready; some are terminating and serve still: {}",
                    list(&targets)
                )));
                deliver(targets)
            }
            Standing::Elsewhere => {
                steps.push(ProxyReason::NoLocal.with("no Pod here, some elsewhere: dropped without an answer"));
                Outcome::Drop
            }
            Standing::Nowhere => self.nowhere(steps),
        }
    }

    fn select_cluster(&self, client: SeenClient, steps: &mut Vec<Step>) -> Outcome {
        let merged = endpoints::merge(self.slices(), self.port, self.family(), &self.input.this_node.name);
        let chosen = |wanted: &dyn Fn(&endpoints::Seen) -> bool| -> Vec<Target> {
            let fitting = merged.iter().filter(|(_, seen)| wanted(seen));
            fitting.map(|(address, _)| Target { hop: Hop::Pod(*address), weight: 1 }).collect()
        };
        let ready = chosen(&|seen| seen.ready);
        if !ready.is_empty() {
            steps.push(ProxyReason::Ready.with(format_args!("ready Pods of all nodes: {}", list(&ready))));
            return Outcome::Deliver { pods: ready, client };
        }
        let draining = chosen(&|seen| seen.draining);
        if !draining.is_empty() {
            steps.push(
                ProxyReason::Draining
                    .with(format_args!("no Pod is ready; some are terminating and serve still: {}", list(&draining))),
            );
            return Outcome::Deliver { pods: draining, client };
        }
        self.nowhere(steps)
    }

    /// kube-proxy writes the refusal for packets that are forwarded or received, not for those that the node sends.
    fn nowhere(&self, steps: &mut Vec<Step>) -> Outcome {
        if self.packet.arrival == Arrival::Node {
            steps.push(ProxyReason::Nowhere.with(
                "no Pod anywhere: packets of the node itself are not rejected, but go to whoever has the address",
            ));
            return Outcome::Depends;
        }
        steps.push(ProxyReason::Nowhere.with("no Pod anywhere: rejected"));
        Outcome::Reject
    }

    fn local(&self) -> Selected {
        endpoints::select(self.slices(), self.port, self.family(), &self.input.this_node.name)
    }

    fn slices(&self) -> impl Iterator<Item = &SliceInput> {
        self.input.slices.get(self.key).into_iter().flat_map(BTreeMap::values)
    }

    const fn family(&self) -> Family {
        Family::of(self.packet.source.ip())
    }
}

fn list(pods: &[Target]) -> String {
    let pods: Vec<String> = pods.iter().map(|target| target.hop.to_string()).collect();
    pods.join(", ")
}
