//! What others do to our table, as the kernel tells it while it happens.

use super::ruleset::TABLE;
use crate::message;
use crate::netlink::NetlinkError;
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use std::io::ErrorKind;
use std::os::fd::{AsFd as _, OwnedFd};

/// `NFNLGRP_NFTABLES`: every change of any rule, set or element of this network namespace.
const GROUP: u32 = 7;
/// A proxy that writes all its rules anew is heard to the end, and what does not fit is known to have been lost.
const BUFFER: usize = 1 << 20;

/// What was heard since the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing about our table that we did not do.
    Nothing,
    /// Somebody else has changed something of our table.
    Foreign,
    /// More than could be heard: anything may have happened.
    TooMuch,
}

/// A socket on which the kernel tells of every change.
#[derive(Debug)]
pub(super) struct Watch {
    socket: Socket,
    /// Number by which changes of our own are known.
    own: u32,
}

impl Watch {
    /// Hears changes from now on. `own` is the port of the socket that makes ours.
    pub(super) fn open(own: u32) -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(NetlinkError::Socket)?;
        socket.bind_auto().map_err(NetlinkError::Socket)?;
        socket.set_rx_buf_sz(BUFFER).map_err(NetlinkError::Socket)?;
        socket.add_membership(GROUP).map_err(NetlinkError::Socket)?;
        socket.set_non_blocking(true).map_err(NetlinkError::Socket)?;
        Ok(Self { socket, own })
    }

    /// Readable when there is something to hear.
    pub(super) fn alarm(&self) -> std::io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    /// Hears everything that was told since the last time.
    pub(super) fn hear(&self) -> Result<Heard, NetlinkError> {
        let (mut foreign, mut lost) = (false, false);
        loop {
            match self.socket.recv_from_full() {
                Ok((datagram, _)) => {
                    let authors = message::authors(&datagram, TABLE).ok_or(NetlinkError::Malformed)?;
                    foreign |= authors.iter().any(|author| *author != self.own);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(match (foreign, lost) {
                        (true, _) => Heard::Foreign,
                        (false, true) => Heard::TooMuch,
                        (false, false) => Heard::Nothing,
                    });
                }
                // ENOBUFS: the kernel had more to tell than the buffer holds.
                Err(error) if error.raw_os_error() == Some(nix::libc::ENOBUFS) => lost = true,
                Err(error) => return Err(NetlinkError::Exchange(error)),
            }
        }
    }
}
