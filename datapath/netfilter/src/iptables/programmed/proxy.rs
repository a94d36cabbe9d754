//! A proxy that would decide before us.

use super::Programmed;
use crate::message::{self, ACK, Attributes, GET_TABLE};
use crate::netlink::NetlinkError;
use std::io::ErrorKind;

/// The table of kube-proxy in nftables mode, in the families `NFPROTO_IPV4` and `NFPROTO_IPV6` (its
/// `pkg/proxy/nftables/proxier.go`).
const TABLE: &str = "kube-proxy";
const FAMILIES: [(&str, u8); 2] = [("ip", 2), ("ip6", 10)];

impl Programmed {
    /// The family in which kube-proxy translates by nftables: at the place where iptables does, so that whoever came there later
    /// is asked first, and neither can change it without a gap.
    pub(super) fn is_behind(&self) -> Result<Option<&'static str>, NetlinkError> {
        for (name, family) in FAMILIES {
            let request = message::nftables_request(family, GET_TABLE, ACK, &Attributes::new().text(1, TABLE));
            match self.kernel.ask(&request, 1) {
                Ok(_) => return Ok(Some(name)),
                // The second is the answer of a kernel without nftables.
                Err(NetlinkError::Refused(error))
                    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidInput) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
