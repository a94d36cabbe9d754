//! A Service, read as the API server reads it.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use portreeve_crds::names;
use portreeve_crds::policy::ServiceType;
use std::collections::BTreeMap;

/// A Service under a rule.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    service: &'a Service,
    spec: Option<&'a ServiceSpec>,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(service: &'a Service) -> Self {
        Self { service, spec: service.spec.as_ref() }
    }

    pub(crate) fn service(self) -> &'a Service {
        self.service
    }

    /// `spec.type`; absent means ClusterIP, as the API server defaults it. `None` for a word that is no type: such an
    /// object cannot be stored, so no rule has anything to say about it.
    pub(crate) fn kind(self) -> Option<ServiceType> {
        match self.spec.and_then(|spec| spec.type_.as_deref()) {
            None | Some("" | "ClusterIP") => Some(ServiceType::ClusterIP),
            Some("NodePort") => Some(ServiceType::NodePort),
            Some("LoadBalancer") => Some(ServiceType::LoadBalancer),
            Some("ExternalName") => Some(ServiceType::ExternalName),
            Some(_) => None,
        }
    }

    /// The API server's condition for `spec.externalTrafficPolicy` (since Kubernetes 1.29).
    pub(crate) fn externally_accessible(self) -> bool {
        match self.kind() {
            Some(ServiceType::NodePort | ServiceType::LoadBalancer) => true,
            Some(ServiceType::ClusterIP) => !self.external_ips().is_empty(),
            Some(ServiceType::ExternalName) | None => false,
        }
    }

    pub(crate) fn headless(self) -> bool {
        self.kind() == Some(ServiceType::ClusterIP)
            && self.spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some("None")
    }

    /// `spec.externalTrafficPolicy` where one is set.
    pub(crate) fn traffic_policy(self) -> Option<&'a str> {
        self.spec.and_then(|spec| spec.external_traffic_policy.as_deref()).filter(|value| !value.is_empty())
    }

    /// Whether external traffic stays on the node that received it.
    pub(crate) fn is_local(self) -> bool {
        self.externally_accessible() && self.traffic_policy() == Some("Local")
    }

    pub(crate) fn external_ips(self) -> &'a [String] {
        self.spec.and_then(|spec| spec.external_ips.as_deref()).unwrap_or_default()
    }

    pub(crate) fn selector(self) -> Option<&'a BTreeMap<String, String>> {
        self.spec.and_then(|spec| spec.selector.as_ref()).filter(|selector| !selector.is_empty())
    }

    pub(crate) fn spec(self) -> Option<&'a ServiceSpec> {
        self.spec
    }

    pub(crate) fn annotation(self, key: &str) -> Option<&'a str> {
        self.service.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Whether the Service's own label asks Portreeve to leave it alone.
    pub(crate) fn ignored(self) -> bool {
        let labels = self.service.metadata.labels.as_ref();
        labels.and_then(|labels| labels.get(names::LABEL_IGNORE)).is_some_and(|value| value == "true")
    }
}
