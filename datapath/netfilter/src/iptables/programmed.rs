//! Our chains in the kernel.

mod flows;
mod proxy;
mod read_back;

use super::found::Difference;
use super::programs::{Programs, Variant, names};
use super::rules::Name;
use super::ruleset::Ruleset;
use crate::conntrack::{Flow, Flows};
use crate::message;
use crate::netlink::{Connection, NetlinkError};
use crate::nftables::Resets;
use crate::watch::{Concern, Heard, Watch};
use portreeve_table::{
    Applied, Engine, EngineError, Family, ForwardingTable, Goal, Integrity, Interface, Keeps, Op, PodFlows, ServiceKey,
    Yields,
};
use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// The chains of others from which packets come to ours.
const FROM: &[&str] = &["PREROUTING", "INPUT", "FORWARD"];

/// Why a ruleset is not known to be in force.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A program is missing.
    #[error("there is no {0} in the search path of this process; install iptables or choose another backend")]
    NoProgram(&'static str),
    /// A program could not be run.
    #[error("{} cannot be run: {source}", program.display())]
    Start {
        /// Which.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A change was refused. What the same input had asked of other tables before may be in force.
    #[error("{} refuses the line `{line}`: {says}", program.display())]
    Refused {
        /// Which program refused.
        program: PathBuf,
        /// What was asked, or `?` if it is not known.
        line: String,
        /// Its own words.
        says: String,
    },
    /// What is there cannot be read.
    #[error("{} does not show the rules: {says}", program.display())]
    Unread {
        /// Which program.
        program: PathBuf,
        /// Its own words.
        says: String,
    },
    /// What was written is not what is shown.
    #[error(
        "{} shows another {chain} in table {table} than was written: see what else writes to chains that begin with \
         PORTREEVE-, or choose another backend",
        program.display()
    )]
    Differs {
        /// Which program wrote.
        program: PathBuf,
        /// In which table.
        table: &'static str,
        /// The first chain that differs.
        chain: String,
    },
    /// Another proxy would decide before us.
    #[error(
        "kube-proxy programs nftables on this node (table {0} kube-proxy) and would decide before iptables does: it serves \
         all Services until that changes; set spec.backend to Nftables or Auto in the DatapathConfig"
    )]
    Behind(&'static str),
    /// A chain of ours has other rules than were written.
    #[error("chain {0} is not as it was written; what it has counted can be told when it has been mended")]
    Uncounted(String),
    /// There are no rules of ours.
    #[error("nothing is programmed yet; it can be asked again after the next round")]
    Nothing,
    /// An interface cannot be named.
    #[error(
        "iptables would take the uplink name `{}` for a pattern: rename the interface or choose another backend",
        .0.as_str()
    )]
    Uplink(Interface),
    /// The kernel could not be asked.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// Our chains in a network namespace, and what is known of them.
///
/// A change is one transaction for each table that it touches; what refuses comes first and goes last, so that no flow
/// falls between them. Where one of them fails nothing is known any more, and the next ruleset replaces whatever there is.
///
/// Every call starts its programs in the network namespace of the thread that makes it, which must be the same each time.
///
/// Health check node ports are left to kube-proxy.
///
/// Taking everything away leaves the built-in chains of the tables that we came to first, which are empty then.
#[derive(Debug)]
pub struct Programmed {
    programs: Vec<(Family, Programs)>,
    kernel: Connection,
    watch: Watch,
    flows: Flows,
    resets: Resets,
    in_force: Option<Ruleset>,
    /// The kernel's number of all nftables rules when ours were last read and were as written, where iptables is a way to
    /// write those. It stays while nobody but us is heard to change them.
    seen_at: Option<u32>,
    /// Process ids of the programs that have written for us since others were last listened to.
    own: Vec<u32>,
    /// What was counted when all of it was read last, where less cannot be.
    counted: Option<flows::Counted>,
}

