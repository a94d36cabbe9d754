//! What a node must do with a packet from outside, and why: the forwarding table and its pure compiler.
//!
//! This room knows Services, endpoints, directives and this node as nouns of its own ([`input`]); it compiles them into a
//! [`ForwardingTable`] ([`compile()`] from scratch, [`Index`] step by step, both with the same result) and says in words
//! why a Service is claimed or left to kube-proxy ([`Compiled::explain_claim`]), and what becomes of a client's flows on a
//! node in either case ([`explain_node()`]). What an engine must do with one packet is
//! said by [`oracle()`], how it comes from one table to the next by [`diff()`], and which target a flow's hash draws by
//! [`maglev()`]. It also holds what the engines below share: the traits [`Backend`] and [`Engine`], and their nouns.
//!
//! It may not know Kubernetes, clients, async runtimes, clocks, files, processes or randomness, and no policy.
//! The rules are kube-proxy's own where they exist (KEP-1669 for terminating endpoints, KEP-1860 for `ipMode`).

mod admission;
mod backend;
mod claim;
mod compile;
mod diff;
mod endpoints;
mod engine;
mod explain;
mod index;
pub mod input;
mod key;
mod maglev;
mod oracle;
mod table;
#[cfg(test)]
mod testing;

pub use admission::Refusal;
pub use backend::{Backend, BackendKind, Capabilities, Feature, Probe};
pub use claim::{Claim, ClaimReason};
pub use compile::{Compiled, Counts, compile};
pub use diff::{Op, apply, diff, diff_of};
pub use engine::{
    Applied, Difference, Engine, EngineError, Goal, HEALTH_CHECK_LEASE, Integrity, Keeps, PodFlows, Yields,
};
pub use explain::{
    Decider, Health, InForce, NodeAnswer, Outcome, ProxyReason, ProxyVerdict, Question, SeenClient, Step, Way,
    explain_node,
};
pub use index::{Changes, Event, Index};
pub use input::{Capacity, Directive, EndpointInput, Input, Mode, OnNoLocal, ServiceInput, SliceInput, ThisNode};
pub use key::{Family, Interface, Names, PerFamily, Protocol, ServiceKey};
pub use maglev::{Slots, maglev};
pub use oracle::{
    Action, AffinityKey, Arrival, Because, Bound, Flow, FlowKey, Memory, Packet, Reason, Verdict, oracle,
};
pub use table::{
    ClaimedMode, ForwardingTable, Frontend, FrontendEntry, FrontendHost, FrontendKind, Hop, PortEntry, ServiceEntry,
    SourceFilter, Standing, Target,
};
