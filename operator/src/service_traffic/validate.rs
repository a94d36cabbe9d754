//! Step 2, no client: does this Service get a report, and is the one there its own?

use super::dereference::{Dereferenced, Live};
use crate::index::StoredReport;
use crate::key::Key;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use portreeve_policy::facts::ClusterFacts;

/// What is to be done about a Service's report, before its content is known.
pub(crate) enum Validated<'a> {
    /// The Service gets a report.
    Report { key: Key, live: Live<'a>, report: Option<&'a StoredReport>, cluster: ClusterFacts },
    /// A report exists that should not: the Service left the set, or was made anew under the same name.
    Remove { key: Key, uid: Option<String> },
    /// Nothing to do.
    Nothing,
}

pub(crate) fn validate(found: Dereferenced<'_>) -> Validated<'_> {
    let Dereferenced { key, live, report, cluster } = found;
    let remove =
        |key: Key, report: &StoredReport| Validated::Remove { key, uid: report.uid.as_deref().map(str::to_owned) };
    let Some(live) = live.filter(|live| reportable(live.service)) else {
        return report.map_or(Validated::Nothing, |report| remove(key, report));
    };
    match report {
        Some(report) if !live.service.metadata.uid.as_deref().is_some_and(|uid| report.owned_by(uid)) => {
            remove(key, report)
        }
        _ => Validated::Report { key, live, report, cluster },
    }
}

/// Whether outside clients can reach the Service and its policy is `Local`. A Service that is being deleted keeps its
/// report until it is gone.
pub(crate) fn reportable(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    reachable(spec) && spec.external_traffic_policy.as_deref() == Some("Local")
}

fn reachable(spec: &ServiceSpec) -> bool {
    match spec.type_.as_deref() {
        Some("NodePort" | "LoadBalancer") => true,
        Some("ExternalName") => false,
        _ => spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()),
    }
}
