//! Step 3, no client: the report that a Service should have.

use super::dereference::Live;
use super::material::{Verdict, verdict};
use super::notice;
use super::validate::Validated;
use crate::index::{StoredReport, StoredStatus};
use crate::key::Key;
use crate::notice::Notice;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use portreeve_crds::ServiceTraffic;
use portreeve_crds::condition::{self, Desired, READY, RECONCILING, STALLED};
use portreeve_crds::policy::ServiceType;
use portreeve_crds::service_traffic::{BALANCED, FindingSummary, LOCAL_READY, ServiceTrafficStatus};
use portreeve_policy::facts::ClusterFacts;
use portreeve_policy::imbalance::{LoadModel, imbalance, suggested_replicas};
use std::time::Duration;

/// Most nodes, policies and findings that a report names.
const MOST_NODES: usize = 32;
const MOST_POLICIES: usize = 16;
const MOST_FINDINGS: usize = 64;
/// Longest finding text, in characters, as the schema bounds it.
const LONGEST_MESSAGE: usize = 1024;

/// The clock, read once per pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// For times that people read.
    pub(crate) wall: Timestamp,
    /// For waiting: since the process's start.
    pub(crate) since_start: Duration,
}

/// What is to be written.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) key: Key,
    pub(crate) write: Write,
    /// Told as an Event once the write is done.
    pub(crate) notice: Option<Notice>,
}

/// One write, of the least kind that does.
#[derive(Debug)]
pub(crate) enum Write {
    /// The report does not exist: create it, then its status.
    Create(Box<ServiceTraffic>),
    /// Its directive changed: apply it, then the status.
    Directive(Box<ServiceTraffic>),
    /// Only the status changed.
    Status(Box<ServiceTraffic>),
    /// It should not exist.
    Delete { uid: Option<String> },
}

/// What the build step says.
#[derive(Debug)]
pub(crate) enum Built {
    /// Write this.
    Write(Prepared),
    /// Nothing is worth a write now; look again then.
    Later(Duration),
    /// Nothing to do.
    Settled,
}

/// `written` is when this process last wrote the report.
pub(crate) fn build(validated: Validated<'_>, written: Option<Duration>, now: Now) -> Built {
    let (key, live, report, cluster) = match validated {
        Validated::Nothing => return Built::Settled,
        Validated::Remove { key, uid } => {
            return Built::Write(Prepared { key, write: Write::Delete { uid }, notice: None });
        }
        Validated::Report { key, live, report, cluster } => (key, live, report, cluster),
    };
    let spec = live.assessed.effective.data_path.directive();
    let stored = report.and_then(|report| report.status.as_ref());
    let directive_changed = report.is_some_and(|report| report.spec != spec);
    // A changed directive raises the generation by one; the status written right after it speaks of that one.
    let generation = report.map_or(1, |report| report.generation.unwrap_or(1) + i64::from(directive_changed));
    let status = status(&live, cluster, stored, generation, now.wall);
    let notice = notice::between(live.service, stored, &status);
    let object = |report: Option<&StoredReport>| {
        Box::new(ServiceTraffic {
            metadata: ObjectMeta {
                resource_version: report.and_then(|report| report.version.as_deref().map(str::to_owned)),
                uid: report.and_then(|report| report.uid.as_deref().map(str::to_owned)),
                ..metadata(&key, &live)
            },
            spec: spec.clone(),
            status: Some(status.clone()),
        })
    };
    let write = match report {
        None => Write::Create(object(None)),
        Some(_) if directive_changed => Write::Directive(object(report)),
        Some(_) => match verdict(stored, &StoredStatus::of(&status), written, now.since_start) {
            Verdict::Same => return Built::Settled,
            Verdict::At(at) => return Built::Later(at),
            Verdict::Now => Write::Status(object(report)),
        },
    };
    Built::Write(Prepared { key, write, notice })
}

fn metadata(key: &Key, live: &Live<'_>) -> ObjectMeta {
    ObjectMeta {
        name: Some(key.name.clone()),
        namespace: Some(key.namespace.clone()),
        owner_references: Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Service".to_owned(),
            name: key.name.clone(),
            uid: live.service.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            // Deleting a Service never waits for its report.
            block_owner_deletion: None,
        }]),
        ..ObjectMeta::default()
    }
}

