//! The one owner of what the agent knows: takes what the watches see, one thing at a time, and keeps the table in step.
//! Synchronous; no clock, no client.

use crate::watch::{Kind, Object, ObjectName, Seen};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::ResourceExt as _;
use portreeve_crds::DatapathConfigSpec;
use portreeve_crds::datapath_config::BackendChoice;
use portreeve_ingest::{self as ingest, ConvertError};
use portreeve_table::{Capacity, Changes, Compiled, Event, Index, Names, Protocol, ServiceKey};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What the agent knows.
#[derive(Debug)]
pub(crate) struct State {
    node_name: String,
    index: Index,
    /// Ranges that each node gives to its Pods.
    pod_ranges: BTreeMap<Arc<str>, Vec<IpNet>>,
    names: Names,
    synced: BTreeSet<Kind>,
    bad: BTreeMap<(Kind, ObjectName), String>,
    failing: BTreeMap<Kind, String>,
    node: Option<ThisNode>,
    eligible: bool,
    config: Config,
}

/// The taint of a node that the cluster autoscaler is about to take away.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

/// kube-proxy's reading (KEP-3836).
fn eligible(node: &Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    node.metadata.deletion_timestamp.is_none() && !taints.any(|taint| taint.key == TO_BE_DELETED)
}

/// This node, as far as the report needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ThisNode {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) internal: Vec<IpAddr>,
}

/// What DatapathConfig asks of this agent beside the capacity, which the index holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) backend: BackendChoice,
    pub(crate) uplinks: Option<Vec<String>>,
}

impl State {
    /// The agent of this node, before anything was seen.
    pub(crate) fn of_node(name: &str) -> Self {
        Self {
            node_name: name.to_owned(),
            index: Index::default(),
            pod_ranges: BTreeMap::new(),
            names: Names::default(),
            synced: BTreeSet::new(),
            bad: BTreeMap::new(),
            failing: BTreeMap::new(),
            node: None,
            eligible: true,
            config: Config::default(),
        }
    }

    /// Takes one thing that was seen.
    pub(crate) fn take(&mut self, seen: Seen) -> Changes {
        match seen {
            Seen::Put(name, object) => self.put(name, object),
            Seen::Gone(kind, name) => {
                self.bad.remove(&(kind, name.clone()));
                self.gone(kind, name)
            }
            Seen::Synced(kind) => {
                self.synced.insert(kind);
                self.failing.remove(&kind);
                Changes::default()
            }
            Seen::Failed(kind, error) => {
                self.failing.insert(kind, error.to_string());
                Changes::default()
            }
        }
    }

    fn put(&mut self, name: ObjectName, object: Object) -> Changes {
        let kind = object.kind();
        self.failing.remove(&kind);
        match self.events(&name, object) {
            Ok(events) if events.is_empty() => {
                self.bad.remove(&(kind, name.clone()));
                self.gone(kind, name)
            }
            Ok(events) => {
                self.bad.remove(&(kind, name));
                let mut changes = Changes::default();
                events.into_iter().for_each(|event| changes.merge(self.index.apply(event)));
                changes
            }
            Err(why) => {
                self.bad.insert((kind, name.clone()), why);
                match kind {
                    // Without them kube-proxy serves: the safe side for a Service that cannot be read.
                    Kind::Service | Kind::EndpointSlice | Kind::ServiceTraffic => self.gone(kind, name),
                    // Without them everything would change: the last that could be read stays.
                    Kind::Node | Kind::DatapathConfig => Changes::default(),
                }
            }
        }
    }

    /// What an object means to the index; nothing for a slice that is not one of a Service.
    fn events(&mut self, name: &ObjectName, object: Object) -> Result<Vec<Event>, String> {
        let text = |error: ConvertError| error.to_string();
        match object {
            Object::Service(service) => {
                let input = ingest::service(&service, &mut self.names).map_err(text)?;
                Ok(vec![Event::Service(self.key(name), input)])
            }
            Object::EndpointSlice(slice) => {
                let read = ingest::slice(&slice, &mut self.names).map_err(text)?;
                let event = |(service, slice)| Event::Slice { service, name: Arc::clone(&name.name), slice };
                Ok(read.map(event).into_iter().collect())
            }
            Object::ServiceTraffic(guard) => {
                let traffic = guard.0.map_err(|invalid| invalid.error)?;
                Ok(vec![Event::Directive(self.key(name), ingest::directive(&traffic.spec))])
            }
            Object::Node(node) => self.node_events(name, &node).map_err(text),
            Object::DatapathConfig(guard) => {
                let config = guard.0.map_err(|invalid| invalid.error)?;
                Ok(vec![Event::Capacity(self.configure(Some(&config.spec)))])
            }
        }
    }