impl Programmed {
    /// The chains of the calling thread's network namespace, by the programs in the directories of `path`. Nothing is
    /// known of them: the first ruleset replaces those of our names, whoever made them, each table in one transaction.
    /// Connections go on where they went, since the kernel remembers that beside the rules.
    ///
    /// # Errors
    /// When there is no program for IPv4. Without one for IPv6, what needs it is refused when it comes.
    pub fn open(path: &OsStr) -> Result<Self, ApplyError> {
        let mut programs = vec![(Family::V4, Programs::find(path, Family::V4)?)];
        programs.extend(Programs::find(path, Family::V6).ok().map(|found| (Family::V6, found)));
        let watch = Watch::open(Concern::Chains { prefix: Name::PREFIX, from: FROM })?;
        let (kernel, flows) = (Connection::open()?, Flows::open()?);
        Ok(Self {
            programs,
            kernel,
            watch,
            flows,
            resets: Resets::found(),
            in_force: None,
            seen_at: None,
            own: Vec::new(),
            counted: None,
        })
    }

    fn program(&mut self, goal: Goal<'_>, steps: &[Op]) -> Result<Applied, ApplyError> {
        if let Some(odd) = goal.uplinks.iter().find(|uplink| is_pattern(uplink.as_str())) {
            return Err(ApplyError::Uplink(odd.clone()));
        }
        self.counted = None;
        // Until the programs have said that they did, nothing is known of what is in force.
        let Some(mut ruleset) = self.in_force.take() else { return self.replace(Ruleset::render(goal)) };
        let changes = ruleset.follow(goal, steps);
        self.possible(&ruleset)?;
        let mut changed = 0;
        for (family, programs) in &self.programs {
            let sections = changes.get(*family);
            if !sections.is_empty() {
                self.own.push(programs.restore(sections)?);
                changed += sections.iter().map(|section| section.put.len() + section.remove.len()).sum::<usize>();
            }
        }
        self.in_force = Some(ruleset);
        Ok(if changed == 0 { Applied::Nothing } else { Applied::Changed(changed) })
    }

    fn replace(&mut self, ruleset: Ruleset) -> Result<Applied, ApplyError> {
        self.possible(&ruleset)?;
        for (family, programs) in &self.programs {
            self.own.push(programs.restore(&programs.save()?.replace(Some(&ruleset), *family))?);
        }
        match self.differences(&ruleset)? {
            Some((program, table, chain)) => Err(ApplyError::Differs { program, table, chain }),
            None => {
                self.in_force = Some(ruleset);
                Ok(Applied::Replaced)
            }
        }
    }

    fn possible(&self, ruleset: &Ruleset) -> Result<(), ApplyError> {
        let missing = |family: &Family| !self.programs.iter().any(|(have, _)| have == family);
        match Family::BOTH.into_iter().filter(missing).find(|family| ruleset.claims(*family)) {
            Some(family) => Err(ApplyError::NoProgram(names(family)[0])),
            None => Ok(()),
        }
    }

    /// The first chain that is not as written. That packets come to our chains first is mended on the way.
    fn differences(&mut self, ruleset: &Ruleset) -> Result<Option<(PathBuf, &'static str, String)>, ApplyError> {
        // Asked before looking, so that what changes meanwhile is looked at the next time.
        let generation = self.generation()?;
        let mut mended = false;
        for (family, programs) in &self.programs {
            let found = programs.save()?;
            match found.difference(ruleset, *family) {
                Difference::None => {}
                Difference::Hook(_) => {
                    self.own.push(programs.restore(&found.mend(ruleset, *family))?);
                    mended = true;
                }
                Difference::Chain(table, chain) => {
                    return Ok(Some((programs.writer().to_owned(), table.as_str(), chain)));
                }
            }
        }
        self.seen_at = generation.filter(|_| !mended);
        Ok(None)
    }

    /// What others did to our rules since the last time. What our own programs do is told as well, under their process ids:
    /// libmnl has the kernel name a program's socket by that if it is free.
    fn hear(&mut self) -> Result<Heard, NetlinkError> {
        let heard = self.watch.hear(&self.own)?;
        self.own.clear();
        Ok(heard)
    }

