//! Listeners that connections to other addresses can be steered to.
//!
//! On loopback and at any free port: nobody but this node's own processes can connect to them by their addresses, and no
//! port has to be kept free for them.

use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as Bound};
use tokio::net::TcpListener;

/// Why nobody listens.
#[derive(Debug, thiserror::Error)]
pub(super) enum ListenError {
    /// Not even over IPv4.
    #[error("cannot listen on the loopback address: {0}; is the interface lo up?")]
    Bind(#[source] io::Error),
    /// The right to take connections to other addresses.
    #[error("cannot take connections to other addresses: {0}; give the agent NET_ADMIN")]
    Transparent(#[source] io::Error),
}

/// A listener of each family that this node has.
pub(super) fn listen() -> Result<Vec<(SocketAddr, TcpListener)>, ListenError> {
    let mut listeners = vec![one(Bound::bind((Ipv4Addr::LOCALHOST, 0)))?];
    match one(Bound::bind((Ipv6Addr::LOCALHOST, 0))) {
        Ok(six) => listeners.push(six),
        Err(error) => tracing::debug!(error = %error, "Health checks over IPv6 are left to kube-proxy"),
    }
    Ok(listeners)
}

fn one(bound: io::Result<Bound>) -> Result<(SocketAddr, TcpListener), ListenError> {
    let bound = bound.map_err(ListenError::Bind)?;
    // Of both families, in spite of its level (`ipv6_setsockopt` of the kernel).
    setsockopt(&bound, sockopt::IpTransparent, &true).map_err(|errno| ListenError::Transparent(errno.into()))?;
    bound.set_nonblocking(true).map_err(ListenError::Bind)?;
    let address = bound.local_addr().map_err(ListenError::Bind)?;
    Ok((address, TcpListener::from_std(bound).map_err(ListenError::Bind)?))
}
