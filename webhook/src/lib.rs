//! Admission: the policy's answer at the API server's door.
//!
//! This room knows admission reviews, the watches that keep the world at hand, and HTTP over TLS. It may not know how a
//! rule decides (that is `portreeve-policy`) nor write anything to the cluster: the operator registers the webhook and
//! makes its certificates.
//!
//! The way through: [`http`] takes a request in and bounds it, [`review`] decides it without any I/O from a snapshot of
//! [`cache`], by way of [`engine`]; [`tls`] follows the certificate; [`run`] puts them together.

pub mod args;
pub mod cache;
pub mod engine;
pub mod http;
pub mod metrics;
pub mod rbac;
pub mod review;
mod run;
pub mod tls;

pub use run::{RunError, run};
