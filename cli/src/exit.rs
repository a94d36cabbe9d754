//! Exit codes and the failures behind them. Scripts rely on the numbers.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: nothing to report.
    Clean,
    /// 1: findings at or above `--fail-on`, a difference, or a migration that failed or is held back.
    Findings,
    /// 2: the command line is wrong, or input cannot be read.
    Usage,
    /// 2 as well, as of diff(1): part of the answer is missing, and the output says whose.
    Untold,
    /// 4: the cluster cannot be reached or refuses the request.
    Unreachable,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Findings => 1,
            Self::Usage | Self::Untold => 2,
            Self::Unreachable => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line or its input is wrong; the text says what to do.
    #[error("{0}")]
    Usage(String),
    /// No answer from the cluster.
    #[error(
        "cannot reach the cluster: {0}\nCheck KUBECONFIG, --kubeconfig and --context; `kubectl version` must work with the same settings."
    )]
    Unreachable(String),
    /// The cluster answered, with a refusal.
    #[error("{doing}: the API server refused: {answer}")]
    Refused {
        /// What was tried.
        doing: String,
        /// What it said.
        answer: String,
    },
    /// A migration ended otherwise than asked.
    #[error("{0}")]
    Migration(String),
}

impl Failure {
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Unreachable(_) | Self::Refused { .. } => Exit::Unreachable,
            Self::Migration(_) => Exit::Findings,
        }
    }

    /// Tells a refusal (the server spoke) from silence, while doing something.
    pub(crate) fn from_kube(doing: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        move |error| match error {
            kube::Error::Api(status) => Self::Refused { doing: doing.into(), answer: refusal(&status) },
            other => Self::Unreachable(chain(&other)),
        }
    }
}

/// The server's words, causes first where it gave any: they carry field, problem and fix.
fn refusal(status: &kube::core::Status) -> String {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    if causes.is_empty() {
        return status.message.clone();
    }
    causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect::<Vec<_>>().join("\n")
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}
