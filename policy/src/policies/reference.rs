//! Naming a policy.

use serde::Serialize;
use std::fmt;

/// What kind a policy is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum PolicyKind {
    /// ClusterTrafficPolicy, written `ctp`.
    Cluster,
    /// TrafficPolicy, written `tp`.
    Namespaced,
}

impl PolicyKind {
    /// The kind's short name, as kubectl knows it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "ctp",
            Self::Namespaced => "tp",
        }
    }
}

/// Which policy decided something. Displays as `ctp/baseline` or `tp/shop/strict`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    /// Its kind.
    pub kind: PolicyKind,
    /// Its namespace; none for a ClusterTrafficPolicy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl PolicyRef {
    /// How texts write "no policy, the built-in action".
    pub const BUILT_IN: &str = "built-in";

    /// The reference without the namespace, for texts that appear beside the Service: `ctp/baseline`, `tp/strict`.
    #[must_use]
    pub fn short(&self) -> String {
        format!("{}/{}", self.kind.as_str(), self.name)
    }
}

impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{}/{namespace}/{}", self.kind.as_str(), self.name),
            None => write!(f, "{}/{}", self.kind.as_str(), self.name),
        }
    }
}
