//! Scaffolding that every Portreeve process shares: logs, metrics, probes, shutdown, leader election, TLS, the client.
//!
//! This room knows processes, sockets, clocks and the Kubernetes client. It may not know a policy, a resource of ours or
//! the packet table: nothing here decides about a Service.

pub mod admin;
pub mod args;
pub mod client;
pub mod events;
pub mod lease;
pub mod metrics;
pub mod serve;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod work;
