//! What the agent asks of an engine that programs packets.

use crate::diff::Op;
use crate::key::{Interface, Protocol, ServiceKey};
use crate::table::ForwardingTable;
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Why an engine did not do what it was asked, in the words of the engine.
pub type EngineError = Box<dyn Error + Send + Sync>;

/// Why an engine takes nothing on this node: another proxy would decide before it. Nothing of the engine is in force then, and
/// nothing of any other should be, so that this proxy alone decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Yields(pub String);

impl fmt::Display for Yields {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl Error for Yields {}

/// Whether flows of a transport to a Pod that came through a frontend of a Service go on.
pub type Keeps<'a> = &'a dyn Fn(&ServiceKey, Protocol, SocketAddr) -> bool;

/// How long health checks come to our listeners without being [asked for](Engine::steer_health_checks) again: a process that
/// hangs gives them back to kube-proxy after this time.
pub const HEALTH_CHECK_LEASE: Duration = Duration::from_secs(6);

/// What is to be in force on this node.
#[derive(Clone, Copy, Debug)]
pub struct Goal<'a> {
    /// What becomes of packets.
    pub table: &'a ForwardingTable,
    /// Interfaces by which packets from outside arrive; those of others are never touched.
    pub uplinks: &'a BTreeSet<Interface>,
}

/// An engine at work. It remembers what it has put in force, and whether it may still trust that memory.
pub trait Engine: Send {
    /// Puts `goal` in force, all of it or nothing: no packet ever meets half of a change. `steps` lead to the goal's table
    /// from the one before ([`diff`](crate::diff())), so that an engine that knows what is in force does no more than they
    /// say; one that does not know makes everything anew, without a moment between the two.
    ///
    /// # Errors
    /// When the goal is not known to be in force: the next call makes everything anew.
    fn apply(&mut self, goal: Goal<'_>, steps: &[Op]) -> Result<Applied, EngineError>;

    /// Ends the flows whose Pods were [gone](Op::Gone) in the steps so far. To be called when `table`, the last goal's, is in
    /// force, so that no flow comes back to such a Pod.
    ///
    /// Flows of a Service that leaves go on, unless the same steps or later ones say that its Pods are gone; one that comes
    /// back without a Pod has lost it. They end also where their frontend went before the Pod, as far as the engine was told of
    /// it since it began.
    ///
    /// # Errors
    /// When some of them may go on. They are remembered; the next call tries to end them.
    fn end_flows(&mut self, table: &ForwardingTable) -> Result<(), EngineError> {
        let _ = table;
        Ok(())
    }

    /// Ends the flows that came through frontends of `table` and that `keeps` does not keep, and gives their number. An
    /// engine that starts does not know whose Pods went while none ran: an agent asks for it once, after the first
    /// [apply](Self::apply).
    ///
    /// # Errors
    /// When some of them may go on. They are not remembered; it can be asked again.
    fn sweep(&mut self, table: &ForwardingTable, keeps: Keeps<'_>) -> Result<usize, EngineError> {
        let _ = (table, keeps);
        Ok(0)
    }

    /// Readable whenever something has happened that [`integrity`](Self::integrity) should look into; `None` if nothing
    /// tells and looking from time to time is all that can be done.
    ///
    /// # Errors
    /// When it should tell and cannot.
    fn alarm(&self) -> Result<Option<OwnedFd>, EngineError> {
        Ok(None)
    }

    /// Looks whether somebody else has changed what this engine programmed. Cheap when nobody has.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn integrity(&mut self) -> Result<Integrity, EngineError>;

    /// New flows that each Pod of a Service was given since its place in the kernel was made, for every port of the Service;
    /// nothing of a Service that is not in the last goal. Reading costs what the Service's size is, and changes nothing. A
    /// count that is less than before began anew, as it does when the Pods of the Service change.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or the engine counts nothing.
    fn flows(&mut self, service: &ServiceKey) -> Result<Vec<PodFlows>, EngineError> {
        let _ = service;
        Err("this engine does not count flows".into())
    }

    /// Reads all that is in force back from the kernel and tells where it is not what the last goal asks for; nothing if it
    /// is. It costs what the size of the table is: for a person who asks, never for a loop.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or the engine cannot read back.
    fn read_back(&mut self) -> Result<Vec<Difference>, EngineError> {
        Err("this engine cannot read back what is in force".into())
    }

    /// Lets TCP connections that open on an uplink to the health check node port of a Service in the table come to
    /// `listeners`, one of a family, for [`HEALTH_CHECK_LEASE`] from now on; none ends it at once. Their addresses and ports
    /// are those that the client asked for. Where nobody listens any more, and when the time is over, they go where they
    /// would go without us. An engine that makes everything anew forgets it.
    ///
    /// # Errors
    /// When it does not come to be; then these connections are left alone.
    fn steer_health_checks(&mut self, listeners: &[SocketAddr]) -> Result<(), EngineError> {
        if listeners.is_empty() { Ok(()) } else { Err("this engine leaves health check node ports alone".into()) }
    }

    /// Takes everything of ours away. Established flows go on where they went, as long as something else on the node still
    /// asks for connection tracking, as kube-proxy does.
    ///
    /// # Errors
    /// When something of ours is not known to be gone.
    fn remove(&mut self) -> Result<(), EngineError>;
}

/// How many new flows a Pod was [given](Engine::flows).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PodFlows {
    /// The transport.
    pub protocol: Protocol,
    /// Address and port of the Pod.
    pub pod: SocketAddr,
    /// New flows.
    pub flows: u64,
}

/// One way in which the kernel is not what an engine [wants it to be](Engine::read_back).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// The Service that it touches; `None` if it touches all of them, or one that is not in the table.
    pub service: Option<ServiceKey>,
    /// What is missing, left over or different, in a sentence of the engine.
    pub what: String,
}

/// What an [apply](Engine::apply) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Nothing: the goal was in force.
    Nothing,
    /// Changed what was there, in so many steps of its own kind.
    Changed(usize),
    /// Made everything anew, since it was not known what was there.
    Replaced,
}

/// What has become of what an engine programmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integrity {
    /// Nothing was programmed yet, or the last attempt failed.
    Unknown,
    /// It is as the engine left it.
    Intact,
    /// It is gone, or somebody else has changed it.
    Lost,
}
