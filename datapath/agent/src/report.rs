//! What NodeDatapath says. Pure: from facts to a report, and from the object that is there to the one that should be.

use crate::choose::{self, cut};
use crate::program::{Meanwhile, Standing};
use crate::state::{State, ThisNode};
use crate::uplinks::{self, Dump};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Resource as _;
use portreeve_crds::condition::{self, Desired, programmed};
use portreeve_crds::node_datapath::{BackendStatus, Kernel, NodeDatapathStatus, TableCounts, Uplink};
use portreeve_crds::{NodeDatapath, NodeDatapathSpec};
use portreeve_table::{BackendKind, Counts, Probe};

/// Longest error that the schema takes, in characters.
const MAX_ERROR: usize = 1024;

/// What was found out about the node itself.
#[derive(Debug)]
pub(crate) struct Facts {
    /// `uname -r`.
    pub(crate) kernel: String,
    /// What each engine found, best first.
    pub(crate) probes: Vec<Probe>,
    /// The interfaces, or why they are not known.
    pub(crate) links: Result<Dump, String>,
    /// Why kube-proxy answers the health checks of Services that are claimed, if it does.
    pub(crate) health_checks: Option<String>,
    /// What is left over beside a table that is in force.
    pub(crate) lingering: Option<String>,
}

/// What the agent has to say of its node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Report {
    node: ThisNode,
    /// Without conditions and generation, which depend on the object that is there.
    status: NodeDatapathStatus,
    conditions: Vec<Desired>,
}

/// The report, once this node has been seen: without it nobody would own the object.
pub(crate) fn report(state: &State, facts: &Facts, standing: &Standing) -> Option<Report> {
    let node = state.node()?;
    let config = state.config();
    let backend = choose::choose(config.backend, &facts.probes);
    let (uplinks, links_error) = match &facts.links {
        Ok(dump) => (uplinks::select(dump, &node.internal, config.uplinks.as_deref()), None),
        Err(error) => (Vec::new(), Some(error.as_str())),
    };
    let conditions = conditions(state, &backend, &uplinks, standing);
    let status = NodeDatapathStatus {
        agent_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        kernel: Some(Kernel { release: facts.kernel.clone(), features: choose::features(&facts.probes) }),
        backend: Some(backend),
        uplinks,
        services: Some(counts(state.compiled().counts)),
        last_error: last_error(state, links_error, standing, facts),
        ..NodeDatapathStatus::default()
    };
    Some(Report { node: node.clone(), status, conditions })
}

fn conditions(state: &State, backend: &BackendStatus, uplinks: &[Uplink], standing: &Standing) -> Vec<Desired> {
    let waiting: Vec<&str> = state.waiting_for().into_iter().map(|kind| kind.as_str()).collect();
    let message = format!("waiting for the first list of {}", waiting.join(", "));
    let (ready, reconciling, stalled) = if !waiting.is_empty() {
        (
            Desired::no(condition::READY, "Syncing", message.clone()),
            Desired::yes(condition::RECONCILING, "Syncing", message),
            Desired::no(condition::STALLED, "Syncing", "the first lists are under way"),
        )
    } else if backend.chosen.is_none() {
        let idle = "nothing is under way until the node or DatapathConfig changes";
        (
            Desired::no(condition::READY, "BackendUnusable", backend.reason.clone()),
            Desired::no(condition::RECONCILING, "BackendUnusable", idle),
            Desired::yes(condition::STALLED, "BackendUnusable", backend.reason.clone()),
        )
    } else if uplinks.is_empty() {
        let why =
            "no interface is an uplink: none holds the node's InternalIP or a default route, or fits DatapathConfig";
        (
            Desired::no(condition::READY, "NoUplink", why),
            Desired::no(condition::RECONCILING, "NoUplink", "nothing is under way until the node's interfaces change"),
            Desired::yes(condition::STALLED, "NoUplink", why),
        )
    } else if let Standing::Failed { why, .. } = standing {
        (
            Desired::no(condition::READY, programmed::FAILED, why.clone()),
            Desired::yes(
                condition::RECONCILING,
                programmed::FAILED,
                "it is tried again, at longer and longer intervals",
            ),
            Desired::no(condition::STALLED, programmed::FAILED, "it is tried again"),
        )
    } else {
        (
            Desired::yes(condition::READY, "InStep", "every watch is synced and every claimed Service is compiled"),
            Desired::no(condition::RECONCILING, "InStep", "nothing is under way"),
            Desired::no(condition::STALLED, "InStep", "nothing is in the way"),
        )
    };
    vec![ready, in_force(state, standing), reconciling, stalled]
}

