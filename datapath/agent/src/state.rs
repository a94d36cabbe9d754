//! The one owner of what the agent knows: takes what the watches see, one thing at a time, and keeps the table in step.
//! Synchronous; no clock, no client.

use crate::watch::{Kind, Object, ObjectName, Seen};
use kube::ResourceExt as _;
use portreeve_crds::DatapathConfigSpec;
use portreeve_crds::datapath_config::BackendChoice;
use portreeve_ingest::{self as convert, ConvertError};
use portreeve_table::{Capacity, Changes, Compiled, Event, Index, Names, ServiceKey};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What the agent knows.
#[derive(Debug, Default)]
pub(crate) struct State {
    index: Index,
    names: Names,
    synced: BTreeSet<Kind>,
    bad: BTreeMap<(Kind, ObjectName), String>,
    failing: BTreeMap<Kind, String>,
    node: Option<ThisNode>,
    config: Config,
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
        match self.event(&name, object) {
            Ok(Some(event)) => {
                self.bad.remove(&(kind, name));
                self.index.apply(event)
            }
            Ok(None) => {
                self.bad.remove(&(kind, name.clone()));
                self.gone(kind, name)
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
    fn event(&mut self, name: &ObjectName, object: Object) -> Result<Option<Event>, String> {
        let text = |error: ConvertError| error.to_string();
        match object {
            Object::Service(service) => {
                let input = convert::service(&service, &mut self.names).map_err(text)?;
                Ok(Some(Event::Service(self.key(name), input)))
            }
            Object::EndpointSlice(slice) => {
                let read = convert::slice(&slice, &mut self.names).map_err(text)?;
                Ok(read.map(|(service, slice)| Event::Slice { service, name: Arc::clone(&name.name), slice }))
            }
            Object::ServiceTraffic(guard) => {
                let traffic = guard.0.map_err(|invalid| invalid.error)?;
                Ok(Some(Event::Directive(self.key(name), convert::directive(&traffic.spec))))
            }
            Object::Node(node) => {
                let (this, internal) = convert::node(&node).map_err(text)?;
                self.node = Some(ThisNode { name: node.name_any(), uid: node.uid().unwrap_or_default(), internal });
                Ok(Some(Event::ThisNode(this)))
            }
            Object::DatapathConfig(guard) => {
                let config = guard.0.map_err(|invalid| invalid.error)?;
                Ok(Some(Event::Capacity(self.configure(Some(&config.spec)))))
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
                self.node = None;
                return Changes::default();
            }
        };
        self.index.apply(event)
    }
}

impl State {
    fn configure(&mut self, spec: Option<&DatapathConfigSpec>) -> Capacity {
        let uplinks = spec.and_then(|spec| spec.uplinks.as_ref());
        self.config = Config {
            backend: spec.and_then(|spec| spec.backend).unwrap_or_default(),
            uplinks: uplinks.map(|selection| selection.interfaces.clone()),
        };
        convert::capacity(spec)
    }

    fn key(&mut self, name: &ObjectName) -> ServiceKey {
        ServiceKey { namespace: self.names.share(&name.namespace), name: Arc::clone(&name.name) }
    }

    /// The table and its by-products.
    pub(crate) const fn compiled(&self) -> &Compiled {
        self.index.compiled()
    }

    /// This node, once it has been seen.
    pub(crate) const fn node(&self) -> Option<&ThisNode> {
        self.node.as_ref()
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
