//! What the servers answer from: immutable; the next picture shares with the last what has not changed. Pure.

use super::answer::Checked;
use portreeve_table::{ClaimedMode, ForwardingTable, ServiceEntry, ServiceKey};
use rpds::HashTrieMapSync;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// Services that are taken and have a health check, by its port.
pub(super) type Entries = BTreeMap<u16, (ServiceKey, Arc<ServiceEntry>)>;

/// The health check node port of a Service, if its health checks come here.
pub(super) fn checked(entry: &Arc<ServiceEntry>) -> Option<(u16, &Arc<ServiceEntry>)> {
    let taken = entry.mode != ClaimedMode::Observe;
    entry.health_check_node_port.filter(|_| taken).map(|port| (port, entry))
}

/// The Services of `table` whose health checks come here.
pub(super) fn entries(table: &ForwardingTable) -> Entries {
    let taken = table.services.iter().filter_map(|(key, entry)| checked(entry).map(|(port, entry)| (port, key, entry)));
    taken.map(|(port, key, entry)| (port, (key.clone(), Arc::clone(entry)))).collect()
}

/// One picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// By health check node port.
    pub(super) ports: HashTrieMapSync<u16, Arc<Checked>>,
    /// The node is neither being deleted nor about to be.
    pub(super) eligible: bool,
    /// When the kernel was last known to do what was wanted.
    pub(super) updated: Option<Instant>,
    /// Since when it is known not to.
    pub(super) behind: Option<Instant>,
}

/// A node is eligible until it says otherwise.
impl Default for Snapshot {
    fn default() -> Self {
        Self { ports: HashTrieMapSync::default(), eligible: true, updated: None, behind: None }
    }
}

impl Snapshot {
    /// After a round that succeeded, and that changed who has a health check, or what it hears, at `ports` alone.
    pub(super) fn after(&self, in_force: &Entries, ports: &BTreeSet<u16>, eligible: bool, now: Instant) -> Self {
        let mut told = self.ports.clone();
        for port in ports {
            match in_force.get(port) {
                Some((key, entry)) => told.insert_mut(*port, Arc::new(Checked::new(key, entry, true))),
                None => _ = told.remove_mut(port),
            }
        }
        Self { ports: told, eligible, updated: Some(now), behind: None }
    }

    /// After a round that succeeded where others had failed.
    pub(super) fn in_step(in_force: &Entries, eligible: bool, now: Instant) -> Self {
        Self::default().after(in_force, &in_force.keys().copied().collect(), eligible, now)
    }

    /// While rounds fail: a Service is programmed if it is wanted as it was when one last succeeded, since what the kernel
    /// refuses leaves the old in force. How many Pods are ready is told as it is, programmed or not.
    pub(super) fn behind(in_force: &Entries, wanted: &Entries, eligible: bool, last: &Self, now: Instant) -> Self {
        let dropped = in_force.iter().filter(|(port, _)| !wanted.contains_key(*port));
        let dropped = dropped.map(|(port, (key, entry))| (*port, Checked::new(key, entry, false)));
        let wanted = wanted.iter().map(|(port, one)| {
            let (key, entry) = one;
            (*port, Checked::new(key, entry, in_force.get(port) == Some(one)))
        });
        Self {
            ports: dropped.chain(wanted).map(|(port, checked)| (port, Arc::new(checked))).collect(),
            eligible,
            updated: last.updated,
            behind: last.behind.or(Some(now)),
        }
    }

    /// The same, of a node that is eligible or not.
    pub(super) fn of_node(&self, eligible: bool) -> Self {
        Self { eligible, ..self.clone() }
    }
}
