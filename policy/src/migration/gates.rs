//! What must hold before traffic is changed.

use super::PlannedItem;
use crate::facts::EndpointFacts;
use crate::imbalance::{LoadModel, imbalance};
use portreeve_crds::migration::{Decision, Gates};

/// Why a change of traffic is held back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GateRefusal {
    /// With `Local`, nodes without a ready Pod drop what they receive.
    #[error("{ready} nodes have a ready Pod, {wanted} are wanted")]
    TooFewNodes {
        /// Nodes with a ready Pod.
        ready: u32,
        /// `gates.minNodes`.
        wanted: u32,
    },
    /// The hottest Pod would get too much.
    #[error("the hottest Pod would get {predicted} permille of the mean, {limit} are allowed")]
    Imbalance {
        /// Predicted ratio, in permille.
        predicted: i32,
        /// `gates.maxRatioPermille`.
        limit: i32,
    },
}

/// Whether `item` may be applied, given the ready endpoints of its Service. An item that changes no traffic passes
/// whatever they are; `minNodes` is 1 where it is absent.
///
/// # Errors
/// The first gate that holds the item back.
pub fn gates(item: &PlannedItem, gates: &Gates, endpoints: &EndpointFacts) -> Result<(), GateRefusal> {
    if item.decision != Decision::NeedsApproval {
        return Ok(());
    }
    let wanted = gates.min_nodes.map_or(1, |nodes| u32::try_from(nodes).unwrap_or(0));
    let ready = endpoints.active_nodes();
    if ready < wanted {
        return Err(GateRefusal::TooFewNodes { ready, wanted });
    }
    let predicted = imbalance(&endpoints.ready_by_node, None, LoadModel::EvenNodes).map(|found| found.ratio_permille);
    match (predicted, gates.max_ratio_permille) {
        (Some(predicted), Some(limit)) if predicted > limit => Err(GateRefusal::Imbalance { predicted, limit }),
        _ => Ok(()),
    }
}
