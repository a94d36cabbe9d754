//! The webhook from its HTTP side: recorded reviews in, answers out, on the real router.

#![allow(clippy::unwrap_used, reason = "the helpers of a test may fail as the test itself may")]

mod limits;
mod pods;
mod services;
mod support;
mod tls;
