//! Step 2, no client: a policy that exists, and whether it can be used.

use super::dereference::{Dereferenced, Live};
use super::tally::Tally;
use portreeve_policy::policies::PolicyRef;

/// A policy to report on.
pub(crate) struct Validated {
    pub(crate) policy: PolicyRef,
    pub(crate) live: Live,
    pub(crate) verdict: Verdict,
}

/// Whether the engines work by it.
pub(crate) enum Verdict {
    Usable(Tally),
    /// It could not be compiled; where it says Deny it fails closed.
    Broken {
        problem: String,
        tally: Tally,
    },
}

/// None when the policy is gone: nobody is left to report to.
pub(crate) fn validate(found: Dereferenced) -> Option<Validated> {
    let Dereferenced { policy, live, tally, problem } = found;
    let verdict = match problem {
        Some(problem) => Verdict::Broken { problem, tally },
        None => Verdict::Usable(tally),
    };
    Some(Validated { policy, live: live?, verdict })
}
