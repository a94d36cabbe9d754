//! The node agent: watches the API, compiles what this node claims, keeps an engine in step with it and reports in
//! NodeDatapath.
//!
//! One direction of flow: [`watch`] → [`portreeve_ingest`] → [`state`] (the one owner, synchronous) → [`program`] (what the
//! engine is told, and what is made of its answer) → [`report`] (pure) → [`publish`] (the only writer of NodeDatapath); beside
//! the report, [`health`] tells load balancers what is programmed, [`notice`] says in Events what a person should know, and
//! [`ask`](mod@ask) answers whoever is let into the agent's container. This room knows the Kubernetes client, rtnetlink, the
//! table and the engines; it may not know a policy: what to do with a Service is in its ServiceTraffic. What it does not
//! claim, and what it has not programmed yet, kube-proxy serves.

pub mod args;
mod ask;
#[cfg(test)]
mod capabilities;
mod choose;
mod health;
mod links;
mod metrics;
mod notice;
mod program;
mod publish;
pub mod rbac;
mod report;
pub mod run;
mod state;
mod uninstall;
mod uplinks;
mod watch;

pub use ask::{AskError, ask};
