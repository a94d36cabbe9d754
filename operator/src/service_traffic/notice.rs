//! What changed about a Service's balance that is worth an Event. Pure.

use crate::index::StoredStatus;
use crate::notice::{Notice, Reason};
use k8s_openapi::api::core::v1::Service;
use portreeve_crds::service_traffic::{BALANCED, ServiceTrafficStatus};

/// Changes from the stored status to the new one. Without a stored one only trouble is told.
pub(crate) fn between(service: &Service, stored: Option<&StoredStatus>, new: &ServiceTrafficStatus) -> Option<Notice> {
    let now = new.conditions.iter().find(|condition| condition.type_ == BALANCED)?;
    let before = stored.and_then(|stored| stored.condition(BALANCED));
    let reason = match (before, now.status.as_str()) {
        (Some("False"), "True") => Reason::ImbalanceWithinLimit,
        (before, "False") if before != Some("False") => Reason::ImbalanceAboveLimit,
        _ => return None,
    };
    Some(Notice::about(service, reason, now.message.clone()))
}
