//! What a health check is told. Pure.
//!
//! Status, headers and the first three fields are kube-proxy's to the byte (`pkg/proxy/healthcheck/service_health.go` of
//! Kubernetes 1.36), in which a listener of a family knows the Pods of that family alone. What differs is what
//! `serviceProxyHealthy` stands on: that the kernel does what the Service needs, not that an object was seen.

use http::StatusCode;
use portreeve_table::{Family, PerFamily, ServiceEntry, ServiceKey, Standing};

/// What is known of a Service that a health check asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) service: ServiceKey,
    /// Unique addresses of ready local Pods.
    pub(crate) ready: PerFamily<usize>,
    /// The engine has the Service in force as it is wanted.
    pub(crate) programmed: bool,
    /// No Pod here takes new flows but for those that are on their way out.
    pub(crate) draining: bool,
}

impl Checked {
    pub(crate) fn new(service: &ServiceKey, entry: &ServiceEntry, programmed: bool) -> Self {
        let none_ready = entry.local_ready.v4 == 0 && entry.local_ready.v6 == 0;
        let leaving = entry.ports.iter().any(|port| port.standing == Standing::LocalDraining);
        Self { service: service.clone(), ready: entry.local_ready, programmed, draining: none_ready && leaving }
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// `X-Load-Balancing-Endpoint-Weight`.
    pub(crate) weight: usize,
    pub(crate) body: String,
}

/// The answer to a check that came over `family`. Nothing of it depends on whether this process is about to end: forwarding
/// stays in force then, and the next check is kube-proxy's.
pub(crate) fn answer(checked: &Checked, family: Family) -> Answer {
    let Checked { service, ready, programmed, draining } = checked;
    let weight = *ready.get(family);
    let status = if weight > 0 && *programmed { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let (namespace, name) = (quoted(&service.namespace), quoted(&service.name));
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {namespace},\n\t\t\"name\": {name}\n\t}},\n\t\"localEndpoints\": {weight},\n\
         \t\"serviceProxyHealthy\": {programmed},\n\t\"programmed\": {programmed},\n\t\"draining\": {draining}\n}}"
    );
    Answer { status, weight, body }
}

#[cfg(test)]
mod tests;
