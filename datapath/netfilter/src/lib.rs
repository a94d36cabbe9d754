//! The table as an nftables ruleset, and what this node lets an nftables or iptables engine do.
//!
//! This room knows the netfilter netlink family, its message format and where iptables lives. It may not know
//! Kubernetes, clients, policies or BPF. Probes start no process and change no rule: what nftables can do is asked of the
//! kernel, in a batch that the kernel checks and throws away. Nor does the nftables engine start one: it writes its own
//! messages, lists what it wrote only when it is asked to read it back, and every change is one transaction. That of iptables
//! runs iptables-restore(8), with the chains that change alone.

pub mod conntrack;
pub mod iptables;
mod message;
mod netlink;
pub mod nftables;
#[cfg(test)]
mod packets;
mod watch;

#[cfg(test)]
use portreeve_agreement::namespace;

pub use iptables::Iptables;
pub use netlink::NetlinkError;
pub use nftables::Nftables;
