//! The one owner of the inputs: takes events one at a time and keeps the table in step, recompiling only what an event
//! touches. Synchronous and single-writer; its result equals [`compile`](crate::compile()) of the same inputs.

use crate::admission::{Admission, Entries};
use crate::compile::{Compiled, compile_service, node_addresses, sorted_ranges};
use crate::input::{Capacity, Directive, Input, ServiceInput, SliceInput, ThisNode};
use crate::key::ServiceKey;
use crate::table::ServiceEntry;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

/// One change of an input.
#[derive(Clone, Debug)]
pub enum Event {
    /// A Service is there or has changed.
    Service(ServiceKey, ServiceInput),
    /// A Service is gone.
    ServiceGone(ServiceKey),
    /// A slice is there or has changed.
    Slice {
        /// The Service it belongs to, in the slice's namespace. May differ from before.
        service: ServiceKey,
        /// Name of the slice.
        name: Arc<str>,
        /// Its content.
        slice: SliceInput,
    },
    /// A slice is gone.
    SliceGone {
        /// Namespace of the slice.
        namespace: Arc<str>,
        /// Name of the slice.
        name: Arc<str>,
    },
    /// A directive is there or has changed.
    Directive(ServiceKey, Directive),
    /// A directive is gone.
    DirectiveGone(ServiceKey),
    /// This node is known or has changed.
    ThisNode(ThisNode),
    /// The ranges of the cluster's Pods are known or have changed. No Service's entry depends on them.
    PodRanges(Vec<IpNet>),
    /// The capacity was set.
    Capacity(Capacity),
}

/// What an event did to the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Services that came into the table.
    pub added: BTreeSet<ServiceKey>,
    /// Services whose entry differs.
    pub updated: BTreeSet<ServiceKey>,
    /// Services that left the table.
    pub removed: BTreeSet<ServiceKey>,
    /// Services that were not refused before.
    pub refused: BTreeSet<ServiceKey>,
    /// Whether the node's addresses or the Pod ranges in the table differ.
    pub addresses: bool,
}

impl Changes {
    /// Whether the table is as before and nobody was refused anew.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }

    /// Both, one after the other. A Service that came and went again is in both lists.
    pub fn merge(&mut self, then: Self) {
        let Self { added, updated, removed, refused, addresses } = then;
        self.added.extend(added);
        self.updated.extend(updated);
        self.removed.extend(removed);
        self.refused.extend(refused);
        self.addresses |= addresses;
    }

    /// Services whose entry may differ from the one before.
    pub fn touched(self) -> impl Iterator<Item = ServiceKey> {
        self.added.into_iter().chain(self.updated).chain(self.removed)
    }
}

/// Inputs and the table that follows from them.
#[derive(Debug, Default)]
pub struct Index {
    input: Input,
    /// Service of each slice, by (namespace, name): a slice's label may change.
    slice_owner: BTreeMap<(Arc<str>, Arc<str>), ServiceKey>,
    candidates: Entries,
    admission: Admission,
    compiled: Compiled,
}

impl Index {
    /// The inputs as they are now.
    #[must_use]
    pub const fn input(&self) -> &Input {
        &self.input
    }

    /// The table and its by-products as they are now.
    #[must_use]
    pub const fn compiled(&self) -> &Compiled {
        &self.compiled
    }

    /// Takes one event and brings the table in step with it.
    pub fn apply(&mut self, event: Event) -> Changes {
        match event {
            Event::Service(key, service) => {
                self.input.services.insert(key.clone(), service);
                self.recompile(&key)
            }
            Event::ServiceGone(key) => {
                self.input.services.remove(&key);
                self.recompile(&key)
            }
            Event::Directive(key, directive) => {
                self.input.directives.insert(key.clone(), directive);
                self.recompile(&key)
            }
            Event::DirectiveGone(key) => {
                self.input.directives.remove(&key);
                self.recompile(&key)
            }
            Event::Slice { service, name, slice } => self.put_slice(service, name, slice),
            Event::SliceGone { namespace, name } => {
                self.take_slice(&(namespace, name)).map_or_else(Changes::default, |owner| self.recompile(&owner))
            }
            // A node's heartbeat must not recompile every Service.
            Event::ThisNode(node) if node == self.input.this_node => Changes::default(),
            Event::ThisNode(node) => {
                self.input.this_node = node;
                self.recompile_all()
            }
            Event::PodRanges(ranges) => {
                let before = mem::replace(&mut self.compiled.table.pod_ranges, sorted_ranges(&ranges));
                self.input.pod_ranges = ranges;
                Changes { addresses: before != self.compiled.table.pod_ranges, ..Changes::default() }
            }
            Event::Capacity(capacity) if capacity == self.input.capacity => Changes::default(),
            Event::Capacity(capacity) => {
                self.input.capacity = capacity;
                self.readmit()
            }
        }
    }

