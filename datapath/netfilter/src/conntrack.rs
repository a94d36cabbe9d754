//! Flows that must end: found in the kernel's connection tracking, and forgotten there.
//!
//! A translated flow goes on to its Pod whatever rules say, since the kernel remembers it beside the rules. When the Pod is
//! gone, its entry is deleted: the next datagram of UDP and the next SYN or INIT are then as the first of a new flow. A TCP
//! client that is not told would go on sending into nothing; the rule that tells it is the engine's to make
//! ([`Flows::end`]).
//!
//! What is ours is told by addresses alone: it came to a frontend of the Service, from outside, and goes to the Pod. A flow
//! whose source is a Pod or this node, or was translated, was not taken by our rules but by another proxy's. One that
//! another proxy took from outside before the Service was claimed looks like ours and ends like ours.

mod ending;
mod flow;

pub use flow::Flow;

use crate::message::{ACK, Answer, DELETE_FLOW, DUMP, GET_FLOW, Messages};
use crate::netlink::{Connection, NetlinkError};
use ending::{Endings, Owners};
use flow::To;
use portreeve_table::{EngineError, Family, ForwardingTable, Keeps, Op, Protocol};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Most addresses of Pods for each of which the kernel goes through its table once; for more it is cheaper to be told all
/// flows that are translated. One way through takes as long as telling of some 5,000.
const FEW: usize = 4;
/// Deletions in one datagram. Each may be answered, and all answers must fit into the socket's buffer.
const DELETIONS: usize = 64;

