//! What the agent says in Events: of its node that programming fails, works again, or had to be repaired, and that Services
//! do not fit; of a Service that it does not fit.
//!
//! Every node claims the same Services, so what one has to say of a Service a thousand may have. That a Service is claimed or
//! released is no Event at all; that it does not fit is said on the Service by [`SPEAKERS`] nodes, which all nodes choose
//! alike, and on each node by one Event for all such Services, once a minute at most.

use crate::metrics::AgentMetrics;
use crate::program::Standing;
use crate::state::State;
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use kube::{Api, Client, ResourceExt as _};
use portreeve_runtime::events::{EventReason, Recorder};
use portreeve_table::ServiceKey;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Nodes that speak of a Service that does not fit: one may be away.
const SPEAKERS: usize = 3;
/// Services of which is spoken one by one at a time; the others are counted on the node.
const ONE_BY_ONE: usize = 100;
/// Least time between two Events that count Services that do not fit.
const REST: Duration = Duration::from_secs(60);
/// Failures in a row after which programming is said to fail: a second and a half after the first.
const FAILURES: u32 = 5;
/// Events on their way to the API; what does not fit is dropped and counted.
const WAITING: usize = 256;

/// Why an Event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    ServiceRefused,
    ServicesRefused,
    DataPathFailed,
    DataPathRestored,
    RulesRepaired,
}

impl EventReason for Reason {
    fn reason(&self) -> &'static str {
        match self {
            Self::ServiceRefused => "ServiceRefused",
            Self::ServicesRefused => "ServicesRefused",
            Self::DataPathFailed => "DataPathFailed",
            Self::DataPathRestored => "DataPathRestored",
            Self::RulesRepaired => "RulesRepaired",
        }
    }

    fn action(&self) -> &'static str {
        match self {
            Self::ServiceRefused | Self::ServicesRefused => "Claim",
            Self::DataPathFailed | Self::DataPathRestored | Self::RulesRepaired => "Program",
        }
    }

    fn warns(&self) -> bool {
        !matches!(self, Self::DataPathRestored)
    }
}

/// What an Event is about.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum About {
    Node(ObjectReference),
    Service(ServiceKey),
}

/// One Event to write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notice {
    pub(crate) about: About,
    pub(crate) reason: Reason,
    pub(crate) note: String,
}

/// What there is to say, and what was said.
#[derive(Debug)]
pub(crate) struct Notices {
    to_tell: mpsc::Sender<Notice>,
    metrics: AgentMetrics,
    /// Services that do not fit, of which nothing was said yet.
    refused: BTreeSet<ServiceKey>,
    counted: Option<Instant>,
    /// It was said that programming fails.
    failing: bool,
    /// Others' changes were found, and are not made good yet.
    disturbed: bool,
}

impl Notices {
    /// With the other end of the channel.
    pub(crate) fn new(metrics: AgentMetrics) -> (Self, mpsc::Receiver<Notice>) {
        let (to_tell, told) = mpsc::channel(WAITING);
        let (refused, counted) = (BTreeSet::new(), None);
        (Self { to_tell, metrics, refused, counted, failing: false, disturbed: false }, told)
    }

    /// Services that were not refused before.
    pub(crate) fn refused(&mut self, services: &BTreeSet<ServiceKey>) {
        self.refused.extend(services.iter().cloned());
    }

    /// Others' changes were found.
    pub(crate) const fn disturbed(&mut self) {
        self.disturbed = true;
    }

