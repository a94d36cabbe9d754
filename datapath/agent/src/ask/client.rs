//! The other side of the socket: one question, printed answers.

use crate::args::AskArgs;
use portreeve_ask::{Answer, Body, Reply, Request};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

/// How long an answer is waited for; the agent gives up earlier.
const PATIENCE: Duration = Duration::from_secs(90);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens.
    #[error("no agent listens at {}: {source}; it does while it runs, see its log", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The conversation broke off.
    #[error("the agent's answer broke off: {0}")]
    Broken(#[from] io::Error),
    /// What came is no answer.
    #[error("what came is no answer of this version: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// The agent says why not.
    #[error("{0}")]
    Refused(String),
}

/// Asks, and writes each answer to standard output as a line of JSON; a table is asked for to its last page.
///
/// # Errors
/// When no agent answers, or it answers that it cannot.
pub fn ask(args: &AskArgs) -> Result<(), AskError> {
    let stream =
        UnixStream::connect(&args.socket).map_err(|source| AskError::Connect { path: args.socket.clone(), source })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let (mut requests, mut replies) = (&stream, BufReader::new(&stream));
    let mut request = Request::from(args.question.clone());
    loop {
        requests.write_all(format!("{}\n", request.line()).as_bytes())?;
        let mut line = String::new();
        replies.read_line(&mut line)?;
        let reply: Reply = serde_json::from_str(&line)?;
        let answer = match reply.body {
            Body::Error(why) => return Err(AskError::Refused(why)),
            Body::Answer(answer) => answer,
        };
        io::stdout().lock().write_all(line.as_bytes())?;
        match (&mut request, answer) {
            (Request::Table { after, .. }, Answer::Table(page)) if page.more_after.is_some() => {
                *after = page.more_after;
            }
            _ => return Ok(()),
        }
    }
}
