//! Status of the one DatapathConfig: how many nodes report, and whether all of them work by it.
//!
//! dereference → validate → build → status; there is nothing to apply, and only `status` holds a client.

use crate::index::Index;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use portreeve_crds::condition::{self, Desired, READY, RECONCILING, STALLED};
use portreeve_crds::datapath_config::{BackendChoice, DatapathConfigStatus};
use portreeve_crds::node_datapath::NodeDatapathStatus;
use portreeve_crds::{DatapathConfig, NodeDatapath, names};
use serde_json::json;
use thiserror::Error;

/// Step 1, no client: the configuration and what agents report.
pub(crate) struct Dereferenced<'a> {
    config: Option<&'a DatapathConfig>,
    nodes: Vec<&'a NodeDatapath>,
}

pub(crate) fn dereference(index: &Index) -> Dereferenced<'_> {
    Dereferenced {
        config: index.datapath_config.get(&names::DATAPATH_CONFIG.to_owned()),
        nodes: index.node_datapaths.values().collect(),
    }
}

/// Step 2, no client: agents that have reported at all, and which of them work by the configuration.
pub(crate) struct Validated<'a> {
    config: &'a DatapathConfig,
    reporting: usize,
    ready: usize,
}

pub(crate) fn validate(found: Dereferenced<'_>) -> Option<Validated<'_>> {
    let Dereferenced { config, nodes } = found;
    let config = config?;
    let asked = config.spec.backend.unwrap_or_default();
    let reports: Vec<_> = nodes.iter().filter_map(|node| node.status.as_ref()).collect();
    let ready = reports.iter().filter(|report| works_by(report, asked)).count();
    Some(Validated { config, reporting: reports.len(), ready })
}

fn works_by(report: &NodeDatapathStatus, asked: BackendChoice) -> bool {
    condition::is_true(&report.conditions, READY)
        && report.backend.as_ref().is_some_and(|backend| backend.asked == asked)
}

/// A status to write.
pub(crate) struct Prepared {
    resource_version: Option<String>,
    status: DatapathConfigStatus,
}

/// Step 3, no client. None: the stored status says it all.
pub(crate) fn build(validated: &Validated<'_>, now: Timestamp) -> Option<Prepared> {
    let Validated { config, reporting, ready } = validated;
    let waiting = reporting - ready;
    let ready = if *reporting == 0 {
        Desired::unknown(READY, "NoAgents", "No agent has reported yet.")
    } else if waiting == 0 {
        Desired::yes(READY, "AllReady", format!("All {reporting} reporting nodes work by it."))
    } else {
        Desired::no(READY, "NodesNotReady", format!("{waiting} of {reporting} reporting nodes do not work by it yet."))
    };
    let reconciling = if waiting == 0 {
        Desired::no(RECONCILING, "Settled", "Nothing is under way.")
    } else {
        Desired::yes(RECONCILING, "NodesNotReady", "Nodes are taking the configuration up.")
    };
    let desired = [ready, reconciling, Desired::no(STALLED, "Settled", "Nothing stands in the way.")];
    let stored = config.status.as_ref();
    let generation = config.metadata.generation;
    let status = DatapathConfigStatus {
        observed_generation: generation,
        nodes: Some(i32::try_from(*reporting).unwrap_or(i32::MAX)),
        conditions: condition::merge(stored.map_or(&[], |s| &s.conditions), &desired, generation, now),
    };
    (stored != Some(&status)).then(|| Prepared { resource_version: config.metadata.resource_version.clone(), status })
}

/// The status could not be written.
#[derive(Debug, Error)]
#[error("cannot write the DatapathConfig's status: {0}")]
pub(crate) struct StatusError(#[source] pub(crate) kube::Error);

/// Last step, client required: a merge patch guarded by the resource version.
pub(crate) async fn status(client: &Client, prepared: Prepared) -> Result<DatapathConfig, StatusError> {
    let Prepared { resource_version, status } = prepared;
    let patch = Patch::Merge(json!({"metadata": {"resourceVersion": resource_version}, "status": status}));
    let params = PatchParams { field_manager: Some(names::MANAGER_OPERATOR.to_owned()), ..PatchParams::default() };
    let api: Api<DatapathConfig> = Api::all(client.clone());
    api.patch_status(names::DATAPATH_CONFIG, &params, &patch).await.map_err(StatusError)
}
