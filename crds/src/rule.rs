//! The vocabulary of rules: stable ids, actions and modes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Stable id of a rule. An id never changes its meaning and is never reused.
///
/// `kubectl portreeve explain <ID>` tells the whole story of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(description = "Stable id of a rule; `kubectl portreeve explain ID` tells what it finds and why.")]
pub enum RuleId {
    /// A legacy external-traffic or healthcheck-nodeport annotation is present.
    ETP001,
    /// A legacy annotation contradicts `spec.externalTrafficPolicy`.
    ETP002,
    /// `externalTrafficPolicy: Local` on a ClusterIP Service with externalIPs.
    ETP003,
    /// `Local` on a NodePort Service: no health check node port exists, so nothing keeps clients off empty nodes.
    ETP004,
    /// `Local` and no ready Pod, or ready Pods on fewer nodes than the policy wants.
    ETP005,
    /// `Cluster` where the policy requires the client's address.
    ETP006,
    /// Predicted imbalance above the policy's limit.
    ETP008,
    /// externalIPs in use (CVE-2020-8554; deprecated since Kubernetes 1.36).
    ETP013,
    /// Deprecated siblings of the field: source-ranges annotation, topology-aware hints, `PreferClose`, `loadBalancerIP`.
    ETP015,
    /// externalTrafficPolicy on a Service that cannot be reached from outside (plain ClusterIP, headless, ExternalName).
    ETP016,
}

impl RuleId {
    /// Every rule, by id.
    pub const ALL: [Self; 10] = [
        Self::ETP001,
        Self::ETP002,
        Self::ETP003,
        Self::ETP004,
        Self::ETP005,
        Self::ETP006,
        Self::ETP008,
        Self::ETP013,
        Self::ETP015,
        Self::ETP016,
    ];

    /// The id as it is written everywhere, e.g. `ETP016`. Safe as a metric label: the set is closed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ETP001 => "ETP001",
            Self::ETP002 => "ETP002",
            Self::ETP003 => "ETP003",
            Self::ETP004 => "ETP004",
            Self::ETP005 => "ETP005",
            Self::ETP006 => "ETP006",
            Self::ETP008 => "ETP008",
            Self::ETP013 => "ETP013",
            Self::ETP015 => "ETP015",
            Self::ETP016 => "ETP016",
        }
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What happens when a rule finds something. The derived order is the order of strictness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(
    description = "What happens when the rule finds something, from least to most strict: Off, Audit (metrics, \
                          audit annotations and status only), Warn (kubectl prints a warning), Fix (the webhook mends \
                          the object and warns), Deny (the write is refused)."
)]
pub enum Action {
    /// The rule is not evaluated.
    Off,
    /// Counted, and written to status and audit annotations; the user sees nothing.
    Audit,
    /// The write passes and kubectl prints a warning.
    Warn,
    /// The webhook mends the object and warns. Where a rule has no mend, `Fix` acts as `Warn`.
    Fix,
    /// The write is refused.
    Deny,
}

impl Action {
    /// The action as it is written in manifests and metric labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "Off",
            Self::Audit => "Audit",
            Self::Warn => "Warn",
            Self::Fix => "Fix",
            Self::Deny => "Deny",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How far a policy may go: a ceiling over the actions of its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(
    description = "How far the policy may go: a ceiling over the actions of its rules. Audit: nothing is said to \
                          users. Warn: warnings at most. Enforce: every action as written."
)]
pub enum Mode {
    /// No action goes beyond [`Action::Audit`].
    Audit,
    /// No action goes beyond [`Action::Warn`].
    Warn,
    /// Every action as written.
    Enforce,
}

impl Mode {
    /// `action`, lowered to what this mode allows.
    #[must_use]
    pub fn cap(self, action: Action) -> Action {
        match self {
            Self::Audit => action.min(Action::Audit),
            Self::Warn => action.min(Action::Warn),
            Self::Enforce => action,
        }
    }
}
