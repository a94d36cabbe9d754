//! Our table in the kernel.

mod clients;
mod dump;
mod flows;
mod health;
mod read_back;
mod resets;

use super::encode::encode;
use super::ruleset::{Command, Ruleset, TABLE, render, replace};
use crate::conntrack::Flows;
use crate::message::{self, Answer};
use crate::netlink::{Connection, NetlinkError};
use crate::watch::{Concern, Heard, Watch};
use portreeve_table::{
    Applied, Difference, Engine, EngineError, ForwardingTable, Goal, Integrity, Keeps, Op, PodFlows, ServiceKey,
};
pub(crate) use resets::Resets;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// Most readings of a table that others keep changing beside.
const READINGS: u8 = 3;

/// Why a ruleset is not known to be in force.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The kernel could not be asked, or did not answer: whether it has changed anything is unknown.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The kernel refused a step, and with it all others.
    #[error("the kernel refuses to {command}: {source}")]
    Refused {
        /// The step.
        command: Box<Command>,
        /// The kernel's errno.
        source: io::Error,
    },
    /// The kernel refused the steps as a whole.
    #[error("the kernel refuses the transaction: {0}")]
    Transaction(#[source] io::Error),
    /// What Pods remember of their clients is lost with the table that is replaced, unless it is read before.
    #[error("the clients that Pods remember cannot be read, and choose anew after the next attempt: {0}")]
    Clients(#[source] NetlinkError),
    /// There is no table of ours to add to.
    #[error("nothing is programmed yet; it can be asked again after the next round")]
    Nothing,
}

/// Our table in a network namespace, and what is known of it.
#[derive(Debug)]
pub struct Programmed {
    kernel: Connection,
    watch: Watch,
    in_force: Option<InForce>,
    steered: Option<health::Steered>,
    flows: Flows,
    resets: Resets,
    /// Whether the next replacement brings clients along: not after an attempt that failed, so that what somebody has put
    /// into our table keeps nobody from replacing it.
    brings_clients: bool,
}

#[derive(Debug)]
struct InForce {
    ruleset: Ruleset,
    generation: u32,
    table: Identity,
}

/// What tells our table from another of its name: the kernel gives a handle once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    handle: u64,
    uses: u32,
}

