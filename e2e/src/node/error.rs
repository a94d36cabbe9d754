//! What can go wrong with a node.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::netns::NetNsError;
use crate::process::ProcessError;

/// Why a node could not be made, switched or used.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A file operation failed.
    #[error("{what} {path}", path = path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the filesystem said.
        source: io::Error,
    },
    /// The kernel refused something.
    #[error("{what} {subject}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// On what.
        subject: String,
        /// What the kernel said.
        source: nix::Error,
    },
    /// A program could not be run, or failed.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The node's network could not be made or taken away.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// PID 1's plan could not be written or read.
    #[error("the plan of PID 1")]
    Plan(#[from] serde_json::Error),
    /// The node is switched the other way.
    #[error("{node} is {state}")]
    State {
        /// The node.
        node: String,
        /// `on` or `off`.
        state: &'static str,
    },
    /// Something did not happen in time.
    #[error("{what} within {within:?}; log {log}", log = log.display())]
    TooLate {
        /// What was waited for.
        what: String,
        /// For how long.
        within: Duration,
        /// Where to look.
        log: PathBuf,
    },
    /// An archive was refused by containerd.
    #[error("import {archive} on {node}: {said}", archive = archive.display())]
    Import {
        /// The archive.
        archive: PathBuf,
        /// The node.
        node: String,
        /// What `ctr` wrote.
        said: String,
    },
    /// A daemon of the plan has no program.
    #[error("daemon {0} has no command")]
    NoCommand(String),
}

/// For `map_err`: what was tried on which file.
pub(super) fn file_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NodeError {
    let path = path.to_owned();
    move |source| NodeError::File { what, path, source }
}

/// For `map_err`: what was asked of the kernel.
pub(super) fn kernel_error(what: &'static str, subject: impl ToString) -> impl FnOnce(nix::Error) -> NodeError {
    let subject = subject.to_string();
    move |source| NodeError::Kernel { what, subject, source }
}
