//! What a user is told about a rule by `kubectl portreeve explain`, the documentation and the README.
//!
//! The text of a rule stands beside its code, in `rules/`. The examples are complete manifests, and a test holds them to
//! their word: the bad one yields the rule, the good one does not.

use crate::rules;
use portreeve_crds::{Action, RuleId};
use serde::Serialize;

/// The whole story of one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleDoc {
    /// The rule.
    pub id: RuleId,
    /// A few words.
    pub title: &'static str,
    /// What it finds, exactly.
    pub finds: &'static str,
    /// Why that matters.
    pub why: &'static str,
    /// The action where no policy names the rule.
    pub default_action: Action,
    /// What to do about it.
    pub fix: &'static str,
    /// What action `Fix` changes; none where `Fix` acts as `Warn`.
    pub mend: Option<&'static str>,
    /// What it looks like.
    pub example: Example,
    /// Where the facts come from: KEP, issue, CVE, Kubernetes documentation.
    pub sources: &'static [&'static str],
}

/// Two YAML streams: a Service, and what else of the cluster the rule looks at (EndpointSlices, a TrafficPolicy).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Example {
    /// The rule finds something.
    pub bad: &'static str,
    /// The rule finds nothing.
    pub good: &'static str,
}

/// The whole story of one rule.
#[must_use]
pub fn rule_docs(id: RuleId) -> &'static RuleDoc {
    rules::of(id).doc
}

/// The action of a rule that no policy names.
#[must_use]
pub fn default_action(id: RuleId) -> Action {
    rule_docs(id).default_action
}

#[cfg(test)]
mod tests;