impl Programmed {
    /// The table of the calling thread's network namespace. Nothing is known of it: the first ruleset replaces it, whoever
    /// made it, without a moment between the two. Connections go on where they went, since the kernel remembers that beside
    /// the table, and clients that a Pod remembers are brought along.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn open() -> Result<Self, NetlinkError> {
        let kernel = Connection::open()?;
        let watch = Watch::open(Concern::Table(TABLE))?;
        let (flows, resets) = (Flows::open()?, Resets::found());
        Ok(Self { kernel, watch, in_force: None, steered: None, flows, resets, brings_clients: true })
    }

    /// Puts `goal` in force in one transaction. What the kernel refuses leaves the old ruleset in force.
    fn program(&mut self, goal: Goal<'_>, steps: &[Op]) -> Result<Applied, ApplyError> {
        // Until the kernel has said that it did, nothing is known of what is in force.
        let (ruleset, commands, applied) = match self.in_force.take() {
            Some(InForce { mut ruleset, generation, table }) => {
                let commands = ruleset.follow(goal, steps);
                if commands.is_empty() {
                    self.in_force = Some(InForce { ruleset, generation, table });
                    return Ok(Applied::Nothing);
                }
                let steps = commands.len();
                (ruleset, commands, Applied::Changed(steps))
            }
            None => {
                let ruleset = render(goal);
                let mut commands = replace(&ruleset);
                if std::mem::take(&mut self.brings_clients) {
                    commands.extend(clients::remembered(&self.kernel, &ruleset).map_err(ApplyError::Clients)?);
                }
                (ruleset, commands, Applied::Replaced)
            }
        };
        commit(&self.kernel, &commands)?;
        self.brings_clients = true;
        let table = identity(&self.kernel)?.ok_or(NetlinkError::Silent)?;
        self.in_force = Some(InForce { ruleset, generation: generation(&self.kernel)?, table });
        Ok(applied)
    }

    /// What differs is looked at again if anybody changed rules meanwhile: a reading is many questions.
    fn compare(&self) -> Result<Vec<Difference>, ApplyError> {
        let InForce { ruleset, .. } = self.in_force.as_ref().ok_or(ApplyError::Nothing)?;
        let mut readings = READINGS;
        loop {
            let before = generation(&self.kernel)?;
            let differences = read_back::differences(&self.kernel, ruleset, self.steering())?;
            readings -= 1;
            if differences.is_empty() || readings == 0 || generation(&self.kernel)? == before {
                return Ok(differences);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn let_resets_be_over(&mut self) {
        self.resets.let_be_over();
    }

    /// What others did to our table is told by the kernel. If it told more than could be heard, it is asked for the
    /// generation of all rules, which every change of anybody moves, and then for our table: whether it is there, the one
    /// that we made, with as many sets and chains.
    fn look(&mut self) -> Result<Integrity, NetlinkError> {
        let heard = self.watch.hear(&[self.kernel.port()?])?;
        let Some(in_force) = &mut self.in_force else { return Ok(Integrity::Unknown) };
        let intact = match heard {
            Heard::Nothing => true,
            Heard::Foreign => false,
            Heard::TooMuch => {
                let moved = generation(&self.kernel)?;
                let same = moved == in_force.generation || identity(&self.kernel)? == Some(in_force.table);
                in_force.generation = moved;
                same
            }
        };
        if intact {
            return Ok(Integrity::Intact);
        }
        self.in_force = None;
        Ok(Integrity::Lost)
    }
}

impl Engine for Programmed {
    fn apply(&mut self, goal: Goal<'_>, steps: &[Op]) -> Result<Applied, EngineError> {
        self.flows.note(steps, goal.table);
        Ok(self.program(goal, steps)?)
    }

    fn end_flows(&mut self, table: &ForwardingTable) -> Result<(), EngineError> {
        self.flows.end(table, |flows| Ok(self.resets.begin(&self.kernel, flows)?))?;
        Ok(self.resets.end_when_over(&self.kernel)?)
    }

    fn sweep(&mut self, table: &ForwardingTable, keeps: Keeps<'_>) -> Result<usize, EngineError> {
        Ok(self.flows.sweep(table, keeps, |flows| Ok(self.resets.begin(&self.kernel, flows)?))?)
    }

    fn alarm(&self) -> Result<Option<OwnedFd>, EngineError> {
        Ok(Some(self.watch.alarm()?))
    }

    fn integrity(&mut self) -> Result<Integrity, EngineError> {
        self.resets.end_when_over(&self.kernel)?;
        Ok(self.look()?)
    }

    fn flows(&mut self, service: &ServiceKey) -> Result<Vec<PodFlows>, EngineError> {
        Ok(self.counted(service)?)
    }

    fn read_back(&mut self) -> Result<Vec<Difference>, EngineError> {
        Ok(self.compare()?)
    }

    fn steer_health_checks(&mut self, listeners: &[SocketAddr]) -> Result<(), EngineError> {
        Ok(self.steer(listeners)?)
    }

    fn remove(&mut self) -> Result<(), EngineError> {
        self.in_force = None;
        self.resets.end(&self.kernel)?;
        Ok(commit(&self.kernel, &[Command::RemoveTable])?)
    }
}

fn commit(kernel: &Connection, commands: &[Command]) -> Result<(), ApplyError> {
    commit_to(kernel, TABLE, commands)
}

fn commit_to(kernel: &Connection, table: &str, commands: &[Command]) -> Result<(), ApplyError> {
    let batch = encode(table, commands);
    let mut done = false;
    for answer in kernel.exchange(&batch.bytes)? {
        match answer {
            Answer::Failed { sequence, errno } => {
                let source = io::Error::from_raw_os_error(errno);
                return Err(match batch.origin(sequence).and_then(|index| commands.get(index)) {
                    Some(command) => ApplyError::Refused { command: Box::new(command.clone()), source },
                    None => ApplyError::Transaction(source),
                });
            }
            Answer::Done { sequence } => done |= sequence == batch.last(),
            Answer::Data(_) => {}
        }
    }
    if done { Ok(()) } else { Err(NetlinkError::Silent.into()) }
}

/// `NFTA_GEN_ID` 1.
fn generation(kernel: &Connection) -> Result<u32, NetlinkError> {
    let data = kernel.ask(&message::get_generation(), 1)?.unwrap_or_default();
    let id = message::find(&data, 1).and_then(|bytes| bytes.try_into().ok());
    id.map(u32::from_be_bytes).ok_or(NetlinkError::Malformed)
}

/// What the kernel knows of our table; `None` if there is none of our name.
fn get_table(kernel: &Connection) -> Result<Option<Vec<u8>>, NetlinkError> {
    match kernel.ask(&message::get_table(TABLE), 1) {
        Err(NetlinkError::Refused(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Option::unwrap_or_default).map(Some),
    }
}

/// `NFTA_TABLE_USE` 3, `NFTA_TABLE_HANDLE` 4. `None` if there is no table of our name.
fn identity(kernel: &Connection) -> Result<Option<Identity>, NetlinkError> {
    let Some(data) = get_table(kernel)? else { return Ok(None) };
    let uses = message::find(&data, 3).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
    let handle = message::find(&data, 4).and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
    let both = uses.zip(handle).map(|(uses, handle)| Identity { handle, uses });
    both.map(Some).ok_or(NetlinkError::Malformed)
}
