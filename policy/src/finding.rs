//! What a rule found, and the texts that users meet.

use crate::policies::PolicyRef;
use crate::text;
use portreeve_crds::{Action, RuleId};
use serde::Serialize;

/// Kubernetes asks webhooks to keep a warning within this many characters; it cuts those over 256, and drops what goes
/// beyond 4096 in one answer.
pub const WARNING_LIMIT: usize = 120;

/// What the warning of a lowered Deny ends with.
const RATCHETED: &str = " (denied if new)";

/// One thing that a rule found on a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The rule.
    pub rule: RuleId,
    /// What is done about it: after mode, tightening and ratchet, and never `Fix` where nothing is mended.
    pub action: Action,
    /// The field, e.g. `spec.externalTrafficPolicy` or `metadata.annotations[service.beta.kubernetes.io/…]`.
    pub field: String,
    /// What is wrong; no full stop.
    pub problem: String,
    /// What to do; no full stop.
    pub fix: String,
    /// Problem and fix in at most 88 characters.
    pub brief: String,
    /// The policy that decided the action; none for the built-in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyRef>,
    /// A Deny that was lowered to Warn, because the update did not bring the value.
    pub ratcheted: bool,
}

impl Finding {
    /// The text of a cause in an admission answer, of a line in a report, of an Event: one line, at most 1024
    /// characters.
    #[must_use]
    pub fn message(&self) -> String {
        let Self { rule, problem, fix, .. } = self;
        let policy = self.policy_name(text::SHOWN);
        format!("[{rule} policy={policy}] {problem}. Fix: {fix}. See: kubectl portreeve explain {rule}")
    }

    /// A line for kubectl to print, at most [`WARNING_LIMIT`] characters. The policy's name gives way, the fix never. Of a
    /// Deny that was lowered it says so: whoever reads it learns that the same value would not pass in a new object.
    #[must_use]
    pub fn warning(&self) -> String {
        let Self { rule, brief, .. } = self;
        let ratchet = if self.ratcheted { RATCHETED } else { "" };
        let frame = format!("[{rule} ] {brief}{ratchet}").chars().count();
        let policy = self.policy_name(WARNING_LIMIT.saturating_sub(frame));
        format!("[{rule} {policy}] {brief}{ratchet}")
    }

    fn policy_name(&self, limit: usize) -> String {
        let name = self.policy.as_ref().map_or_else(|| PolicyRef::BUILT_IN.to_owned(), PolicyRef::short);
        text::shorten(&name, limit)
    }
}

#[cfg(test)]
mod tests;