/// Why flows that must end may go on.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// The kernel does not tell of its connections.
    #[error(
        "flows of Pods that are gone cannot be found, which is tried again: {0}; see that the kernel has the module \
         nf_conntrack_netlink"
    )]
    Find(#[source] NetlinkError),
    /// An entry cannot be deleted; one that a flowtable has taken can when it is idle for a while.
    #[error("flows of Pods that are gone cannot be deleted, which is tried again: {0}")]
    Forget(#[source] NetlinkError),
    /// The engine has no rule that resets them.
    #[error("clients of Pods that are gone cannot be reset, which is tried again: {0}")]
    Reset(#[source] EngineError),
}

/// The connections of a network namespace, and which of them are to end.
#[derive(Debug)]
pub struct Flows {
    kernel: Connection,
    /// An answer was not read to its end.
    torn: bool,
    endings: Endings,
}

impl Flows {
    /// Those of the calling thread's network namespace, from whichever thread they are asked for later.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self { kernel: Connection::open()?, torn: false, endings: Endings::default() })
    }

    /// Remembers which flows `steps` say must end, until they [have](Self::end). To be told of all steps, the first lead from
    /// nothing: flows came through frontends that a Service had before, and a Service may have lost its Pod while it was not
    /// in the table.
    pub fn note(&mut self, steps: &[Op], goal: &ForwardingTable) {
        self.endings.note(steps, goal);
    }

    /// Ends all flows that must end, when the rules of `table` are in force so that none comes back. Gives their number.
    ///
    /// `reset` gets the flows of TCP and must see to it that from now on, and for some minutes, every packet from such a
    /// client to such a frontend that does not open a connection, and belongs to none that the kernel knows, is answered with
    /// a RST. It is called before the entries are deleted: until then such packets belong to a known one. Behind the
    /// deletion they come to the prerouting hooks with the frontend as destination; where rules can reject only at the input
    /// and forward hooks, as those of iptables, that is where they are found. For SCTP there is nothing to call: netfilter
    /// sends no ABORT, and the association ends when its packets stay without an answer.
    ///
    /// # Errors
    /// When some may go on; the next call tries again.
    pub fn end(
        &mut self,
        table: &ForwardingTable,
        reset: impl FnOnce(&[Flow]) -> Result<(), EngineError>,
    ) -> Result<usize, EndError> {
        self.endings.drop_those_kept(table);
        if self.endings.is_empty() {
            return Ok(0);
        }
        let pods: Vec<_> = self.endings.pods().collect();
        let mut flows = self.find(pods.into_iter()).map_err(EndError::Find)?;
        self.endings.retain(&mut flows, table);
        let ended = self.finish(&flows, reset)?;
        self.endings.clear();
        Ok(ended)
    }

    /// Ends the flows of Services of `table` that `keeps` does not keep, as [`end`](Self::end) does. Nothing is remembered
    /// of those that cannot be ended.
    ///
    /// # Errors
    /// When some may go on.
    pub fn sweep(
        &mut self,
        table: &ForwardingTable,
        keeps: Keeps<'_>,
        reset: impl FnOnce(&[Flow]) -> Result<(), EngineError>,
    ) -> Result<usize, EndError> {
        let mut flows = Vec::new();
        for family in Family::BOTH {
            flows.extend(self.dump(family, To::Any).map_err(EndError::Find)?);
        }
        let owners = Owners::of(table);
        flows.retain(|flow| owners.find(flow).is_some_and(|service| !keeps(service, flow.protocol, flow.pod)));
        self.finish(&flows, reset)
    }

    /// Datagrams are forgotten even if no rule can be made for the others.
    fn finish(
        &mut self,
        flows: &[Flow],
        reset: impl FnOnce(&[Flow]) -> Result<(), EngineError>,
    ) -> Result<usize, EndError> {
        let of = |wanted: &[Protocol]| -> Vec<Flow> {
            flows.iter().filter(|flow| wanted.contains(&flow.protocol)).cloned().collect()
        };
        let mut ended = self.forget(&of(&[Protocol::Udp, Protocol::Sctp])).map_err(EndError::Forget)?;
        let tcp = of(&[Protocol::Tcp]);
        if !tcp.is_empty() {
            reset(&tcp).map_err(EndError::Reset)?;
            ended += self.forget(&tcp).map_err(EndError::Forget)?;
        }
        Ok(ended)
    }

    /// Flows to any of `pods`, and perhaps more.
    fn find(&mut self, pods: impl Iterator<Item = (Protocol, SocketAddr)>) -> Result<Vec<Flow>, NetlinkError> {
        let mut hosts: BTreeMap<Family, BTreeMap<IpAddr, Vec<(Protocol, SocketAddr)>>> = BTreeMap::new();
        for (protocol, pod) in pods {
            let of_family = hosts.entry(Family::of(pod.ip())).or_default();
            of_family.entry(pod.ip()).or_default().push((protocol, pod));
        }
        let mut flows = Vec::new();
        for (family, hosts) in hosts {
            let to = hosts.iter().map(|(host, pods)| match pods.as_slice() {
                [(protocol, pod)] => To::Pod(*protocol, *pod),
                _ => To::Host(*host),
            });
            let to: Vec<To> = if hosts.len() > FEW { vec![To::Any] } else { to.collect() };
            for to in to {
                flows.extend(self.dump(family, to)?);
            }
        }
        Ok(flows)
    }

    fn dump(&mut self, family: Family, to: To) -> Result<Vec<Flow>, NetlinkError> {
        let mut request = Messages::new();
        request.conntrack(GET_FLOW, DUMP, 1, number(family), &flow::translated(to));
        let request = request.finish();
        let mut flows = Vec::new();
        for answer in self.with_kernel(|kernel| kernel.list(&request, 1))? {
            flows.extend(Flow::read(&answer).map_err(|_| NetlinkError::Malformed)?);
        }
        Ok(flows)
    }

    /// Deletes entries, and gives the number of those that were still there.
    fn forget(&mut self, flows: &[Flow]) -> Result<usize, NetlinkError> {
        let (mut forgotten, mut refused) = (0, None);
        for chunk in flows.chunks(DELETIONS) {
            let mut request = Messages::new();
            let mut last = 0;
            for flow in chunk {
                last += 1;
                request.conntrack(DELETE_FLOW, ACK, last, number(flow.family()), &flow.name());
            }
            let request = request.finish();
            let answers = self.with_kernel(|kernel| kernel.exchange(&request))?;
            if answers.len() != chunk.len() {
                return Err(NetlinkError::Silent);
            }
            for answer in answers {
                match answer {
                    Answer::Done { .. } => forgotten += 1,
                    Answer::Failed { errno, .. } => {
                        let error = io::Error::from_raw_os_error(errno);
                        if error.kind() != io::ErrorKind::NotFound {
                            refused = Some(NetlinkError::Refused(error));
                        }
                    }
                    Answer::Data(_) => return Err(NetlinkError::Malformed),
                }
            }
        }
        refused.map_or(Ok(forgotten), Err)
    }

    /// What an earlier request left unread is not taken for an answer to the next.
    fn with_kernel<T>(&mut self, work: impl FnOnce(&Connection) -> Result<T, NetlinkError>) -> Result<T, NetlinkError> {
        if std::mem::replace(&mut self.torn, true) {
            self.kernel.drain();
        }
        let done = work(&self.kernel)?;
        self.torn = false;
        Ok(done)
    }
}

/// `AF_INET`, `AF_INET6`.
const fn number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}
