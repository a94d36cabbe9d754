//! Conditions: the types and reasons that our kinds use, and how one is set without losing its transition time.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Summary of every kind: the object does what its spec asks (kstatus reads it).
pub const READY: &str = "Ready";
/// Abnormal-true: work is under way (kstatus).
pub const RECONCILING: &str = "Reconciling";
/// Abnormal-true: no progress without a change by someone (kstatus).
pub const STALLED: &str = "Stalled";
/// The spec was understood and takes part in decisions (GEP-713).
pub const ACCEPTED: &str = "Accepted";
/// The engines work by it (GEP-713).
pub const PROGRAMMED: &str = "Programmed";

/// Reasons of [`PROGRAMMED`] on a NodeDatapath: what the agent writes, and the plugin reads.
pub mod programmed {
    /// False: the kernel holds nothing of ours.
    pub const NOT_YET: &str = "NotYet";
    /// False: the last attempt failed; what the kernel holds is not known.
    pub const FAILED: &str = "ProgrammingFailed";
    /// False: the kernel holds nothing of ours, since another proxy would decide before the backend that is asked for.
    pub const LEFT: &str = "LeftToKubeProxy";
    /// True: the backend that was in force before does what is asked for, until the one that is asked for can.
    pub const BY_FORMER: &str = "InForceByFormer";
    /// True: the kernel does what is asked for.
    pub const IN_FORCE: &str = "InForce";
    /// True: but for wishes that the backend cannot do, which the message names.
    pub const IN_FORCE_IN_PART: &str = "InForceInPart";
}

/// One desired condition, before it is merged into those an object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// Condition type, e.g. [`READY`].
    pub type_: &'static str,
    /// `Some(true)` is "True", `Some(false)` "False", `None` "Unknown".
    pub status: Option<bool>,
    /// CamelCase, from a closed set.
    pub reason: &'static str,
    /// One sentence for people.
    pub message: String,
}

impl Desired {
    /// A condition that holds.
    #[must_use]
    pub fn yes(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, status: Some(true), reason, message: message.into() }
    }

    /// A condition that does not hold.
    #[must_use]
    pub fn no(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, status: Some(false), reason, message: message.into() }
    }

    /// A condition that cannot be told yet.
    #[must_use]
    pub fn unknown(type_: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { type_, status: None, reason, message: message.into() }
    }

    const fn status_text(&self) -> &'static str {
        match self.status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
    }
}

/// The conditions an object should carry: `desired` in its order, each keeping the transition time it has in `current`
/// while its status stays the same. Types that are not desired are dropped, so that no stale condition lingers.
#[must_use]
pub fn merge(current: &[Condition], desired: &[Desired], generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    desired
        .iter()
        .map(|want| {
            let status = want.status_text();
            let kept = current.iter().find(|have| have.type_ == want.type_ && have.status == status);
            Condition {
                type_: want.type_.to_owned(),
                status: status.to_owned(),
                reason: want.reason.to_owned(),
                message: want.message.clone(),
                observed_generation: generation,
                last_transition_time: kept.map_or(Time(now), |have| have.last_transition_time.clone()),
            }
        })
        .collect()
}

/// Whether `conditions` holds `type_` with status "True".
#[must_use]
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True")
}
