//! A ServiceTraffic as it is kept: what tells whether another write is needed, a tenth of its size.

use crate::key::Key;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use portreeve_crds::condition::{READY, RECONCILING, STALLED};
use portreeve_crds::service_traffic::{BALANCED, LOCAL_READY, ServiceTrafficStatus};
use portreeve_crds::{ServiceTraffic, ServiceTrafficSpec};
use serde::Serialize;
use std::hash::{DefaultHasher, Hasher};
use std::io;

/// Conditions of a report. Others are a stranger's and go with the next write; the fingerprint sees them.
const CONDITIONS: [&str; 5] = [LOCAL_READY, BALANCED, READY, RECONCILING, STALLED];

/// What is kept of a report.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct StoredReport {
    pub(super) key: Key,
    pub(crate) uid: Option<Box<str>>,
    pub(crate) version: Option<Box<str>>,
    pub(crate) generation: Option<i64>,
    owners: Box<[Box<str>]>,
    pub(crate) spec: ServiceTrafficSpec,
    pub(crate) status: Option<StoredStatus>,
}

impl StoredReport {
    pub(super) fn new(traffic: ServiceTraffic) -> Self {
        let ServiceTraffic { metadata, spec, status } = traffic;
        let owners = metadata.owner_references.iter().flatten().map(|owner| owner.uid.as_str().into());
        Self {
            key: Key::of(&metadata),
            owners: owners.collect(),
            uid: metadata.uid.map(String::into_boxed_str),
            version: metadata.resource_version.map(String::into_boxed_str),
            generation: metadata.generation,
            spec,
            status: status.as_ref().map(StoredStatus::of),
        }
    }

    /// Whether the object with this UID is among its owners.
    pub(crate) fn owned_by(&self, uid: &str) -> bool {
        self.owners.iter().any(|owner| &**owner == uid)
    }

    /// Whether `new` may take the place of this one; see the index.
    pub(super) fn gives_way_to(&self, new: &Self) -> bool {
        let number = |report: &Self| report.version.as_ref().and_then(|version| version.parse::<u64>().ok());
        match (number(self), number(new)) {
            (Some(old), Some(version)) if self.uid == new.uid => version > old,
            _ => true,
        }
    }
}

/// What is kept of a status: enough to compare it with another one and to keep its transition times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredStatus {
    /// Of everything but transition times, which follow from the rest.
    pub(crate) exact: u64,
    /// Of what is written at once when it changes: neither numbers of the imbalance nor texts.
    pub(crate) coarse: u64,
    pub(crate) ratio_permille: Option<i32>,
    conditions: [Option<StoredCondition>; CONDITIONS.len()],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StoredCondition {
    status: &'static str,
    /// In seconds, as the API server keeps it.
    since: i64,
}

impl StoredStatus {
    pub(crate) fn of(status: &ServiceTrafficStatus) -> Self {
        let mut reduced = status.clone();
        for condition in &mut reduced.conditions {
            condition.last_transition_time.0 = Timestamp::UNIX_EPOCH;
        }
        let exact = fingerprint(&reduced);
        if let Some(imbalance) = &mut reduced.imbalance {
            imbalance.ratio_permille = 0;
            imbalance.usable_permille = 0;
            imbalance.hottest.node.clear();
            imbalance.hottest.share_permille = 0;
            imbalance.suggested_replicas.clear();
            imbalance.nodes.clear();
        }
        for finding in reduced.findings.iter_mut().flatten() {
            finding.message.clear();
        }
        for condition in &mut reduced.conditions {
            condition.message.clear();
        }
        Self {
            exact,
            coarse: fingerprint(&reduced),
            ratio_permille: status.imbalance.as_ref().map(|imbalance| imbalance.ratio_permille),
            conditions: CONDITIONS.map(|type_| stored_condition(&status.conditions, type_)),
        }
    }

    /// Status of a condition: True, False or Unknown.
    pub(crate) fn condition(&self, type_: &str) -> Option<&'static str> {
        self.kept().find(|(known, _)| *known == type_).map(|(_, condition)| condition.status)
    }

    /// The conditions without reasons and texts.
    pub(crate) fn conditions(&self) -> Vec<Condition> {
        let condition = |(type_, stored): (&str, StoredCondition)| Condition {
            type_: type_.to_owned(),
            status: stored.status.to_owned(),
            reason: String::new(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::from_second(stored.since).unwrap_or_default()),
        };
        self.kept().map(condition).collect()
    }

    fn kept(&self) -> impl Iterator<Item = (&'static str, StoredCondition)> {
        CONDITIONS.into_iter().zip(self.conditions).filter_map(|(type_, stored)| Some((type_, stored?)))
    }
}

fn stored_condition(conditions: &[Condition], type_: &str) -> Option<StoredCondition> {
    let found = conditions.iter().find(|condition| condition.type_ == type_)?;
    let status = ["True", "False", "Unknown"].into_iter().find(|status| found.status == *status)?;
    Some(StoredCondition { status, since: found.last_transition_time.0.as_second() })
}

/// A hash of the JSON form. It never leaves the process.
fn fingerprint(value: &impl Serialize) -> u64 {
    struct Sink(DefaultHasher);
    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut sink = Sink(DefaultHasher::new());
    match serde_json::to_writer(&mut sink, value) {
        Ok(()) => sink.0.finish(),
        // Invariant: a status is plain data and the sink takes everything. Were it not so, every status would differ
        // from none, and nothing would be written rather than everything for ever.
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::StoredStatus;
    use crate::index::tests::object;
    use portreeve_crds::condition;
    use portreeve_crds::service_traffic::ServiceTrafficStatus;
    use serde_json::json;

    fn status(message: &str, since: &str) -> ServiceTrafficStatus {
        object(json!({"readyPods": 1, "conditions": [{"type": "Balanced", "status": "True", "reason": "WithinLimit",
            "message": message, "lastTransitionTime": since}]}))
    }

    #[test]
    fn a_kept_status_tells_texts_from_the_rest_and_ignores_transition_times() {
        let kept = StoredStatus::of(&status("a", "2026-01-01T00:00:00Z"));
        let later = StoredStatus::of(&status("a", "2026-01-02T00:00:00Z"));
        let reworded = StoredStatus::of(&status("b", "2026-01-01T00:00:00Z"));
        assert_eq!((kept.exact, kept.coarse), (later.exact, later.coarse));
        assert!(kept.exact != reworded.exact && kept.coarse == reworded.coarse);
    }

    #[test]
    fn a_condition_keeps_its_transition_time_through_the_kept_form() {
        let status = status("a", "2026-01-01T00:00:00Z");
        let kept = StoredStatus::of(&status);
        assert_eq!((kept.condition("Balanced"), kept.condition("Ready")), (Some("True"), None));
        let same = condition::Desired::yes("Balanced", "WithinLimit", "b");
        let merged = condition::merge(&kept.conditions(), &[same], None, jiff::Timestamp::now());
        assert_eq!(merged[0].last_transition_time, status.conditions[0].last_transition_time);
    }
}
