//! The EndpointSlices of one namespace, by the Service that they belong to.

use super::compact::{CompactSlice, Interner};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use portreeve_policy::EndpointFacts;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The label that says which Service a slice belongs to (KEP-752).
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Slices by name and by Service.
#[derive(Debug, Default)]
pub(super) struct Slices {
    service_of: BTreeMap<Arc<str>, Arc<str>>,
    /// Nearly always one slice, or one for each address family.
    of_service: BTreeMap<Arc<str>, Vec<(Arc<str>, CompactSlice)>>,
}

impl Slices {
    /// Stores a slice; returns the Services whose endpoints may be others now: two when the slice changed hands.
    pub(super) fn put(&mut self, slice: &EndpointSlice, names: &mut Interner) -> Vec<Arc<str>> {
        let name = slice.metadata.name.as_deref().unwrap_or_default();
        let mut touched: Vec<_> = self.remove(name).into_iter().collect();
        let label = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME));
        // A slice without the label serves no Service: kube-proxy leaves it out, too.
        let Some(service) = label.filter(|service| !service.is_empty()) else { return touched };
        let service = match self.of_service.get_key_value(service.as_str()) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::from(service.as_str()),
        };
        let name: Arc<str> = name.into();
        self.service_of.insert(Arc::clone(&name), Arc::clone(&service));
        let slices = self.of_service.entry(Arc::clone(&service)).or_insert_with(|| Vec::with_capacity(1));
        slices.push((name, CompactSlice::new(slice, names)));
        if !touched.contains(&service) {
            touched.push(service);
        }
        touched
    }

    /// Forgets a slice; returns the Service that it belonged to.
    pub(super) fn remove(&mut self, name: &str) -> Option<Arc<str>> {
        let service = self.service_of.remove(name)?;
        if let Some(slices) = self.of_service.get_mut(&service) {
            slices.retain(|(known, _)| known.as_ref() != name);
            if slices.is_empty() {
                self.of_service.remove(&service);
            }
        }
        Some(service)
    }

    /// The endpoints of a Service over all of its slices; none without a slice.
    pub(super) fn facts(&self, service: &str) -> Option<EndpointFacts> {
        let slices: Vec<_> = self.of_service.get(service)?.iter().map(|(_, slice)| slice.expand()).collect();
        Some(EndpointFacts::from_slices(&slices))
    }

    /// Stems of the names of a Service's Pods, ready or not, over all of its slices.
    pub(super) fn stems(&self, service: &str) -> BTreeSet<Arc<str>> {
        let slices = self.of_service.get(service).into_iter().flatten();
        slices.flat_map(|(_, slice)| slice.stems()).map(Arc::clone).collect()
    }

    /// Names of all slices.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.service_of.keys().map(AsRef::as_ref)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.service_of.is_empty()
    }
}
