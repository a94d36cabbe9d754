//! Connections that the kernel knows.

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

/// `IPCTNL_MSG_CT_DELETE` of `NFNL_SUBSYS_CTNETLINK` (linux/netfilter/nfnetlink_conntrack.h).
const DELETE: u16 = (1 << 8) | 2;
/// `NLM_F_REQUEST | NLM_F_ACK` (linux/netlink.h).
const FLAGS: u16 = 1 | 4;
/// `NLMSG_ERROR`; with the number 0 it acknowledges.
const ACKNOWLEDGED: u16 = 2;

/// Ends all connections of this network namespace: a request that names none means all.
pub(crate) fn forget_all() {
    let mut request = Vec::new();
    // Length, kind, flags, sequence and port of the message; then any family, version 0, no resource.
    request.extend(20_u32.to_ne_bytes());
    request.extend([DELETE.to_ne_bytes(), FLAGS.to_ne_bytes()].concat());
    request.extend([0; 8]);
    request.extend([0; 4]);
    let kernel = Socket::new(NETLINK_NETFILTER).unwrap();
    kernel.send_to(&request, &SocketAddr::new(0, 0), 0).unwrap();
    let (answer, _) = kernel.recv_from_full().unwrap();
    assert_eq!(answer[4..6], ACKNOWLEDGED.to_ne_bytes(), "the kernel answers with an acknowledgement");
    assert_eq!(answer[16..20], [0; 4], "the kernel ends all connections");
}
