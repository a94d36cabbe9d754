//! Health checks on their way to listeners of ours, for as long as somebody asks for it.

use super::super::ruleset::{Rule, renewed, steering, steering_rules};
use super::{ApplyError, InForce, Programmed, commit};
use std::net::SocketAddr;

/// The table that steers, and where to.
#[derive(Debug)]
pub(super) struct Steered {
    table: u64,
    listeners: Vec<SocketAddr>,
}

impl Programmed {
    /// The rules that lead to listeners, if it is known which there are.
    pub(super) fn steering(&self) -> Option<Vec<Rule>> {
        let steered = self.steered.as_ref()?;
        let table = self.in_force.as_ref()?.table.handle;
        (steered.table == table).then(|| steering_rules(&steered.listeners))
    }

    /// Renews the lease of `listeners`, or ends it if there are none. The rules that lead to them are made once for a table:
    /// a kernel without `tproxy` refuses them here, and with them nothing else.
    pub(super) fn steer(&mut self, listeners: &[SocketAddr]) -> Result<(), ApplyError> {
        let steered = self.steered.take();
        // After a failure what was in force mostly still is; if not, the kernel refuses.
        let table = self.in_force.as_ref().map(|InForce { table, .. }| table.handle);
        let Some(table) = table.or(steered.as_ref().map(|steered| steered.table)) else {
            // What was programmed in another life has nobody who renews its lease.
            return if listeners.is_empty() { Ok(()) } else { Err(ApplyError::Nothing) };
        };
        if listeners.is_empty() {
            return commit(&self.kernel, &renewed(false));
        }
        let known = steered.is_some_and(|known| known.table == table && known.listeners == listeners);
        commit(&self.kernel, &if known { renewed(true) } else { steering(listeners) })?;
        self.steered = Some(Steered { table, listeners: listeners.to_vec() });
        Ok(())
    }
}
