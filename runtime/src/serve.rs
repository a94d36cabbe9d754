//! One HTTP/1.1 connection loop under the admin server and the TLS server.
//!
//! It bounds what a stranger can hold: connections, time for a handshake, time for a request's head, idle time. HTTP/1.1
//! only, because the API server speaks nothing else to webhooks. The time for a body is the router's to bound
//! (`tower_http::timeout`), which also knows the size it accepts.

mod head;

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use head::{HeadWatch, Watched};

/// Pause after a failed accept, as when descriptors run out: otherwise the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bounds on what clients can hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; further ones wait in the kernel's backlog.
    pub max_connections: usize,
    /// Time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// Time from a request's first byte (for the first request: from the connection) to the end of its head.
    pub header_timeout: Duration,
    /// Time that a kept-alive connection may stay silent. Longer than the 90 s after which the API server's own client
    /// drops a connection, so that we never close one that it is just about to use.
    pub idle_timeout: Duration,
    /// Time that requests under way have after the stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 512,
            handshake_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(120),
            drain: Duration::from_secs(10),
        }
    }
}

/// In the extensions of every request: the address of ours that the client connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked(pub SocketAddr);

/// Serves `router` without TLS until `stop` falls, then drains.
pub async fn plain(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    run(listener, |stream| std::future::ready(Ok(stream)), router, limits, stop).await;
}

/// The loop itself; `handshake` turns an accepted stream into the one to speak HTTP on.
pub(crate) async fn run<H, F, S>(
    listener: TcpListener,
    handshake: H,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) where
    H: Fn(TcpStream) -> F,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let room = Arc::new(Semaphore::new(limits.max_connections));
    let tasks = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await.expect("invariant: the semaphore is never closed");
            (permit, listener.accept().await)
        };
        let (permit, stream) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            (permit, accepted) = accepted => match accepted {
                Ok((stream, _)) => (permit, stream),
                Err(error) => {
                    tracing::warn!(%error, "Failed to accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "Connection was gone before it was served");
            continue;
        }
        let asked = stream.local_addr().ok().map(Asked);
        let shaken = tokio::time::timeout(limits.handshake_timeout, handshake(stream));
        let (router, stop, cut) = (router.clone(), stop.clone(), cut.clone());
        tasks.spawn(async move {
            let _permit = permit;
            match shaken.await {
                Ok(Ok(stream)) => connection(stream, asked, router, limits, stop, cut).await,
                Ok(Err(error)) => tracing::debug!(%error, "Handshake failed"),
                Err(_) => tracing::debug!("Handshake took too long"),
            }
        });
    }
    // Close the door first, so that new connections are refused and go to another replica.
    drop(listener);
    tasks.close();
    if tokio::time::timeout(limits.drain, tasks.wait()).await.is_err() {
        tracing::warn!(left = tasks.len(), "Cut connections that did not finish in time");
        cut.cancel();
        tasks.wait().await;
    }
}

async fn connection<S>(
    stream: S,
    asked: Option<Asked>,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
    cut: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let head = Arc::new(HeadWatch::new());
    let of_service = Arc::clone(&head);
    let service = service_fn(move |mut request: Request<Incoming>| {
        of_service.complete();
        if let Some(asked) = asked {
            request.extensions_mut().insert(asked);
        }
        let (router, head) = (router.clone(), Arc::clone(&of_service));
        async move {
            let answer = router.oneshot(request).await;
            head.answered();
            answer
        }
    });
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&head)));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        // hyper counts this also while a kept-alive connection is silent; `head` bounds the head itself.
        .header_read_timeout(limits.idle_timeout)
        .serve_connection(io, service);
    let (mut served, mut late) = (pin!(served), pin!(head.late(limits.header_timeout)));
    let mut stopping = false;
    loop {
        tokio::select! {
            end = served.as_mut() => {
                if let Err(error) = end {
                    tracing::debug!(%error, "Connection ended early");
                }
                return;
            }
            () = late.as_mut() => return tracing::debug!("Request head took too long"),
            () = cut.cancelled() => return,
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

#[cfg(test)]
mod tests;
