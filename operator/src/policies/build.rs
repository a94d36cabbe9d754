//! Step 3, no client: the status that a policy should have; nothing if it has it.

use super::tally::Tally;
use super::validate::{Validated, Verdict};
use jiff::Timestamp;
use portreeve_crds::condition::{self, ACCEPTED, Desired, PROGRAMMED, READY, RECONCILING, STALLED};
use portreeve_crds::policy::{PolicyStatus, RuleCount};
use portreeve_policy::policies::PolicyRef;

/// Most policies named in `overriddenBy`.
const MOST_OVERRIDES: usize = 16;

/// A status to write.
pub(crate) struct Prepared {
    pub(crate) policy: PolicyRef,
    /// Guards the write.
    pub(crate) resource_version: Option<String>,
    pub(crate) status: PolicyStatus,
}

/// None: the stored status says it all.
pub(crate) fn build(validated: Validated, now: Timestamp) -> Option<Prepared> {
    let Validated { policy, live, verdict } = validated;
    let (tally, desired) = match verdict {
        Verdict::Usable(tally) => {
            let desired = usable(&tally);
            (tally, desired)
        }
        Verdict::Broken { problem, tally } => (tally, broken(&problem)),
    };
    let Tally { services, violations, by_rule, overridden_by } = tally;
    let stored = live.status.as_ref();
    let status = PolicyStatus {
        observed_generation: live.generation,
        services: Some(clamp(services)),
        violations: Some(clamp(violations)),
        findings: Some(by_rule.into_iter().map(|(id, count)| RuleCount { id, count: clamp(count) }).collect()),
        overridden_by: Some(overridden_by.iter().take(MOST_OVERRIDES).map(ToString::to_string).collect()),
        conditions: condition::merge(stored.map_or(&[], |s| &s.conditions), &desired, live.generation, now),
    };
    (stored != Some(&status)).then_some(Prepared { policy, resource_version: live.resource_version, status })
}

fn usable(tally: &Tally) -> Vec<Desired> {
    let (reason, message) = if !tally.overridden_by.is_empty() {
        ("Overridden", "Works, but policies of higher precedence decide some of it; see overriddenBy.")
    } else if tally.services == 0 {
        ("TargetNotFound", "No Service matches now; those to come will.")
    } else {
        ("Programmed", "Webhook, operator and command line work by it.")
    };
    vec![
        Desired::yes(ACCEPTED, "Accepted", "The policy was understood."),
        Desired::yes(PROGRAMMED, reason, message),
        Desired::yes(READY, reason, message),
        Desired::no(RECONCILING, "Settled", "Nothing is under way."),
        Desired::no(STALLED, "Settled", "Nothing stands in the way."),
    ]
}

fn broken(problem: &str) -> Vec<Desired> {
    let closed = "Where it says Deny, every Service that it might match is denied until it is mended.";
    vec![
        Desired::no(ACCEPTED, "Invalid", problem.to_owned()),
        Desired::no(PROGRAMMED, "Invalid", closed),
        Desired::no(READY, "Invalid", problem.to_owned()),
        Desired::no(RECONCILING, "Settled", "Nothing is under way."),
        Desired::yes(STALLED, "Invalid", problem.to_owned()),
    ]
}

fn clamp(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
