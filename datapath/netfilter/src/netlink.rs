//! Questions and batches to the kernel over a netfilter netlink socket.

use crate::message::{self, Answer};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use std::io;

/// Longest request that fits without asking for a larger buffer (half of the kernel's smallest usual `wmem_default`).
const ROOM: usize = 64 * 1024;

/// Why the kernel could not be asked, or what it refused.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket: the kernel has no netfilter netlink, or the process may not open one.
    #[error("no netfilter netlink socket: {0}")]
    Socket(#[source] io::Error),
    /// The socket failed.
    #[error("netfilter netlink: {0}")]
    Exchange(#[source] io::Error),
    /// The kernel refused the request.
    #[error("the kernel refuses it: {0}")]
    Refused(#[source] io::Error),
    /// The kernel did not acknowledge the request.
    #[error("the kernel does not answer")]
    Silent,
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
            Self::Silent | Self::Malformed => false,
        }
    }
}

/// A netfilter netlink socket, of the network namespace in which it was opened.
///
/// It is worth keeping: when one is closed soon after a change, the kernel lets the closing wait until what the change took
/// away is freed, some 15 ms (`nft_rcv_nl_event`).
#[derive(Debug)]
pub(crate) struct Connection(Socket);

impl Connection {
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(NetlinkError::Socket)?;
        socket.bind_auto().map_err(NetlinkError::Socket)?;
        socket.set_non_blocking(true).map_err(NetlinkError::Socket)?;
        // Errors come without a copy of the message that they are about.
        socket.set_cap_ack(true).map_err(NetlinkError::Socket)?;
        Ok(Self(socket))
    }

    /// The number by which the kernel names this socket as the author of a change.
    pub(crate) fn port(&self) -> Result<u32, NetlinkError> {
        let mut address = SocketAddr::new(0, 0);
        self.0.get_address(&mut address).map_err(NetlinkError::Socket)?;
        Ok(address.port_number())
    }

    /// Sends `request` and reads everything that the kernel answers.
    ///
    /// The kernel works on a request while it is being sent, so every answer is there when the sending returns: the socket
    /// does not block, and a kernel that says nothing is an error of the caller's to find rather than a wait.
    pub(crate) fn exchange(&self, request: &[u8]) -> Result<Vec<Answer>, NetlinkError> {
        let Self(socket) = self;
        if request.len() > ROOM {
            // A batch is one datagram and must fit as a whole.
            setsockopt(socket, sockopt::SndBufForce, &request.len())
                .map_err(|errno| NetlinkError::Socket(io::Error::from(errno)))?;
        }
        socket.send_to(request, &SocketAddr::new(0, 0), 0).map_err(NetlinkError::Exchange)?;
        let mut answers = Vec::new();
        loop {
            match socket.recv_from_full() {
                Ok((datagram, _)) => answers.extend(message::answers(&datagram).ok_or(NetlinkError::Malformed)?),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(answers),
                Err(error) => return Err(NetlinkError::Exchange(error)),
            }
        }
    }

    /// Reads what is left of earlier answers.
    pub(crate) fn drain(&self) {
        let Self(socket) = self;
        // A buffer that ran over says so once, before what it holds.
        while socket.recv_from_full().or_else(|_| socket.recv_from_full()).is_ok() {}
    }

    /// Sends `request`, gives the data of the answer and makes sure that the message of number `last` was acknowledged.
    pub(crate) fn ask(&self, request: &[u8], last: u32) -> Result<Option<Vec<u8>>, NetlinkError> {
        Ok(self.list(request, last)?.pop())
    }

    /// Sends `request`, gives the data of each answer and makes sure that they are all: that the message of number `last`
    /// was acknowledged, or the dump that it asks for came to its end.
    pub(crate) fn list(&self, request: &[u8], last: u32) -> Result<Vec<Vec<u8>>, NetlinkError> {
        let (mut data, mut done) = (Vec::new(), false);
        for answer in self.exchange(request)? {
            match answer {
                Answer::Failed { errno, .. } => return Err(NetlinkError::Refused(io::Error::from_raw_os_error(errno))),
                Answer::Done { sequence } => done |= sequence == last,
                Answer::Data(attributes) => data.push(attributes),
            }
        }
        if done { Ok(data) } else { Err(NetlinkError::Silent) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::{Namespace, privileged};

    #[test]
    fn what_an_earlier_request_left_unread_is_no_answer_to_the_next() {
        privileged("netlink::tests::what_an_earlier_request_left_unread_is_no_answer_to_the_next", || {
            Namespace::new().run(|| {
                let kernel = Connection::open().unwrap();
                let ask = || kernel.ask(&message::get_generation(), 1);
                let leave = || kernel.0.send_to(&message::get_table("nowhere"), &SocketAddr::new(0, 0), 0).unwrap();
                leave();
                assert!(matches!(ask(), Err(NetlinkError::Refused(_))), "it is taken for one");
                leave();
                kernel.drain();
                assert!(ask().is_ok());
            });
        });
    }
}
