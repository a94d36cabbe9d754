//! The way from the legacy annotations to the field: what is decided for each Service, the patch, and the way back.
//!
//! The table, by the annotation's effective value (beta before alpha), the type and the field:
//!
//! | annotation | Service | field | decision |
//! |---|---|---|---|
//! | OnlyLocal | NodePort, LoadBalancer, ClusterIP with externalIPs | Local | Safe: annotations removed |
//! | OnlyLocal | NodePort, LoadBalancer, ClusterIP with externalIPs | Cluster | NeedsApproval: traffic changes |
//! | Global | NodePort, LoadBalancer, ClusterIP with externalIPs | either | Safe: annotations removed, field kept |
//! | OnlyLocal, Global | ClusterIP without externalIPs, headless, ExternalName | – | Safe: annotations removed |
//! | only `healthcheck-nodeport` | any | any | Safe: annotations removed |
//! | any other value | any | any | Invalid: nothing is guessed, nothing is touched |
//!
//! The field is what has held since Kubernetes 1.8, so `Global` never turns a `Local` Service back. What becomes of
//! `healthcheck-nodeport` is in the module `health_check`.

mod decide;
mod gates;
mod hash;
mod health_check;
mod owner;
mod patch;
mod rollback;

pub(crate) use decide::contradiction;
pub use gates::{GateRefusal, gates};
pub use hash::plan_hash;
pub use patch::{asked_health_check_port, stays_in_bounds, with_resource_version, without_health_check_port};
pub use rollback::{Leftover, RollbackRefusal, leftover, rollback_patch};

use crate::legacy::LegacyAnnotations;
use crate::subject::Subject;
use k8s_openapi::api::core::v1::Service;
use portreeve_crds::TrafficMigrationItemSpec;
use portreeve_crds::migration::{Decision, Owner, PatchOperation, ServiceIdentity, ServiceState};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// What planning must know of the cluster.
#[derive(Clone, Debug)]
pub struct PlanContext<'a> {
    /// `--service-node-port-range` of the API server.
    pub node_port_range: RangeInclusive<u16>,
    /// Health check node ports and node ports that are taken, with namespace and name of the Service that holds each.
    pub health_check_ports_in_use: &'a BTreeMap<u16, (String, String)>,
}

/// What is to be done with one Service.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedItem {
    /// Namespace of the Service.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID; empty for a manifest that no API server has seen.
    pub uid: String,
    /// What was decided.
    pub decision: Decision,
    /// Why, in one sentence.
    pub reason: String,
    /// What the decision was made from.
    pub before: ServiceState,
    /// Who would bring the annotation back, if anyone.
    pub owner: Option<Owner>,
    /// The change: `test` operations on UID and old values first, never on `resourceVersion`, so that an unrelated
    /// write does not void the plan. Empty where nothing may be touched.
    pub patch: Vec<PatchOperation>,
    /// The patch that undoes it, for a Service that nobody else has written to in between; to send one, take
    /// [`rollback_patch`], which looks at the live object.
    pub inverse: Vec<PatchOperation>,
    /// Things the user should know and that no patch can mend.
    pub notes: Vec<String>,
}

impl PlannedItem {
    /// The item as it is stored.
    #[must_use]
    pub fn to_spec(&self, migration: &str) -> TrafficMigrationItemSpec {
        TrafficMigrationItemSpec {
            migration: migration.to_owned(),
            service: ServiceIdentity { name: self.name.clone(), uid: self.uid.clone() },
            decision: self.decision,
            reason: self.reason.clone(),
            before: self.before.clone(),
            owner: self.owner,
            patch: self.patch.clone(),
            inverse: self.inverse.clone(),
            notes: self.notes.clone(),
        }
    }

    /// The item as it was planned, from the one that is stored in `namespace`.
    #[must_use]
    pub fn from_spec(namespace: &str, spec: &TrafficMigrationItemSpec) -> Self {
        // Destructured whole: a member forgotten here would be missing from the hash.
        let TrafficMigrationItemSpec { migration: _, service, decision, reason, before, owner, patch, inverse, notes } =
            spec.clone();
        let ServiceIdentity { name, uid } = service;
        let namespace = namespace.to_owned();
        Self { namespace, name, uid, decision, reason, before, owner, patch, inverse, notes }
    }
}

/// Plans one Service. `None` where no legacy annotation is left, or where the label `portreeve.io/ignore: "true"` on the
/// Service asks to leave it alone.
#[must_use]
pub fn plan_service(service: &Service, context: &PlanContext<'_>) -> Option<PlannedItem> {
    let subject = Subject::new(service);
    let legacy = LegacyAnnotations::parse(service);
    if legacy.is_empty() || subject.ignored() {
        return None;
    }
    let verdict = decide::decide(subject, &legacy);
    let health_check = health_check::decide(subject, &legacy, &verdict, context);
    let before = state(subject, &legacy);
    let uid = service.metadata.uid.clone().unwrap_or_default();
    let (patch, inverse) = match verdict.decision {
        Decision::Invalid => (Vec::new(), Vec::new()),
        Decision::Safe | Decision::NeedsApproval => {
            let change = patch::Change { to_local: verdict.to_local(), health_check_port: health_check.ask_for };
            let annotations = service.metadata.annotations.as_ref();
            let others_remain = annotations.is_some_and(|all| all.len() > legacy.present.len());
            (patch::forward(&uid, &before, change), patch::inverse(&uid, &before, change, others_remain))
        }
    };
    Some(PlannedItem {
        namespace: service.metadata.namespace.clone().unwrap_or_default(),
        name: service.metadata.name.clone().unwrap_or_default(),
        uid,
        decision: verdict.decision,
        reason: verdict.reason,
        owner: owner::of(service),
        patch,
        inverse,
        notes: decide::notes(&legacy).into_iter().chain(health_check.note).collect(),
        before,
    })
}

fn state(subject: Subject<'_>, legacy: &LegacyAnnotations) -> ServiceState {
    let spec = subject.spec();
    ServiceState {
        type_: spec.and_then(|spec| spec.type_.clone()),
        external_traffic_policy: spec.and_then(|spec| spec.external_traffic_policy.clone()),
        health_check_node_port: spec.and_then(|spec| spec.health_check_node_port),
        annotations: legacy.present.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
