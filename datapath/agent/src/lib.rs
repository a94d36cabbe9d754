//! The node agent: watches the API, compiles what this node claims, chooses a backend and reports in NodeDatapath.
//!
//! One direction of flow: [`watch`] → [`portreeve_ingest`] → [`state`] (the one owner, synchronous) → [`report`] (pure) →
//! [`publish`] (the only writer). This room knows the Kubernetes client, rtnetlink, the table and the engines; it may
//! not know a policy: what to do with a Service is in its ServiceTraffic. It programs nothing: kube-proxy serves.

pub mod args;
mod choose;
mod links;
mod metrics;
mod publish;
pub mod rbac;
mod report;
pub mod run;
mod state;
mod uplinks;
mod watch;
