//! What changed about a Service's balance that is worth an Event. Pure.

use crate::notice::{Notice, Reason};
use k8s_openapi::api::core::v1::Service;
use portreeve_crds::service_traffic::{BALANCED, ServiceTrafficStatus};

/// Changes from the stored status to the new one. Without a stored one only trouble is told.
pub(crate) fn between(
    service: &Service,
    stored: Option<&ServiceTrafficStatus>,
    new: &ServiceTrafficStatus,
) -> Option<Notice> {
    let balanced = |status: &ServiceTrafficStatus| {
        let condition = status.conditions.iter().find(|condition| condition.type_ == BALANCED)?;
        Some((condition.status.clone(), condition.message.clone()))
    };
    let (now, message) = balanced(new)?;
    let before = stored.and_then(balanced).map(|(status, _)| status);
    let reason = match (before.as_deref(), now.as_str()) {
        (Some("False"), "True") => Reason::ImbalanceWithinLimit,
        (before, "False") if before != Some("False") => Reason::ImbalanceAboveLimit,
        _ => return None,
    };
    Some(Notice::about(service, reason, message))
}