fn status(
    live: &Live<'_>,
    cluster: ClusterFacts,
    stored: Option<&StoredStatus>,
    generation: i64,
    now: Timestamp,
) -> ServiceTrafficStatus {
    let service = live.service.spec.as_ref();
    let effective = &live.assessed.effective;
    let limit = effective.max_ratio_permille.as_ref().map(|(limit, _)| *limit);
    let ready = live.endpoints.ready();
    let mut predicted = imbalance(&live.endpoints.ready_by_node, None, LoadModel::EvenNodes);
    if let Some(predicted) = &mut predicted {
        predicted.nodes.truncate(MOST_NODES);
        // Only where there is something to gain.
        let wanted = limit.filter(|limit| i64::from(predicted.ratio_permille) > i64::from(*limit));
        predicted.suggested_replicas = wanted
            .map(|limit| suggested_replicas(ready, cluster.nodes, limit).into_iter().map(clamp).collect())
            .unwrap_or_default();
    }
    let findings = live.assessed.outcome.findings.iter().take(MOST_FINDINGS).map(|finding| FindingSummary {
        rule: finding.rule,
        action: finding.action,
        field: capped(&finding.field, 256),
        message: capped(&finding.message(), LONGEST_MESSAGE),
    });
    let desired = conditions(ready, live.endpoints.active_nodes(), predicted.as_ref().map(|p| p.ratio_permille), limit);
    let transitions = stored.map(StoredStatus::conditions).unwrap_or_default();
    ServiceTrafficStatus {
        observed_generation: Some(generation),
        type_: service.and_then(|spec| service_type(spec.type_.as_deref())),
        external_traffic_policy: service.and_then(|spec| spec.external_traffic_policy.clone()),
        health_check_node_port: service.and_then(|spec| spec.health_check_node_port).filter(|port| *port != 0),
        ready_pods: Some(clamp(ready)),
        active_nodes: Some(clamp(live.endpoints.active_nodes())),
        imbalance: predicted,
        effective_policies: Some(effective.policies.iter().take(MOST_POLICIES).map(|policy| policy.short()).collect()),
        findings: Some(findings.collect()),
        conditions: condition::merge(&transitions, &desired, Some(generation), now),
    }
}

fn conditions(ready: u32, nodes: u32, ratio: Option<i32>, limit: Option<u32>) -> [Desired; 5] {
    let local_ready = if ready == 0 {
        Desired::no(LOCAL_READY, "NoReadyPods", "No ready Pod: every node drops the traffic.")
    } else {
        Desired::yes(LOCAL_READY, "PodsReady", format!("{ready} ready Pods on {nodes} nodes."))
    };
    let balanced = match (ratio, limit) {
        (None, _) => Desired::unknown(BALANCED, "NoReadyPods", "Without a ready Pod there is no ratio."),
        (Some(_), None) => Desired::unknown(BALANCED, "NoLimit", "No policy sets imbalance.maxRatioPermille."),
        (Some(ratio), Some(limit)) if i64::from(ratio) > i64::from(limit) => {
            Desired::no(BALANCED, "AboveLimit", format!("Ratio {ratio} ‰ is above the limit of {limit} ‰."))
        }
        (Some(ratio), Some(limit)) => {
            Desired::yes(BALANCED, "WithinLimit", format!("Ratio {ratio} ‰ is within the limit of {limit} ‰."))
        }
    };
    [
        local_ready,
        balanced,
        Desired::yes(READY, "Reported", "The report is up to date."),
        Desired::no(RECONCILING, "Settled", "Nothing is under way."),
        Desired::no(STALLED, "Settled", "Nothing stands in the way."),
    ]
}

fn service_type(name: Option<&str>) -> Option<ServiceType> {
    match name {
        None | Some("ClusterIP") => Some(ServiceType::ClusterIP),
        Some("NodePort") => Some(ServiceType::NodePort),
        Some("LoadBalancer") => Some(ServiceType::LoadBalancer),
        Some("ExternalName") => Some(ServiceType::ExternalName),
        Some(_) => None,
    }
}

fn clamp(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

fn capped(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}