    fn put_slice(&mut self, service: ServiceKey, name: Arc<str>, slice: SliceInput) -> Changes {
        let id = (Arc::clone(&service.namespace), Arc::clone(&name));
        let before = match self.slice_owner.get(&id) {
            Some(owner) if *owner != service => self.take_slice(&id),
            _ => None,
        };
        self.slice_owner.insert(id, service.clone());
        self.input.slices.entry(service.clone()).or_default().insert(name, slice);
        let mut changes = before.map_or_else(Changes::default, |owner| self.recompile(&owner));
        changes.absorb(self.recompile(&service));
        changes
    }

    fn take_slice(&mut self, id: &(Arc<str>, Arc<str>)) -> Option<ServiceKey> {
        let owner = self.slice_owner.remove(id)?;
        if let Some(slices) = self.input.slices.get_mut(&owner) {
            slices.remove(&id.1);
            if slices.is_empty() {
                self.input.slices.remove(&owner);
            }
        }
        Some(owner)
    }

    fn recompile(&mut self, key: &ServiceKey) -> Changes {
        let old = self.candidates.get(key).cloned();
        let new = self.compile_one(key).map(Arc::new);
        if old.as_deref() == new.as_deref() {
            self.count();
            return Changes::default();
        }
        match &new {
            Some(entry) => self.candidates.insert(key.clone(), Arc::clone(entry)),
            None => self.candidates.remove(key),
        };
        if self.compiled.refused.is_empty() && self.admission.replace(key, old.as_deref(), new.as_deref()).is_ok() {
            return self.swap(key, old.is_some(), new);
        }
        self.readmit()
    }

    /// Compiles one Service and notes the claim on it.
    fn compile_one(&mut self, key: &ServiceKey) -> Option<ServiceEntry> {
        let Input { this_node, pod_ranges: _, capacity: _, services, slices, directives } = &self.input;
        let Some(service) = services.get(key) else {
            self.compiled.claims.remove(key);
            return None;
        };
        let (claim, entry) = compile_service(service, directives.get(key), slices.get(key), this_node);
        self.compiled.claims.insert(key.clone(), claim);
        entry
    }

    fn swap(&mut self, key: &ServiceKey, was_there: bool, new: Option<Arc<ServiceEntry>>) -> Changes {
        let mut changes = Changes::default();
        match new {
            Some(entry) => {
                self.compiled.table.services.insert(key.clone(), entry);
                if was_there { &mut changes.updated } else { &mut changes.added }.insert(key.clone());
            }
            None => {
                self.compiled.table.services.remove(key);
                changes.removed.insert(key.clone());
            }
        }
        self.count();
        changes
    }

    fn recompile_all(&mut self) -> Changes {
        let addresses = node_addresses(&self.input.this_node);
        let before = mem::replace(&mut self.compiled.table.node_addresses, addresses);
        let keys: Vec<ServiceKey> = self.input.services.keys().cloned().collect();
        self.candidates =
            keys.into_iter().filter_map(|key| self.compile_one(&key).map(|entry| (key, Arc::new(entry)))).collect();
        Changes { addresses: before != self.compiled.table.node_addresses, ..self.readmit() }
    }

    fn readmit(&mut self) -> Changes {
        let (admission, services, refused) = Admission::from_scratch(&self.candidates, self.input.capacity);
        self.admission = admission;
        let before = mem::replace(&mut self.compiled.table.services, services);
        let refused_before = mem::replace(&mut self.compiled.refused, refused);
        self.count();
        let now = &self.compiled.table.services;
        let keys = |entries: &Entries, keep: &dyn Fn(&ServiceKey, &ServiceEntry) -> bool| -> BTreeSet<ServiceKey> {
            entries.iter().filter(|(key, entry)| keep(key, entry)).map(|(key, _)| key.clone()).collect()
        };
        Changes {
            added: keys(now, &|key, _| !before.contains_key(key)),
            updated: keys(now, &|key, entry| before.get(key).is_some_and(|old| **old != *entry)),
            removed: keys(&before, &|key, _| !now.contains_key(key)),
            refused: self.compiled.refused.keys().filter(|key| !refused_before.contains_key(*key)).cloned().collect(),
            addresses: false,
        }
    }

    fn count(&mut self) {
        let Compiled { table, refused, claims, counts } = &mut self.compiled;
        *counts = self.admission.counts(claims.len(), table.services.len(), refused.len());
    }
}

impl Changes {
    /// Adds what a later step of the same event did. The steps touch different Services, or the later one says more.
    fn absorb(&mut self, later: Self) {
        let Self { added, updated, removed, refused, addresses } = later;
        for key in &removed {
            self.added.remove(key);
            self.updated.remove(key);
            self.refused.remove(key);
        }
        self.removed.retain(|key| !added.contains(key));
        self.added.extend(added);
        self.updated.extend(updated);
        self.removed.extend(removed);
        self.refused.extend(refused);
        self.addresses |= addresses;
    }
}

#[cfg(test)]
mod tests;
