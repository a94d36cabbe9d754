//! An EndpointSlice as it is kept: a tenth of its size. What a decision reads is made from it when it is asked for.

use super::trim::SERVICE_NAME;
use crate::key::Key;
use k8s_openapi::api::core::v1::ObjectReference;
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
    identity: Identity,
    node: Option<Box<str>>,
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

/// What tells an endpoint from others when it is in several slices: of a Pod with addresses of both families there is
/// one in each.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Identity {
    /// `namespace/name`.
    Pod(Box<str>),
    /// The first address stands for an endpoint that is no Pod, as in kube-proxy.
    Address(Box<str>),
}

impl StoredSlice {
    pub(super) fn new(slice: EndpointSlice) -> Self {
        let EndpointSlice { address_type, endpoints, metadata, ports: _ } = slice;
        let key = Key::of(&metadata);
        let service = metadata.labels.and_then(|mut labels| labels.remove(SERVICE_NAME)).map(String::into_boxed_str);
        let endpoints = endpoints.into_iter().flatten().filter_map(|endpoint| {
            let conditions = endpoint.conditions.unwrap_or_default();
            Some(StoredEndpoint {
                identity: identity(endpoint.target_ref, endpoint.addresses)?,
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
            addresses: match &endpoint.identity {
                Identity::Address(address) => vec![address.to_string()],
                Identity::Pod(_) => Vec::new(),
            },
            target_ref: match &endpoint.identity {
                Identity::Pod(pod) => pod.split_once('/').map(|(namespace, name)| ObjectReference {
                    kind: Some("Pod".to_owned()),
                    namespace: Some(namespace.to_owned()),
                    name: Some(name.to_owned()),
                    ..ObjectReference::default()
                }),
                Identity::Address(_) => None,
            },
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

fn identity(target: Option<ObjectReference>, addresses: Vec<String>) -> Option<Identity> {
    match target {
        Some(ObjectReference { kind: Some(kind), namespace: Some(namespace), name: Some(name), .. })
            if kind == "Pod" =>
        {
            Some(Identity::Pod(format!("{namespace}/{name}").into_boxed_str()))
        }
        _ => Some(Identity::Address(addresses.into_iter().next()?.into_boxed_str())),
    }
}
