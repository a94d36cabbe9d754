//! The stanza, as a JSON Patch that only adds.

use super::owner::{self, OwnerFacts, POD_TEMPLATE_HASH};
use super::{Asking, HOSTNAME, SkipReason, ZONE};
use crate::facts::ClusterFacts;
use crate::policies::PolicyRef;
use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use k8s_openapi::api::core::v1::{Pod, TopologySpreadConstraint};
use portreeve_crds::names;
use portreeve_crds::policy::SpreadMechanism;
use serde_json::{Value, json};

const SCHEDULE_ANYWAY: &str = "ScheduleAnyway";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// One preferred term for each Service.
pub(super) fn anti_affinity(pod: &Pod, asking: &[Asking<'_>], facts: &OwnerFacts) -> Vec<PatchOperation> {
    let terms: Vec<Value> = asking
        .iter()
        .map(|service| {
            let mut term = json!({"topologyKey": HOSTNAME, "labelSelector": {"matchLabels": service.selector}});
            tell_revisions_apart(&mut term, pod, service, facts);
            json!({"weight": service.weight, "podAffinityTerm": term})
        })
        .collect();
    let affinity = pod.spec.as_ref().and_then(|spec| spec.affinity.as_ref());
    let anti = affinity.and_then(|affinity| affinity.pod_anti_affinity.as_ref());
    let preferred = anti.and_then(|anti| anti.preferred_during_scheduling_ignored_during_execution.as_ref());
    if preferred.is_some() {
        let end = || ["spec", "affinity", "podAntiAffinity", PREFERRED, "-"];
        return terms.into_iter().map(|term| add(end(), term)).collect();
    }
    let operation = if anti.is_some() {
        add(["spec", "affinity", "podAntiAffinity", PREFERRED], json!(terms))
    } else if affinity.is_some() {
        add(["spec", "affinity", "podAntiAffinity"], json!({PREFERRED: terms}))
    } else {
        add(["spec", "affinity"], json!({"podAntiAffinity": {PREFERRED: terms}}))
    };
    vec![operation]
}

/// Constraints on hostname and zone, for one Service: the API allows one constraint for each pair of topology key and
/// `whenUnsatisfiable`. The second is there because any constraint of its own switches the scheduler's built-in ones off
/// for the Pod.
pub(super) fn topology_spread(
    pod: &Pod,
    service: &Asking<'_>,
    cluster: ClusterFacts,
    facts: &OwnerFacts,
) -> Result<Vec<PatchOperation>, SkipReason> {
    let present = pod.spec.as_ref().and_then(|spec| spec.topology_spread_constraints.as_ref());
    let taken = |key: &str| {
        let same =
            |one: &&TopologySpreadConstraint| one.topology_key == key && one.when_unsatisfiable == SCHEDULE_ANYWAY;
        present.into_iter().flatten().any(|one| same(&one))
    };
    if taken(HOSTNAME) {
        return Err(SkipReason::ConstraintTaken);
    }
    // In scoring, the scheduler passes over nodes that lack one of the keys: without zones the second constraint would
    // switch off the first.
    let zone = (cluster.zones > 1 && !taken(ZONE)).then_some(ZONE);
    let constraints: Vec<Value> = std::iter::once(HOSTNAME)
        .chain(zone)
        .map(|key| {
            let mut constraint = json!({
                "maxSkew": 1,
                "topologyKey": key,
                "whenUnsatisfiable": SCHEDULE_ANYWAY,
                "nodeTaintsPolicy": "Honor",
                "labelSelector": {"matchLabels": service.selector},
            });
            tell_revisions_apart(&mut constraint, pod, service, facts);
            constraint
        })
        .collect();
    Ok(match present {
        Some(_) => {
            let end = || ["spec", "topologySpreadConstraints", "-"];
            constraints.into_iter().map(|constraint| add(end(), constraint)).collect()
        }
        None => vec![add(["spec", "topologySpreadConstraints"], json!(constraints))],
    })
}

/// Where one Deployment backs the Service, Pods of another revision do not count: otherwise new Pods of a rollout would
/// flee the old ones, which are about to go. Where other workloads do too, the hash would hide them from each other. The
/// very first Pods have nobody beside them yet and are told apart as well: old Pods' terms count against new Pods, so
/// the first rollout needs it on both sides. The API refuses a key that the selector names as well.
fn tell_revisions_apart(stanza: &mut Value, pod: &Pod, service: &Asking<'_>, facts: &OwnerFacts) {
    let alone = owner::deployment(pod).is_some_and(|deployment| facts.all_from(deployment, service.name));
    if alone && !service.selector.contains_key(POD_TEMPLATE_HASH) {
        stanza["matchLabelKeys"] = json!([POD_TEMPLATE_HASH]);
    }
}

/// Adds the annotation that tells a reader of the Pod where the stanza comes from.
pub(super) fn with_annotation(
    pod: &Pod,
    mut ops: Vec<PatchOperation>,
    policy: &PolicyRef,
    mechanism: SpreadMechanism,
) -> Patch {
    let word = match mechanism {
        SpreadMechanism::Auto => "Auto",
        SpreadMechanism::PodAntiAffinity => "PodAntiAffinity",
        SpreadMechanism::TopologySpread => "TopologySpread",
    };
    let origin = format!("{policy} {word}");
    ops.push(match pod.metadata.annotations {
        Some(_) => add(["metadata", "annotations", names::ANNOTATION_INJECTED], json!(origin)),
        None => add(["metadata", "annotations"], json!({names::ANNOTATION_INJECTED: origin})),
    });
    Patch(ops)
}

fn add<const N: usize>(path: [&str; N], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(path), value })
}