    fn gone(&mut self, kind: Kind, name: ObjectName) -> Changes {
        let event = match kind {
            Kind::Service => Event::ServiceGone(self.key(&name)),
            Kind::ServiceTraffic => Event::DirectiveGone(self.key(&name)),
            Kind::EndpointSlice => Event::SliceGone { namespace: self.names.share(&name.namespace), name: name.name },
            Kind::DatapathConfig => Event::Capacity(self.configure(None)),
            Kind::Node => {
                if *name.name == *self.node_name {
                    self.node = None;
                    self.eligible = false;
                }
                self.pod_ranges.remove(&name.name);
                self.all_pod_ranges()
            }
        };
        self.index.apply(event)
    }

    /// What a Node means: every one tells its Pods' ranges, and this agent's also its addresses.
    fn node_events(&mut self, name: &ObjectName, node: &Node) -> Result<Vec<Event>, ConvertError> {
        if *name.name == *self.node_name {
            self.eligible = eligible(node);
        }
        let own = (*name.name == *self.node_name).then(|| ingest::node(node)).transpose()?;
        self.pod_ranges.insert(Arc::clone(&name.name), ingest::pod_ranges(node)?);
        let mut events = vec![self.all_pod_ranges()];
        if let Some((this, internal)) = own {
            self.node = Some(ThisNode { name: node.name_any(), uid: node.uid().unwrap_or_default(), internal });
            events.push(Event::ThisNode(this));
        }
        Ok(events)
    }

    fn all_pod_ranges(&self) -> Event {
        Event::PodRanges(self.pod_ranges.values().flatten().copied().collect())
    }
}

impl State {
    fn configure(&mut self, spec: Option<&DatapathConfigSpec>) -> Capacity {
        let uplinks = spec.and_then(|spec| spec.uplinks.as_ref());
        self.config = Config {
            backend: spec.and_then(|spec| spec.backend).unwrap_or_default(),
            uplinks: uplinks.map(|selection| selection.interfaces.clone()),
        };
        ingest::capacity(spec)
    }

    fn key(&mut self, name: &ObjectName) -> ServiceKey {
        ServiceKey { namespace: self.names.share(&name.namespace), name: Arc::clone(&name.name) }
    }

    /// The table and its by-products.
    pub(crate) const fn compiled(&self) -> &Compiled {
        self.index.compiled()
    }

    /// Whether flows of a Service to a Pod go on, be the Service claimed or not.
    pub(crate) fn keeps(&self, service: &ServiceKey, protocol: Protocol, pod: SocketAddr) -> bool {
        match self.compiled().table.services.get(service) {
            Some(entry) => entry.keeps(protocol, pod),
            None => self.index.input().keeps(service, protocol, pod),
        }
    }

    /// This node, once it has been seen.
    pub(crate) const fn node(&self) -> Option<&ThisNode> {
        self.node.as_ref()
    }

    /// Names of all nodes.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &str> {
        self.pod_ranges.keys().map(|name| &**name)
    }

    /// Whether load balancers should send this node new connections, as far as its Node says. It is until it says otherwise.
    pub(crate) const fn eligible(&self) -> bool {
        self.eligible
    }

    /// What DatapathConfig asks for.
    pub(crate) const fn config(&self) -> &Config {
        &self.config
    }

    /// Kinds that have not been listed to the end yet.
    pub(crate) fn waiting_for(&self) -> Vec<Kind> {
        Kind::ALL.into_iter().filter(|kind| !self.synced.contains(kind)).collect()
    }

    /// Objects that cannot be read, with the reason.
    pub(crate) const fn bad(&self) -> &BTreeMap<(Kind, ObjectName), String> {
        &self.bad
    }

    /// Watches that fail, with the last error.
    pub(crate) const fn failing(&self) -> &BTreeMap<Kind, String> {
        &self.failing
    }

    /// Gives back the memory of names that nothing holds any more.
    pub(crate) fn tidy(&mut self) {
        self.names.forget_unused();
    }
}

#[cfg(test)]
mod tests;
