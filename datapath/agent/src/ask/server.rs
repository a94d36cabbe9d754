//! Listens, reads requests, writes what the main loop answers.

use super::Asked;
use portreeve_ask::{Body, LONGEST_REQUEST, Reply, Request};
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long a client may be silent.
const SILENCE: Duration = Duration::from_secs(5);
/// How long the main loop may take; it answers when nothing is left to program.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one client may keep the others waiting.
const CONVERSATION: Duration = Duration::from_secs(120);
/// Wait after a connection that could not be taken.
const RETRY: Duration = Duration::from_secs(1);

/// Why nobody listens.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListenError {
    /// Another agent does.
    #[error("another agent listens at {}", .0.display())]
    InUse(PathBuf),
    /// The system says no.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// Answers at `path` until `stop` falls. Without it the agent does all its other work, and its log says why.
pub(crate) async fn serve(path: PathBuf, node: String, requests: mpsc::Sender<Asked>, stop: CancellationToken) {
    let listener = match listen(&path) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(error = %error, "Nobody can ask this agent: its admin socket cannot be opened");
            return;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = answer_all(&listener, &node, &requests) => {}
    }
    if let Err(error) = fs::remove_file(&path) {
        tracing::debug!(error = %error, "The admin socket is left behind");
    }
}

/// A socket that nobody but this process's user can connect to. What a process that was killed left there is replaced.
pub(super) fn listen(path: &Path) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Io { path: path.to_owned(), source };
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(ListenError::InUse(path.to_owned()));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

pub(super) async fn answer_all(listener: &UnixListener, node: &str, requests: &mpsc::Sender<Asked>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let talk = Talk { node, requests };
                match timeout(CONVERSATION, talk.hold(stream)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::debug!(error = %error, "A client of the admin socket went"),
                    Err(_) => tracing::warn!("A client of the admin socket took too long and was cut off"),
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, "A connection to the admin socket could not be taken");
                sleep(RETRY).await;
            }
        }
    }
}

/// The conversation with one client.
struct Talk<'a> {
    node: &'a str,
    requests: &'a mpsc::Sender<Asked>,
}

impl Talk<'_> {
    /// Request by request, until the client has no more.
    async fn hold(&self, mut stream: UnixStream) -> io::Result<()> {
        let (read, mut write) = stream.split();
        let mut read = BufReader::new(read);
        loop {
            let mut line = Vec::new();
            let limit = u64::try_from(LONGEST_REQUEST).unwrap_or(u64::MAX);
            let mut bounded = (&mut read).take(limit);
            let (body, last) = match timeout(SILENCE, bounded.read_until(b'\n', &mut line)).await {
                Ok(read) => match read? {
                    0 => return Ok(()),
                    _ if line.len() >= LONGEST_REQUEST && line.last() != Some(&b'\n') => {
                        (Body::Error(format!("a request has at most {LONGEST_REQUEST} bytes")), true)
                    }
                    _ => (self.answer(&line).await, false),
                },
                Err(_) => (Body::Error(format!("no request within {} s", SILENCE.as_secs())), true),
            };
            let mut reply = Reply::new(self.node, env!("CARGO_PKG_VERSION"), body).line();
            reply.push('\n');
            timeout(SILENCE, write.write_all(reply.as_bytes()))
                .await
                .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            if last {
                return Ok(());
            }
        }
    }

    async fn answer(&self, line: &[u8]) -> Body {
        let request = match Request::read(&String::from_utf8_lossy(line)) {
            Ok(request) => request,
            Err(bad) => return Body::Error(bad.to_string()),
        };
        let (answer, answered) = oneshot::channel();
        let ends = || Body::Error("the agent is ending; ask again when it is back".to_owned());
        if self.requests.send(Asked { request, answer }).await.is_err() {
            return ends();
        }
        match timeout(PATIENCE, answered).await {
            Ok(Ok(Ok(answer))) => Body::Answer(answer),
            Ok(Ok(Err(why))) => Body::Error(why),
            Ok(Err(_)) => ends(),
            Err(_) => Body::Error(format!("the agent had no time for an answer within {} s", PATIENCE.as_secs())),
        }
    }
}
