//! What others do to our rules, as the kernel tells it while it happens.

use crate::message::{self, Change};
use crate::netlink::NetlinkError;
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd as _, OwnedFd};

/// `NFNLGRP_NFTABLES`: every change of any rule, set or element of this network namespace.
const GROUP: u32 = 7;
/// A proxy that writes all its rules anew is heard to the end, and what does not fit is known to have been lost.
const BUFFER: usize = 1 << 20;

/// What was heard since the last time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing that concerns us.
    Nothing,
    /// Something of ours was changed, and not by us.
    Foreign,
    /// More than could be heard: anything may have happened.
    TooMuch,
}

/// What concerns us.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Concern {
    /// Our table, of family `inet` and this name.
    Table(&'static str),
    /// Chains that we have in tables of others, and those from which packets come to them, as iptables in its nf_tables
    /// variant has them.
    Chains {
        /// How the names of our own begin.
        prefix: &'static str,
        /// The chains from which packets come to ours.
        from: &'static [&'static str],
    },
}

impl Concern {
    fn is_touched(self, change: &Change<'_>) -> bool {
        match self {
            Self::Table(name) => change.is_inet() && change.table == name.as_bytes(),
            Self::Chains { prefix, from } => {
                let ours = |chain: &[u8]| {
                    chain.starts_with(prefix.as_bytes()) || from.iter().any(|name| name.as_bytes() == chain)
                };
                // A table as a whole takes its chains along.
                !change.is_inet() && change.chain.map_or_else(|| change.is_table(), ours)
            }
        }
    }
}

/// A socket on which the kernel tells of every change.
#[derive(Debug)]
pub(crate) struct Watch {
    socket: Socket,
    concern: Concern,
}

impl Watch {
    /// Hears changes from now on.
    pub(crate) fn open(concern: Concern) -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(NETLINK_NETFILTER).map_err(NetlinkError::Socket)?;
        socket.bind_auto().map_err(NetlinkError::Socket)?;
        socket.set_rx_buf_sz(BUFFER).map_err(NetlinkError::Socket)?;
        socket.add_membership(GROUP).map_err(NetlinkError::Socket)?;
        socket.set_non_blocking(true).map_err(NetlinkError::Socket)?;
        Ok(Self { socket, concern })
    }

    /// Readable when there is something to hear.
    pub(crate) fn alarm(&self) -> io::Result<OwnedFd> {
        self.socket.as_fd().try_clone_to_owned()
    }

    /// Hears everything that was told since the last time, but for what the sockets of these ports did.
    pub(crate) fn hear(&self, own: &[u32]) -> Result<Heard, NetlinkError> {
        let (mut foreign, mut lost) = (false, false);
        loop {
            match self.socket.recv_from_full() {
                Ok((datagram, _)) => {
                    let changes = message::changes(&datagram).ok_or(NetlinkError::Malformed)?;
                    let theirs = |change: &&message::Change<'_>| !own.contains(&change.author);
                    foreign |= changes.iter().filter(theirs).any(|change| self.concern.is_touched(change));
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
