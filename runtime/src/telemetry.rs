//! Logging of a process: one subscriber, text or JSON, to standard error.

mod escape;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::args::{LogArgs, LogFormat};
pub use escape::EscapingWriter;

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not a list of tracing directives.
    #[error("log filter {filter:?} is not understood: {source}")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// A subscriber has been installed before.
    #[error("logging was started twice: {0}")]
    Twice(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Installs the process's subscriber. Control characters of logged values are escaped in both formats, so that nobody's
/// object name can forge a line or drive a terminal.
///
/// # Errors
/// See [`TelemetryError`].
pub fn init(args: &LogArgs) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(&args.log_filter)
        .map_err(|source| TelemetryError::Filter { filter: args.log_filter.clone(), source })?;
    let to_stderr = BoxMakeWriter::new(|| EscapingWriter::new(std::io::stderr()));
    // Colours would be escaped like any other control character.
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(to_stderr);
    match args.log_format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    }
    .map_err(TelemetryError::Twice)
}
