//! What the tests of the API tier share: one installation per test binary, raw answers of the API server, waiting.
#![allow(dead_code, unused_imports, reason = "every test binary compiles this module and uses its own part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub(crate) mod daemon;
pub(crate) mod http;
pub(crate) mod kubectl;
pub(crate) mod migration;
pub(crate) mod objects;
pub(crate) mod schema;
pub(crate) mod site;
pub(crate) mod wait;

pub(crate) use daemon::Daemon;
pub(crate) use http::{Answer, Http};
pub(crate) use kubectl::Kubectl;
pub(crate) use site::{Installed, Site, installed};
pub(crate) use wait::{eventually, holds};