    /// The rules are read only if the kernel told of others' changes, or of more than could be heard. In the legacy variant
    /// there is nothing that tells of changes, and they are read each time.
    fn look(&mut self) -> Result<Integrity, ApplyError> {
        let heard = self.hear()?;
        let Some(ruleset) = self.in_force.take() else { return Ok(Integrity::Unknown) };
        if self.is_behind()?.is_some() {
            return Ok(Integrity::Lost);
        }
        let same = match (heard, self.seen_at) {
            (Heard::Nothing, seen_at) => seen_at.is_some(),
            (Heard::TooMuch, seen_at) => seen_at.is_some() && seen_at == self.generation()?,
            (Heard::Foreign, _) => false,
        };
        if !same && self.differences(&ruleset)?.is_some() {
            return Ok(Integrity::Lost);
        }
        self.in_force = Some(ruleset);
        Ok(Integrity::Intact)
    }

    fn is_nf_tables(&self) -> bool {
        self.programs.iter().all(|(_, programs)| programs.variant == Variant::NfTables)
    }

    /// The number that every change of anybody's nftables rules moves (`NFTA_GEN_ID` 1), where it tells of ours.
    fn generation(&self) -> Result<Option<u32>, NetlinkError> {
        if !self.is_nf_tables() {
            return Ok(None);
        }
        let data = self.kernel.ask(&message::get_generation(), 1)?.unwrap_or_default();
        Ok(message::find(&data, 1).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes))
    }

    fn clear(&mut self) -> Result<(), ApplyError> {
        self.in_force = None;
        for (family, programs) in &self.programs {
            let sections = programs.save()?.replace(None, *family);
            if !sections.is_empty() {
                programs.restore(&sections)?;
            }
        }
        Ok(())
    }
}

/// Whether iptables reads more into an interface's name than the name: `eth+` stands for all that begin with `eth`.
fn is_pattern(name: &str) -> bool {
    name.ends_with('+') || name.starts_with('!')
}

/// Rules that reset clients are nftables', whatever the engine: those of iptables cannot at prerouting. A kernel that has
/// iptables in its legacy variant alone has none, and its clients meet what serves new flows.
fn reset(resets: &mut Resets, kernel: &Connection, possible: bool, flows: &[Flow]) -> Result<(), EngineError> {
    if possible { Ok(resets.begin(kernel, flows)?) } else { Ok(()) }
}

impl Engine for Programmed {
    fn apply(&mut self, goal: Goal<'_>, steps: &[Op]) -> Result<Applied, EngineError> {
        self.flows.note(steps, goal.table);
        if let Some(family) = self.is_behind()? {
            self.clear()?;
            return Err(Yields(ApplyError::Behind(family).to_string()).into());
        }
        let applied = self.program(goal, steps)?;
        // What others did meanwhile is found when the rules are read the next time.
        if self.hear()? != Heard::Nothing {
            self.seen_at = None;
        }
        Ok(applied)
    }

    fn end_flows(&mut self, table: &ForwardingTable) -> Result<(), EngineError> {
        let possible = self.is_nf_tables();
        let Self { flows, resets, kernel, .. } = self;
        flows.end(table, |flows| reset(resets, kernel, possible, flows))?;
        if possible { Ok(resets.end_when_over(kernel)?) } else { Ok(()) }
    }

    fn sweep(&mut self, table: &ForwardingTable, keeps: Keeps<'_>) -> Result<usize, EngineError> {
        let possible = self.is_nf_tables();
        let Self { flows, resets, kernel, .. } = self;
        Ok(flows.sweep(table, keeps, |flows| reset(resets, kernel, possible, flows))?)
    }

    fn alarm(&self) -> Result<Option<OwnedFd>, EngineError> {
        if self.is_nf_tables() { Ok(Some(self.watch.alarm()?)) } else { Ok(None) }
    }

    fn integrity(&mut self) -> Result<Integrity, EngineError> {
        Ok(self.look()?)
    }

    fn flows(&mut self, service: &ServiceKey) -> Result<Vec<PodFlows>, EngineError> {
        Ok(self.counted(service)?)
    }

    fn read_back(&mut self) -> Result<Vec<portreeve_table::Difference>, EngineError> {
        Ok(self.compare()?)
    }

    fn remove(&mut self) -> Result<(), EngineError> {
        // The rules that reset clients may be of an engine that is in use, and are nftables' to remove.
        Ok(self.clear()?)
    }
}
