//! Tells a slow request head from a silent kept-alive connection, which hyper's own timer does not.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// No head is being read and none has begun: the next byte begins one.
const SILENT: u64 = u64::MAX;
/// A request is being served: bytes that come belong to its body.
const SERVING: u64 = u64::MAX - 1;

/// Since when, in milliseconds after the connection began, a head is being read; or one of the two marks above.
#[derive(Debug)]
pub(super) struct HeadWatch {
    opened: Instant,
    state: AtomicU64,
}

impl HeadWatch {
    pub(super) fn new() -> Self {
        Self { opened: Instant::now(), state: AtomicU64::new(0) }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(SERVING - 1)
    }

    fn bytes_came(&self) {
        // Losing the race means that a head or a request is under way already, which is what we want to record.
        let _ = self.state.compare_exchange(SILENT, self.elapsed(), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The head is complete and its request goes to the router.
    pub(super) fn complete(&self) {
        self.state.store(SERVING, Ordering::Relaxed);
    }

    /// The router answered.
    pub(super) fn answered(&self) {
        self.state.store(SILENT, Ordering::Relaxed);
    }

    /// Ends when one head has taken longer than `limit`, a quarter of it later at most.
    pub(super) async fn late(&self, limit: Duration) {
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(SERVING - 1);
        loop {
            tokio::time::sleep((limit / 4).max(Duration::from_millis(1))).await;
            let since = self.state.load(Ordering::Relaxed);
            if since < SERVING && self.elapsed().saturating_sub(since) >= limit_ms {
                return;
            }
        }
    }
}

/// A stream that reports when bytes come.
#[derive(Debug)]
pub(super) struct Watched<S> {
    inner: S,
    head: std::sync::Arc<HeadWatch>,
}

impl<S> Watched<S> {
    pub(super) fn new(inner: S, head: std::sync::Arc<HeadWatch>) -> Self {
        Self { inner, head }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.head.bytes_came();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