    /// Says what there is to say by now.
    pub(crate) fn say(&mut self, state: &State, standing: &Standing, now: Instant) {
        let Some(node) = state.node() else { return };
        let own = About::Node(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.name.clone()),
            uid: Some(node.uid.clone()),
            ..ObjectReference::default()
        });
        self.of_programming(&own, standing);
        // Before the first lists are complete it is not known who is older than whom.
        if state.waiting_for().is_empty() {
            self.of_refusals(&own, state, &node.name, now);
        }
    }

    fn of_programming(&mut self, own: &About, standing: &Standing) {
        match standing {
            Standing::Failed { why, failures, .. } if *failures >= FAILURES && !self.failing => {
                self.failing = true;
                let note = format!(
                    "the kernel may not do what is wanted: {why}. What was in force stays, and it is tried again; \
                     kubectl portreeve diff --node tells what is missing"
                );
                self.tell(own, Reason::DataPathFailed, note);
            }
            Standing::InStep(kind) => {
                if std::mem::take(&mut self.failing) {
                    let note = format!("{kind} does again what the table says for every claimed Service");
                    self.tell(own, Reason::DataPathRestored, note);
                }
                if std::mem::take(&mut self.disturbed) {
                    let note = "somebody else changed the agent's rules, and they were made good; if it happens again \
                                and again, find out who does it: portreeve_agent_repairs_total counts";
                    self.tell(own, Reason::RulesRepaired, note.to_owned());
                }
            }
            Standing::Failed { .. } | Standing::NotYet => {}
        }
    }

    fn of_refusals(&mut self, own: &About, state: &State, node: &str, now: Instant) {
        let all = &state.compiled().refused;
        self.refused.retain(|key| all.contains_key(key));
        let early = self.counted.is_some_and(|at| now.saturating_duration_since(at) < REST);
        let Some((first, why)) = all.iter().next().filter(|_| !early && !self.refused.is_empty()) else { return };
        self.counted = Some(now);
        let number = if all.len() == 1 { "1 Service is".to_owned() } else { format!("{} Services are", all.len()) };
        let note = format!("{number} left to kube-proxy, first {first}: {why}. {REMEDY}");
        self.tell(own, Reason::ServicesRefused, note);
        for key in std::mem::take(&mut self.refused).into_iter().take(ONE_BY_ONE) {
            if let Some(why) = all.get(&key).filter(|_| speaks(&key, node, state.nodes())) {
                let note = format!("node {node}, and perhaps others, leaves it to kube-proxy: {why}. {REMEDY}");
                self.tell(&About::Service(key), Reason::ServiceRefused, note);
            }
        }
    }

    fn tell(&self, about: &About, reason: Reason, note: String) {
        if self.to_tell.try_send(Notice { about: about.clone(), reason, note }).is_err() {
            self.metrics.event_dropped();
        }
    }
}

/// What can be done about a Service that does not fit.
const REMEDY: &str = "Raise spec.capacity of the DatapathConfig, let fewer Services have the data path, or give it a \
                      frontend of its own";

/// Whether `node` is among the [`SPEAKERS`] for a Service: those of `nodes` with the lowest hashes.
fn speaks<'a>(service: &ServiceKey, node: &str, nodes: impl Iterator<Item = &'a str>) -> bool {
    let rank = |node: &str| {
        let text = [&*service.namespace, "/", &*service.name, "/", node];
        // FNV-1a: the same in every agent, of whatever version.
        let hash = text
            .iter()
            .flat_map(|text| text.bytes())
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        // Its last steps alone mix the last bytes of a name too little.
        (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    let own = rank(node);
    nodes.filter(|other| *other != node && rank(other) < own).take(SPEAKERS).count() < SPEAKERS
}

/// Writes what is told until `stop` falls.
pub(crate) async fn run(client: Client, recorder: Recorder, mut told: mpsc::Receiver<Notice>, stop: CancellationToken) {
    let write = async {
        while let Some(Notice { about, reason, note }) = told.recv().await {
            let regarding = match about {
                About::Node(node) => node,
                About::Service(key) => match reference(&client, &key).await {
                    Ok(Some(service)) => service,
                    Ok(None) => continue,
                    Err(error) => {
                        tracing::warn!(error = %error, service = %key, "No Event: the Service cannot be read");
                        continue;
                    }
                },
            };
            recorder.say(&regarding, &reason, &note).await;
        }
    };
    stop.run_until_cancelled(write).await;
}

/// A Service by its uid, without which `kubectl describe` does not find its Events; nothing if it is gone.
async fn reference(client: &Client, key: &ServiceKey) -> Result<Option<ObjectReference>, kube::Error> {
    let found = Api::<Service>::namespaced(client.clone(), &key.namespace).get_metadata_opt(&key.name).await?;
    Ok(found.map(|service| ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Service".to_owned()),
        namespace: Some(key.namespace.to_string()),
        name: Some(key.name.to_string()),
        uid: service.uid(),
        ..ObjectReference::default()
    }))
}

#[cfg(test)]
mod tests;
