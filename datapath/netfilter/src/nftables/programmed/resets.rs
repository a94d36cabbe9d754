//! Clients that are told that their flow has been ended, for as long as some may still come.
//!
//! The rules are in a table of their own: it outlives one of the others that is made anew, and this process, and nobody's
//! packets meet it while there is nobody to tell.

use super::super::ruleset::{Command, resetting};
use super::{ApplyError, commit_to};
use crate::conntrack::Flow;
use crate::netlink::Connection;
use std::time::{Duration, Instant};

const TABLE: &str = "portreeve-resets";
/// A client that says nothing for longer finds another proxy's rules, or nobody.
const TIME: Duration = Duration::from_secs(300);

/// Whether the table may be there, and until when.
#[derive(Debug)]
pub(crate) struct Resets {
    over: Option<Instant>,
}

impl Resets {
    /// What an engine of another life may have left has this long to go at most.
    pub(crate) fn found() -> Self {
        Self { over: Instant::now().checked_add(TIME) }
    }

    /// Tells the clients of `flows` from now on.
    pub(crate) fn begin(&mut self, kernel: &Connection, flows: &[Flow]) -> Result<(), ApplyError> {
        commit_to(kernel, TABLE, &resetting(flows, TIME))?;
        *self = Self::found();
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn let_be_over(&mut self) {
        self.over = Some(Instant::now());
    }

    pub(crate) fn end_when_over(&mut self, kernel: &Connection) -> Result<(), ApplyError> {
        if self.over.is_some_and(|over| over <= Instant::now()) { self.end(kernel) } else { Ok(()) }
    }

    pub(crate) fn end(&mut self, kernel: &Connection) -> Result<(), ApplyError> {
        commit_to(kernel, TABLE, &[Command::RemoveTable])?;
        self.over = None;
        Ok(())
    }
}
