//! Step 1, no client: everything about one Service, out of the index.

use crate::assess::{Assessed, Subject, assess};
use crate::index::{Index, StoredReport};
use crate::key::Key;
use crate::policies::aspects_of;
use k8s_openapi::api::core::v1::Service;
use portreeve_policy::facts::{ClusterFacts, EndpointFacts};

/// What is known of one Service and of its report.
pub(crate) struct Dereferenced<'a> {
    pub(crate) key: Key,
    /// Absent: the Service is gone.
    pub(crate) live: Option<Live<'a>>,
    pub(crate) report: Option<&'a StoredReport>,
    pub(crate) cluster: ClusterFacts,
}

/// A Service that exists.
pub(crate) struct Live<'a> {
    pub(crate) service: &'a Service,
    pub(crate) endpoints: EndpointFacts,
    pub(crate) assessed: Assessed,
}

pub(crate) fn dereference(index: &mut Index, key: Key) -> Dereferenced<'_> {
    let (set, _) = index.compiled();
    let index: &Index = index;
    let cluster = index.cluster();
    let live = index.services.get(&key).map(|service| {
        let endpoints = index.endpoints(&key);
        let namespace = index.namespace(&key.namespace);
        let subject = Subject { service, namespace: &namespace, endpoints: &endpoints, cluster };
        let assessed = assess(&set, &subject, &|policy| aspects_of(index, policy));
        Live { service, endpoints, assessed }
    });
    Dereferenced { report: index.reports.get(&key), key, live, cluster }
}
