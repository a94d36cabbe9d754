//! The agent's local admin socket: a Unix socket in its own container, which is no way in from the network. Whoever may
//! start a program in the agent's container may ask, and nobody else.
//!
//! One client at a time, each bounded in size and time. The main loop owns what is asked about: requests come into it by a
//! channel and are answered there.

mod answer;
mod client;
mod server;

pub(crate) use answer::{Clock, answer, milliseconds};
pub use client::{AskError, ask};
pub(crate) use server::serve;

use portreeve_ask::{Answer, Request};
use tokio::sync::oneshot;

/// A request on its way to the main loop.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    /// The answer, or a sentence that says why there is none.
    pub(crate) answer: oneshot::Sender<Result<Answer, String>>,
}

#[cfg(test)]
mod tests;
