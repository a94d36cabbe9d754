//! The way back.

use super::patch::{POLICY, TYPE, changes_policy, identity, restore_annotations, restore_policy, test};
use crate::text::clean;
use k8s_openapi::api::core::v1::Service;
use portreeve_crds::TrafficMigrationItemSpec;
use portreeve_crds::migration::{PatchOperation, ServiceState};
use portreeve_crds::names::legacy;
use serde_json::json;

/// Why a change is not undone: the Service is no longer as it was left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RollbackRefusal {
    /// The item never changed anything.
    #[error("nothing was changed, so there is nothing to undo")]
    NothingChanged,
    /// The Service was deleted and made anew.
    #[error("the Service was made anew: its UID is {live}, not {planned}")]
    OtherService {
        /// UID in the plan.
        planned: String,
        /// UID of the live Service.
        live: String,
    },
    /// The type is another one, so the old policy may not fit it.
    #[error("spec.type is {live} now and was {planned}")]
    TypeChanged {
        /// Type in the plan.
        planned: String,
        /// Type of the live Service.
        live: String,
    },
    /// Somebody has set the field since; it is theirs now.
    #[error("spec.externalTrafficPolicy is {live} now and was left at Local")]
    PolicyChanged {
        /// Value in the live Service.
        live: String,
    },
    /// A removed annotation is back with another value.
    #[error("annotation {key} is back with another value, {live:?}")]
    AnnotationChanged {
        /// Its key.
        key: String,
        /// Value in the live Service.
        live: String,
    },
}

/// The patch that undoes `item` on the live Service, with tests that the Service is still as it was left.
///
/// It is built from `item.before`, not from the recorded inverse, and restores nothing but the four annotations and the
/// field. An annotation that is back with its old value stays as it is.
///
/// # Errors
/// Where the live Service is no longer as it was left.
pub fn rollback_patch(item: &TrafficMigrationItemSpec, live: &Service) -> Result<Vec<PatchOperation>, RollbackRefusal> {
    if item.patch.is_empty() {
        return Err(RollbackRefusal::NothingChanged);
    }
    let uid = live.metadata.uid.clone().unwrap_or_default();
    if uid != item.service.uid {
        return Err(RollbackRefusal::OtherService { planned: clean(&item.service.uid), live: clean(&uid) });
    }
    let policy_changed = changes_policy(&item.patch);
    let mut patch = identity(&uid);
    if policy_changed {
        patch.extend(tests_on_field(&item.before, live)?);
    }
    let annotations = live.metadata.annotations.as_ref().filter(|all| !all.is_empty());
    patch.extend(restore_annotations(&missing(&item.before, live)?, annotations.is_some()));
    if policy_changed {
        patch.push(restore_policy(&item.before));
    }
    Ok(patch)
}

fn tests_on_field(before: &ServiceState, live: &Service) -> Result<Vec<PatchOperation>, RollbackRefusal> {
    let spec = live.spec.as_ref();
    let kind = spec.and_then(|spec| spec.type_.as_deref());
    if kind != before.type_.as_deref() {
        let shown = |kind: Option<&str>| kind.map_or_else(|| "absent".to_owned(), clean);
        return Err(RollbackRefusal::TypeChanged { planned: shown(before.type_.as_deref()), live: shown(kind) });
    }
    let policy = spec.and_then(|spec| spec.external_traffic_policy.as_deref());
    if policy != Some("Local") {
        return Err(RollbackRefusal::PolicyChanged { live: policy.map_or_else(|| "absent".to_owned(), clean) });
    }
    let on_type = kind.map(|kind| test(TYPE, json!(kind)));
    Ok(on_type.into_iter().chain([test(POLICY, json!("Local"))]).collect())
}

/// `before` with those annotations only that the live Service lacks.
fn missing(before: &ServiceState, live: &Service) -> Result<ServiceState, RollbackRefusal> {
    let mut missing = before.clone();
    missing.annotations.retain(|key, _| legacy::ALL.contains(&key.as_str()));
    for (key, value) in live.metadata.annotations.iter().flatten() {
        match missing.annotations.get(key) {
            Some(old) if old == value => missing.annotations.remove(key),
            Some(_) => return Err(RollbackRefusal::AnnotationChanged { key: key.clone(), live: clean(value) }),
            None => continue,
        };
    }
    Ok(missing)
}
