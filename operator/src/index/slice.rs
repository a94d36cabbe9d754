//! An EndpointSlice as it is kept: a tenth of its size. What a decision reads is made from it when it is asked for.

use super::trim::SERVICE_NAME;
use crate::key::Key;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};

/// What is kept of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredSlice {
    pub(super) key: Key,
    uid: Option<Box<str>>,
    version: Option<u64>,
    /// Name of the Service that it belongs to, by the label that the endpoint controllers set (KEP-752).
    service: Option<Box<str>>,
    address_type: Box<str>,
    endpoints: Box<[StoredEndpoint]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct StoredEndpoint {
    /// The first address stands for the endpoint, as in kube-proxy.
    address: Box<str>,
    node: Option<Box<str>>,
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

impl StoredSlice {
    pub(super) fn new(slice: EndpointSlice) -> Self {
        let EndpointSlice { address_type, endpoints, metadata, ports: _ } = slice;
        let key = Key::of(&metadata);
        let service = metadata.labels.and_then(|mut labels| labels.remove(SERVICE_NAME)).map(String::into_boxed_str);
        let endpoints = endpoints.into_iter().flatten().filter_map(|endpoint| {
            let conditions = endpoint.conditions.unwrap_or_default();
            Some(StoredEndpoint {
                address: endpoint.addresses.into_iter().next()?.into_boxed_str(),
                node: endpoint.node_name.map(String::into_boxed_str),
                ready: conditions.ready,
                serving: conditions.serving,
                terminating: conditions.terminating,
            })
        });
        Self {
            key,
            uid: metadata.uid.map(String::into_boxed_str),
            version: metadata.resource_version.and_then(|version| version.parse().ok()),
            service,
            address_type: address_type.into_boxed_str(),
            endpoints: endpoints.collect(),
        }
    }

    /// The Service that the slice belongs to.
    pub(super) fn service(&self) -> Option<Key> {
        Some(Key::new(self.key.namespace.clone(), self.service.as_deref()?))
    }

    /// Whether `new` may take the place of this one; see the index.
    pub(super) fn gives_way_to(&self, new: &Self) -> bool {
        match (self.version, new.version) {
            (Some(old), Some(version)) if self.uid == new.uid => version > old,
            _ => true,
        }
    }

    /// Whether both say the same about the same Service.
    pub(super) fn says_the_same(&self, other: &Self) -> bool {
        self.service == other.service && self.endpoints == other.endpoints
    }

    /// The slice with what endpoint facts are read from.
    pub(super) fn to_slice(&self) -> EndpointSlice {
        let endpoints = self.endpoints.iter().map(|endpoint| Endpoint {
            addresses: vec![endpoint.address.to_string()],
            node_name: endpoint.node.as_deref().map(str::to_owned),
            conditions: Some(EndpointConditions {
                ready: endpoint.ready,
                serving: endpoint.serving,
                terminating: endpoint.terminating,
            }),
            ..Endpoint::default()
        });
        EndpointSlice {
            address_type: self.address_type.to_string(),
            endpoints: Some(endpoints.collect()),
            ..EndpointSlice::default()
        }
    }
}
