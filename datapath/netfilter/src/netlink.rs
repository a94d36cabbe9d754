//! One question to the kernel over a netfilter netlink socket.

use crate::message::{self, Answer};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use std::io;

/// Why the kernel could not be asked, or what it refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetlinkError {
    /// No socket: the kernel has no netfilter netlink, or the process may not open one.
    #[error("no netfilter netlink socket: {0}")]
    Socket(#[source] io::Error),
    /// The socket failed.
    #[error("netfilter netlink: {0}")]
    Exchange(#[source] io::Error),
    /// The kernel refused the request.
    #[error("the kernel refuses it: {0}")]
    Refused(#[source] io::Error),
    /// The answer was not one that the message format allows.
    #[error("the kernel's answer is malformed")]
    Malformed,
}

impl NetlinkError {
    /// Whether a missing capability can be the cause.
    pub(crate) fn is_permission(&self) -> bool {
        match self {
            Self::Socket(error) | Self::Exchange(error) | Self::Refused(error) => {
                error.kind() == io::ErrorKind::PermissionDenied
            }
            Self::Malformed => false,
        }
    }
}

/// Sends `request` and reads until the request of number `last` is acknowledged.
///
/// The kernel works on a request while it is being sent, so every answer is there when the sending returns: the socket
/// does not block, and a kernel that says nothing is an error rather than a wait.
pub(crate) fn ask(request: &[u8], last: u32) -> Result<(), NetlinkError> {
    let socket = Socket::new(NETLINK_NETFILTER).map_err(NetlinkError::Socket)?;
    socket.set_non_blocking(true).map_err(NetlinkError::Socket)?;
    socket.send_to(request, &SocketAddr::new(0, 0), 0).map_err(NetlinkError::Exchange)?;
    loop {
        let (datagram, _) = socket.recv_from_full().map_err(NetlinkError::Exchange)?;
        for answer in message::answers(&datagram).ok_or(NetlinkError::Malformed)? {
            match answer {
                Answer::Failed { errno, .. } => {
                    return Err(NetlinkError::Refused(io::Error::from_raw_os_error(errno)));
                }
                Answer::Done { sequence } if sequence == last => return Ok(()),
                Answer::Done { .. } | Answer::Data => {}
            }
        }
    }
}