/// Whether the kernel does what the table says, and what of the wishes this engine cannot do.
fn in_force(state: &State, standing: &Standing) -> Desired {
    let kind = match standing {
        Standing::NotYet => {
            let why = "nothing is programmed yet; kube-proxy serves all traffic of this node";
            return Desired::no(condition::PROGRAMMED, programmed::NOT_YET, why);
        }
        Standing::Failed { why, meanwhile, .. } => {
            let why = why.clone();
            return match meanwhile {
                Meanwhile::Unknown => Desired::no(condition::PROGRAMMED, programmed::FAILED, why),
                Meanwhile::Nothing => Desired::no(condition::PROGRAMMED, programmed::LEFT, why),
                Meanwhile::Former(kind) => {
                    let message = format!("{kind} does what the table says until its successor can: {why}");
                    Desired::yes(condition::PROGRAMMED, programmed::BY_FORMER, message)
                }
            };
        }
        Standing::InStep(kind) => *kind,
    };
    let wishes = kind != BackendKind::Ebpf;
    let beyond: Vec<_> =
        state.compiled().table.services.iter().filter(|(_, entry)| wishes && entry.hands_over()).collect();
    let Some((first, _)) = beyond.first() else {
        let message = format!("{kind} does what the table says for every claimed Service");
        return Desired::yes(condition::PROGRAMMED, programmed::IN_FORCE, message);
    };
    let message = format!(
        "flows of {} should be handed to other nodes, which {kind} cannot do: mode Balance works as Local there, and \
         onNoLocal Forward as Passthrough; first {first}",
        services(beyond.len())
    );
    Desired::yes(condition::PROGRAMMED, programmed::IN_FORCE_IN_PART, message)
}

fn counts(counts: Counts) -> TableCounts {
    let number = |count| i32::try_from(count).unwrap_or(i32::MAX);
    TableCounts {
        seen: number(counts.seen),
        claimed: number(counts.claimed),
        refused: number(counts.refused),
        frontends: number(counts.frontends),
        local_backends: number(counts.ready_backends),
    }
}

/// What is wrong, the gravest first; several of a sort are counted and the first is named.
fn last_error(state: &State, links: Option<&str>, standing: &Standing, facts: &Facts) -> Option<String> {
    let watches =
        state.failing().iter().next().map(|(kind, error)| format!("watch of {} fails: {error}", kind.as_str()));
    let links = links.map(|error| format!("interfaces are not known: {error}"));
    let bad = state.bad().iter().next().map(|((kind, name), why)| {
        format!("{} cannot be read, first {} {name}: {why}", objects(state.bad().len()), kind.as_str())
    });
    let refused = &state.compiled().refused;
    let refused =
        refused.iter().next().map(|(key, why)| format!("{} refused, first {key}: {why}", services(refused.len())));
    let failed = match standing {
        Standing::Failed { why, .. } => Some(format!("not programmed: {why}")),
        Standing::NotYet | Standing::InStep(_) => None,
    };
    let checks = facts.health_checks.as_ref().map(|why| format!("health checks are left to kube-proxy: {why}"));
    let lingering = facts.lingering.clone();
    let all: Vec<String> = [failed, lingering, watches, links, bad, refused, checks].into_iter().flatten().collect();
    (!all.is_empty()).then(|| cut(all.join("; "), MAX_ERROR))
}

fn objects(number: usize) -> String {
    if number == 1 { "1 object".to_owned() } else { format!("{number} objects") }
}

fn services(number: usize) -> String {
    if number == 1 { "1 Service".to_owned() } else { format!("{number} Services") }
}

impl Report {
    /// The object without its status, owned by the Node, so that it goes when the node goes.
    pub(crate) fn object(&self) -> NodeDatapath {
        let mut object = NodeDatapath::new(&self.node.name, NodeDatapathSpec { node_name: self.node.name.clone() });
        object.meta_mut().owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.node.name.clone(),
            uid: self.node.uid.clone(),
            ..OwnerReference::default()
        }]);
        object
    }

    /// Whether `there` is this node's object as [`Report::object`] makes it, apart from its status.
    pub(crate) fn owns(&self, there: &NodeDatapath) -> bool {
        let owned = there.metadata.owner_references.iter().flatten().any(|owner| owner.uid == self.node.uid);
        owned && there.spec.node_name == self.node.name
    }

    /// The status that `there` should have. Equal to the one it has when nothing is new.
    pub(crate) fn status(&self, there: &NodeDatapath, now: Timestamp) -> NodeDatapathStatus {
        let current = there.status.as_ref().map_or(&[][..], |status| &status.conditions);
        let generation = there.metadata.generation;
        NodeDatapathStatus {
            observed_generation: generation,
            conditions: condition::merge(current, &self.conditions, generation, now),
            ..self.status.clone()
        }
    }

    /// Whether only numbers differ from `other`: they may wait, so that a rollout is not a write per Pod and node.
    pub(crate) fn differs_in_numbers_only(&self, other: &Self) -> bool {
        let without = |report: &Self| Self {
            status: NodeDatapathStatus { services: None, ..report.status.clone() },
            ..report.clone()
        };
        self != other && without(self) == without(other)
    }

    pub(crate) fn node_name(&self) -> &str {
        &self.node.name
    }
}

#[cfg(test)]
mod tests;
