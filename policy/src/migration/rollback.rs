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
/// `live` must be the whole Service as the API server has it: a Service without annotations gets a map of its own, which
/// would replace one that was only left out here.
///
/// It is built from `item.before`, not from the recorded inverse, and restores nothing but the four annotations and the
/// field. What is back already, an annotation with its old value or the field, stays as it is.
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
    let policy_is_back = !changes_policy(&item.patch) || policy(live) == item.before.external_traffic_policy.as_deref();
    let mut patch = identity(&uid);
    if !policy_is_back {
        patch.extend(tests_on_field(&item.before, live)?);
    }
    let annotations = live.metadata.annotations.as_ref().filter(|all| !all.is_empty());
    patch.extend(restore_annotations(&missing(&item.before, live)?, annotations.is_some()));
    if !policy_is_back {
        patch.push(restore_policy(&item.before));
    }
    Ok(patch)
}

/// What of an undone change is not as it was before: what admission took out of the undo, or put in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftover {
    /// The field, where the change concerned it and it is not what it was: its value now, none where it is absent.
    pub policy: Option<Option<String>>,
    /// Legacy annotations that are not there again, or with another value.
    pub annotations: Vec<&'static str>,
}

impl Leftover {
    /// Everything is as it was before.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.policy.is_none() && self.annotations.is_empty()
    }
}

/// Compares the Service that an undo was answered with to what the item says of the time before. Answers are not taken
/// for results: admission may have changed the undo on its way.
#[must_use]
pub fn leftover(item: &TrafficMigrationItemSpec, answered: &Service) -> Leftover {
    let now = policy(answered);
    let differs = changes_policy(&item.patch) && now != item.before.external_traffic_policy.as_deref();
    let found = |key: &str| answered.metadata.annotations.as_ref().and_then(|all| all.get(key));
    let is_missing = |key: &&'static str| item.before.annotations.get(*key).is_some_and(|old| found(key) != Some(old));
    Leftover {
        policy: differs.then(|| now.map(clean)),
        annotations: legacy::ALL.into_iter().filter(is_missing).collect(),
    }
}

fn policy(service: &Service) -> Option<&str> {
    service.spec.as_ref().and_then(|spec| spec.external_traffic_policy.as_deref())
}

fn tests_on_field(before: &ServiceState, live: &Service) -> Result<Vec<PatchOperation>, RollbackRefusal> {
    let spec = live.spec.as_ref();
    let kind = spec.and_then(|spec| spec.type_.as_deref());
    if kind != before.type_.as_deref() {
        let shown = |kind: Option<&str>| kind.map_or_else(|| "absent".to_owned(), clean);
        return Err(RollbackRefusal::TypeChanged { planned: shown(before.type_.as_deref()), live: shown(kind) });
    }
    if policy(live) != Some("Local") {
        return Err(RollbackRefusal::PolicyChanged { live: policy(live).map_or_else(|| "absent".to_owned(), clean) });
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
