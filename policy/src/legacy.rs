//! Reading the four annotations of Kubernetes 1.4 to 1.7 that stood where `externalTrafficPolicy` and
//! `healthCheckNodePort` stand today.
//!
//! Nothing has read them since Kubernetes 1.8 (kubernetes#50224), and nothing ever carried their value over to the
//! fields: what they say is what somebody once wanted, not what happens.

use k8s_openapi::api::core::v1::Service;
use portreeve_crds::names::legacy::{
    ALL, EXTERNAL_TRAFFIC_ALPHA, EXTERNAL_TRAFFIC_BETA, HEALTH_CHECK_NODE_PORT_ALPHA, HEALTH_CHECK_NODE_PORT_BETA,
};
use std::collections::BTreeMap;

/// The two words that `external-traffic` knew, case-sensitive (kubernetes#29409).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LegacyPolicy {
    /// What the field calls `Local`.
    OnlyLocal,
    /// What the field calls `Cluster`.
    Global,
}

impl LegacyPolicy {
    /// The word as it was written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnlyLocal => "OnlyLocal",
            Self::Global => "Global",
        }
    }

    /// The value of `spec.externalTrafficPolicy` that means the same.
    #[must_use]
    pub const fn field_value(self) -> &'static str {
        match self {
            Self::OnlyLocal => "Local",
            Self::Global => "Cluster",
        }
    }

    fn parse(raw: &str) -> Option<Self> {
        [Self::OnlyLocal, Self::Global].into_iter().find(|word| word.as_str() == raw)
    }
}

/// The value that counts, of an alpha and a beta annotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyValue<T> {
    /// The annotation that it comes from.
    pub key: &'static str,
    /// The value as it stands there.
    pub raw: String,
    /// What it means; none when nobody can say.
    pub meaning: Option<T>,
    /// Whether the alpha annotation is present too and says something else. Kubernetes 1.5 and 1.6 obeyed alpha, 1.7
    /// obeyed beta, so such a Service has changed its behaviour once already.
    pub both_differ: bool,
}

/// The legacy annotations of one Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LegacyAnnotations {
    /// Those that are present, whatever their value.
    pub present: BTreeMap<&'static str, String>,
    /// The policy that counts: beta before alpha, as in 1.7.
    pub external_traffic: Option<LegacyValue<LegacyPolicy>>,
    /// The health check node port that counts: beta before alpha.
    pub health_check_port: Option<LegacyValue<u16>>,
}

impl LegacyAnnotations {
    /// Reads the annotations of `service`.
    #[must_use]
    pub fn parse(service: &Service) -> Self {
        let annotations = service.metadata.annotations.as_ref();
        let present: BTreeMap<&'static str, String> =
            ALL.into_iter().filter_map(|key| Some((key, annotations?.get(key)?.clone()))).collect();
        let external_traffic = effective(&present, EXTERNAL_TRAFFIC_BETA, EXTERNAL_TRAFFIC_ALPHA, LegacyPolicy::parse);
        let health_check_port =
            effective(&present, HEALTH_CHECK_NODE_PORT_BETA, HEALTH_CHECK_NODE_PORT_ALPHA, parse_port);
        Self { present, external_traffic, health_check_port }
    }

    /// Whether none of the four is present.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    /// What `external-traffic` means, where it is present and means something.
    #[must_use]
    pub fn policy(&self) -> Option<LegacyPolicy> {
        self.external_traffic.as_ref().and_then(|value| value.meaning)
    }
}

/// An unreadable beta value is not passed over for a readable alpha one: that would be a guess.
fn effective<T>(
    present: &BTreeMap<&'static str, String>,
    beta: &'static str,
    alpha: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Option<LegacyValue<T>> {
    let (key, raw) = present.get_key_value(beta).or_else(|| present.get_key_value(alpha))?;
    let both_differ = *key == beta && present.get(alpha).is_some_and(|other| other != raw);
    Some(LegacyValue { key, raw: raw.clone(), meaning: parse(raw), both_differ })
}

/// Digits only: `+30000` or ` 30000` never was what the API server had written there.
fn parse_port(raw: &str) -> Option<u16> {
    let port = raw.bytes().all(|byte| byte.is_ascii_digit()).then(|| raw.parse().ok())?;
    port.filter(|port| *port > 0)
}

#[cfg(test)]
mod tests;
