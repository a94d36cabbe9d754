//! Services by the Pods that they select: who stands before a Pod with these labels?
//!
//! Each Service is filed under one pair of its selector, the one under which the fewest are filed already. A Pod is
//! looked up by each of its labels, and what is found there is compared in full. So a lookup costs what the Pod's
//! labels hold, not what the cluster holds, and a pair that everything carries (`tier=web`) does not fill up.

use crate::selectors::{Labels, service_selects};
use crate::subject::Subject;
use k8s_openapi::api::core::v1::Service;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All Services of a cluster. Synchronous and without locks: one owner applies what the watch says.
#[derive(Clone, Debug, Default)]
pub struct ServiceIndex {
    namespaces: BTreeMap<String, NamespaceIndex>,
    count: usize,
}

#[derive(Clone, Debug, Default)]
struct NamespaceIndex {
    by_name: BTreeMap<String, Entry>,
    /// Label key, then value, then the Services filed under the pair, by name.
    by_pair: BTreeMap<String, BTreeMap<String, BTreeMap<String, Arc<Service>>>>,
}

#[derive(Clone, Debug)]
struct Entry {
    service: Arc<Service>,
    /// Where it is filed; none without a selector.
    pair: Option<(String, String)>,
}

impl ServiceIndex {
    /// Puts a Service in, in place of what was known under its name.
    pub fn apply(&mut self, service: impl Into<Arc<Service>>) {
        let service = service.into();
        let namespace = service.metadata.namespace.clone().unwrap_or_default();
        let name = service.metadata.name.clone().unwrap_or_default();
        let index = self.namespaces.entry(namespace).or_default();
        let known = index.remove(&name);
        index.insert(name, service);
        self.count += usize::from(!known);
    }

    /// Takes a Service out. One that is not there is no mistake: a watch may say so twice.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        let Some(index) = self.namespaces.get_mut(namespace) else { return };
        self.count -= usize::from(index.remove(name));
        if index.by_name.is_empty() {
            self.namespaces.remove(namespace);
        }
    }

    /// The Service of this name.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        self.namespaces.get(namespace)?.by_name.get(name).map(|entry| &entry.service)
    }

    /// Services of `namespace` whose selector selects a Pod with these labels, by name.
    #[must_use]
    pub fn services_for(&self, namespace: &str, labels: &Labels) -> Vec<&Service> {
        let Some(index) = self.namespaces.get(namespace) else { return Vec::new() };
        let filed = labels.iter().filter_map(|(key, value)| index.by_pair.get(key)?.get(value)).flatten();
        let mut found: Vec<(&String, &Service)> = filed
            .map(|(name, service)| (name, service.as_ref()))
            .filter(|(_, service)| service_selects(Subject::new(service).selector(), labels))
            .collect();
        // No Service is filed under two pairs, so there is nothing to de-duplicate.
        found.sort_unstable_by_key(|(name, _)| *name);
        found.into_iter().map(|(_, service)| service).collect()
    }

    /// Number of Services.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl NamespaceIndex {
    fn insert(&mut self, name: String, service: Arc<Service>) {
        let selector = Subject::new(&service).selector();
        let pair = selector.into_iter().flatten().min_by_key(|(key, value)| self.filed_under(key, value));
        let pair = pair.map(|(key, value)| (key.clone(), value.clone()));
        if let Some((key, value)) = &pair {
            let bucket = self.by_pair.entry(key.clone()).or_default().entry(value.clone()).or_default();
            bucket.insert(name.clone(), Arc::clone(&service));
        }
        self.by_name.insert(name, Entry { service, pair });
    }

    /// Whether there was something to remove.
    fn remove(&mut self, name: &str) -> bool {
        let Some(entry) = self.by_name.remove(name) else { return false };
        if let Some((key, value)) = entry.pair
            && let Some(values) = self.by_pair.get_mut(&key)
            && let Some(bucket) = values.get_mut(&value)
        {
            bucket.remove(name);
            if bucket.is_empty() {
                values.remove(&value);
            }
            if values.is_empty() {
                self.by_pair.remove(&key);
            }
        }
        true
    }

    fn filed_under(&self, key: &str, value: &str) -> usize {
        self.by_pair.get(key).and_then(|values| values.get(value)).map_or(0, BTreeMap::len)
    }
}

#[cfg(test)]
mod tests;
