//! What may be asked of a node's agent, and what it answers: the words of its local admin socket, for the agent, which
//! answers, and for the plugin, which asks.
//!
//! Requests and answers are JSON, one to a line, each with the [`VERSION`] of these words. This room knows the table's nouns
//! and how they are written down, and how two such writings differ. It may not know sockets, clients, async runtimes,
//! clocks or files, nor where a table comes from.

mod answer;
mod compare;
mod request;
mod view;

pub use answer::{
    Answer, Body, Flows, KernelDifference, PodCount, ReadBack, Repaired, Reply, Standing, TablePage, page,
};
pub use compare::{FieldDifference, compare};
pub use request::{BadRequest, Request, service_key};
pub use view::{FrontendView, PerFamilyView, PortView, ServiceView, SourcesView, TargetView};

/// Version of the words. A later one may say more; whoever does not know it says so and does nothing.
pub const VERSION: u32 = 1;
/// Where the agent listens, in its own container.
pub const SOCKET: &str = "/run/portreeve/agent.sock";
/// Environment variable that names another place.
pub const SOCKET_VARIABLE: &str = "PORTREEVE_ADMIN_SOCKET";
/// Longest request, in bytes, with the end of its line.
pub const LONGEST_REQUEST: usize = 64 * 1024;
/// Bytes of Services after which a page of the table ends: an answer is longer by one Service at most.
pub const PAGE: usize = 1 << 20;
/// Differences of the kernel that are named; those beyond are counted.
pub const DIFFERENCES: usize = 1000;
