//! A TCP relay between two network namespaces: it listens on loopback in ours and dials from inside another.
//!
//! With it the API server of a cluster that lives in a namespace has an address that any client on the machine can
//! use, and no interface, route or firewall rule of the machine is touched.
//!
//! A socket belongs to the namespace its thread was in when it was made, for good. So one thread enters the other
//! namespace and makes all outgoing sockets, while the listening one is made before.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
};

use nix::sched::{CloneFlags, setns};
use tokio::{io::copy_bidirectional, net::TcpStream, task::JoinSet};
use tokio_util::sync::CancellationToken;

#[cfg(test)]
mod tests;

/// Why a relay could not be started.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// No loopback port to listen on.
    #[error("listen on loopback")]
    Listen(#[source] io::Error),
    /// The namespace could not be entered (root is needed).
    #[error("enter network namespace {path}", path = path.display())]
    Enter {
        /// The namespace's file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The relay's own thread or runtime could not be started.
    #[error("start the relay's thread")]
    Thread(#[source] io::Error),
}

/// A running relay; dropping it closes every connection.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Listens on a free loopback port and relays every connection to `target` as seen from inside `netns`.
    pub fn start(netns: &Path, target: SocketAddr) -> Result<Self, RelayError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(RelayError::Listen)?;
        let address = listener.local_addr().map_err(RelayError::Listen)?;
        listener.set_nonblocking(true).map_err(RelayError::Listen)?;
        let enter_error = |source| RelayError::Enter { path: netns.to_owned(), source };
        let namespace = File::open(netns).map_err(enter_error)?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (answer, entered) = std::sync::mpsc::channel();
        let thread = thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || {
                let ready = setns(&namespace, CloneFlags::CLONE_NEWNET)
                    .map_err(io::Error::from)
                    .and_then(|()| tokio::runtime::Builder::new_current_thread().enable_all().build());
                let runtime = match ready {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(answer.send(Err(error))),
                };
                // Nobody waits any more only when the starter panicked; `stop` then ends this thread at once.
                drop(answer.send(Ok(())));
                runtime.block_on(serve(listener, target, stopped));
            })
            .map_err(RelayError::Thread)?;
        let relay = Self { address, stop, thread: Some(thread) };
        entered.recv().map_err(|_| RelayError::Thread(io::Error::other("it ended")))?.map_err(enter_error)?;
        Ok(relay)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(address = %self.address, "relay thread panicked");
        }
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, stop: CancellationToken) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "relay cannot listen"),
    };
    // Dropping the set at the end aborts the connections.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((inside, _)) => {
                    connections.spawn(relay(inside, target));
                }
                Err(error) => tracing::warn!(%error, "relay could not accept"),
            },
        }
    }
}

/// Carries one connection. When the target refuses, the client sees its connection closed, as from a dead server.
async fn relay(mut inside: TcpStream, target: SocketAddr) {
    let carried = async {
        let mut outside = TcpStream::connect(target).await?;
        inside.set_nodelay(true)?;
        outside.set_nodelay(true)?;
        copy_bidirectional(&mut inside, &mut outside).await
    };
    if let Err(error) = carried.await {
        tracing::debug!(%target, %error, "relayed connection ended");
    }
}
