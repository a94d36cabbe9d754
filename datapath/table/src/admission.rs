//! Which claimed Services fit: older before newer, each as a whole or not at all.

use crate::compile::Counts;
use crate::input::Capacity;
use crate::key::ServiceKey;
use crate::table::{Frontend, ServiceEntry};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Why a claimed Service is not in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its frontends do not fit beside those of older Services.
    Frontends {
        /// Frontends of the Service.
        needed: usize,
        /// Room that older Services leave.
        left: usize,
    },
    /// Its backends do not fit beside those of older Services.
    Backends {
        /// Backends of the Service.
        needed: usize,
        /// Room that older Services leave.
        left: usize,
    },
    /// An older Service has one of its frontends.
    Taken {
        /// The first such frontend.
        frontend: Frontend,
        /// The older Service.
        by: ServiceKey,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frontends { needed, left } => {
                write!(out, "it needs {needed} frontends and older Services leave room for {left}")
            }
            Self::Backends { needed, left } => {
                write!(out, "it needs {needed} backends and older Services leave room for {left}")
            }
            Self::Taken { frontend, by } => write!(out, "the older Service {by} has {frontend}"),
        }
    }
}

/// Claimed Services before admission, or those that were admitted.
pub(crate) type Entries = BTreeMap<ServiceKey, Arc<ServiceEntry>>;
/// Those that were not.
pub(crate) type Refusals = BTreeMap<ServiceKey, Refusal>;

/// What admitted Services use. Whether a Service is admitted depends on older ones only.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    owners: BTreeMap<Frontend, ServiceKey>,
    capacity: Capacity,
    backends: usize,
    ready_backends: usize,
}

impl Admission {
    pub(crate) fn from_scratch(candidates: &Entries, capacity: Capacity) -> (Self, Entries, Refusals) {
        let mut by_age: Vec<_> = candidates.iter().collect();
        by_age.sort_unstable_by_key(|(key, entry)| (entry.created, *key));
        let mut admission = Self { capacity, ..Self::default() };
        let (mut admitted, mut refused) = (Entries::new(), Refusals::new());
        for (key, entry) in by_age {
            match admission.refusal(entry) {
                Some(refusal) => {
                    refused.insert(key.clone(), refusal);
                }
                None => {
                    admission.take(key, entry);
                    admitted.insert(key.clone(), Arc::clone(entry));
                }
            }
        }
        (admission, admitted, refused)
    }

    /// Puts `new` in the place of `old` (the admitted entry of the same Service), if that cannot move another Service in
    /// or out; otherwise changes nothing and says so. The caller must know that nobody is refused: then everybody fits in
    /// any order as long as `new` fits beside the others.
    pub(crate) fn replace(
        &mut self,
        key: &ServiceKey,
        old: Option<&ServiceEntry>,
        new: Option<&ServiceEntry>,
    ) -> Result<(), FromScratch> {
        if let Some(old) = old {
            self.give_back(old);
        }
        let Some(new) = new else { return Ok(()) };
        if self.refusal(new).is_some() {
            if let Some(old) = old {
                self.take(key, old);
            }
            return Err(FromScratch);
        }
        self.take(key, new);
        Ok(())
    }

    pub(crate) fn counts(&self, seen: usize, claimed: usize, refused: usize) -> Counts {
        Counts {
            seen,
            claimed,
            refused,
            frontends: self.owners.len(),
            backends: self.backends,
            ready_backends: self.ready_backends,
        }
    }

    fn refusal(&self, entry: &ServiceEntry) -> Option<Refusal> {
        let taken =
            entry.frontends().find_map(|front| self.owners.get(&front.frontend).map(|by| (front.frontend, by.clone())));
        if let Some((frontend, by)) = taken {
            return Some(Refusal::Taken { frontend, by });
        }
        let (needed, left) = (entry.frontends().count(), self.capacity.frontends.saturating_sub(self.owners.len()));
        if needed > left {
            return Some(Refusal::Frontends { needed, left });
        }
        let (needed, left) = (entry.backends(), self.capacity.backends.saturating_sub(self.backends));
        (needed > left).then_some(Refusal::Backends { needed, left })
    }

    fn take(&mut self, key: &ServiceKey, entry: &ServiceEntry) {
        self.owners.extend(entry.frontends().map(|front| (front.frontend, key.clone())));
        self.backends += entry.backends();
        self.ready_backends += entry.ready_backends();
    }

    fn give_back(&mut self, entry: &ServiceEntry) {
        for front in entry.frontends() {
            self.owners.remove(&front.frontend);
        }
        self.backends -= entry.backends();
        self.ready_backends -= entry.ready_backends();
    }
}

/// The change may move other Services in or out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FromScratch;
