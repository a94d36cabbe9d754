//! The Services of one namespace, by the Pods that they select.
//!
//! A Service of the usual types takes about 3 KiB however little is in it, because each of its maps does; kept as slices of
//! shared strings it takes a tenth. The usual form is made for the few Services that a Pod's labels lead to.
//! Each Service is filed under that pair of its selector which the fewest are filed under, so that a pair which all of
//! them carry (`tier: web`) does not make every lookup a search.

use super::compact::Interner;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::sync::Arc;

type Labels = BTreeMap<String, String>;
type Pairs = Box<[(Arc<str>, Arc<str>)]>;
type ByValue = BTreeMap<Arc<str>, Vec<Arc<CompactService>>>;

/// Services that have a selector; the others select no Pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Services {
    by_name: BTreeMap<Arc<str>, Arc<CompactService>>,
    /// Key, then value, of the pair that a Service is filed under.
    by_pair: BTreeMap<Arc<str>, ByValue>,
}

/// The part of a Service that decides about the Pods behind it: who it selects, which policies match it, and how it is
/// reached.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CompactService {
    name: Arc<str>,
    labels: Pairs,
    selector: Pairs,
    kind: Option<Arc<str>>,
    external_traffic_policy: Option<Arc<str>>,
    internal_traffic_policy: Option<Arc<str>>,
    cluster_ip: Option<Box<str>>,
    external_ips: Option<Box<[String]>>,
}

impl CompactService {
    /// None for a Service without a selector.
    pub(super) fn new(service: Service, names: &mut Interner) -> Option<Self> {
        let spec = service.spec?;
        let selector = spec.selector.filter(|selector| !selector.is_empty())?;
        let mut pairs = |labels: Labels| labels.iter().map(|(key, value)| (names.get(key), names.get(value))).collect();
        let (selector, labels) = (pairs(selector), pairs(service.metadata.labels.unwrap_or_default()));
        let mut name = |text: Option<String>| text.map(|text| names.get(&text));
        Some(Self {
            kind: name(spec.type_),
            external_traffic_policy: name(spec.external_traffic_policy),
            internal_traffic_policy: name(spec.internal_traffic_policy),
            name: names.get(&service.metadata.name.unwrap_or_default()),
            labels,
            selector,
            cluster_ip: spec.cluster_ip.map(String::into_boxed_str),
            external_ips: spec.external_ips.map(Vec::into_boxed_slice),
        })
    }

    fn expand(&self, namespace: &str) -> Service {
        let Self {
            name,
            labels,
            selector,
            kind,
            external_traffic_policy,
            internal_traffic_policy,
            cluster_ip,
            external_ips,
        } = self;
        let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        let map = |pairs: &Pairs| pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        Service {
            metadata: ObjectMeta {
                name: Some(name.to_string()),
                namespace: Some(namespace.to_owned()),
                labels: (!labels.is_empty()).then(|| map(labels)),
                ..ObjectMeta::default()
            },
            spec: Some(ServiceSpec {
                type_: text(kind),
                external_traffic_policy: text(external_traffic_policy),
                internal_traffic_policy: text(internal_traffic_policy),
                cluster_ip: cluster_ip.as_deref().map(str::to_owned),
                external_ips: external_ips.as_deref().map(<[_]>::to_vec),
                selector: Some(map(selector)),
                ..ServiceSpec::default()
            }),
            status: None,
        }
    }

    fn selects(&self, labels: &Labels) -> bool {
        self.selector.iter().all(|(key, value)| labels.get(&**key).is_some_and(|carried| **carried == **value))
    }
}

impl Services {
    /// Whether exactly this is held already.
    pub(super) fn holds(&self, service: &CompactService) -> bool {
        self.by_name.get(&service.name).is_some_and(|known| **known == *service)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    /// Puts a Service in, in place of what was held under its name.
    pub(super) fn put(&mut self, service: CompactService) {
        self.remove(&service.name);
        let service = Arc::new(service);
        if let Some((key, value)) = service.selector.iter().min_by_key(|(key, value)| self.filed(key, value)) {
            let values = self.by_pair.entry(Arc::clone(key)).or_default();
            let filed = values.entry(Arc::clone(value)).or_insert_with(|| Vec::with_capacity(1));
            filed.push(Arc::clone(&service));
        }
        self.by_name.insert(Arc::clone(&service.name), service);
    }

    pub(super) fn remove(&mut self, name: &str) {
        let Some(service) = self.by_name.remove(name) else { return };
        // It lies under one of its own pairs; which one depends on what was there when it came.
        for (key, value) in &service.selector {
            let Some(values) = self.by_pair.get_mut(key) else { continue };
            if let Some(filed) = values.get_mut(value) {
                filed.retain(|known| known.name != service.name);
                if filed.is_empty() {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.by_pair.remove(key);
            }
        }
    }

    /// Services that select a Pod with these labels, by name.
    pub(super) fn selecting(&self, namespace: &str, labels: &Labels) -> Vec<Service> {
        let filed =
            labels.iter().filter_map(|(key, value)| self.by_pair.get(key.as_str())?.get(value.as_str())).flatten();
        let mut found: Vec<_> = filed.filter(|service| service.selects(labels)).collect();
        found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        found.into_iter().map(|service| service.expand(namespace)).collect()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(AsRef::as_ref)
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    fn filed(&self, key: &str, value: &str) -> usize {
        self.by_pair.get(key).and_then(|values| values.get(value)).map_or(0, Vec::len)
    }
}

#[cfg(test)]
mod tests;
