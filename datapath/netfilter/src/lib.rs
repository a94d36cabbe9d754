//! The table as an nftables or iptables ruleset; today: what this node lets such an engine do.
//!
//! This room knows the netfilter netlink family, its message format and where iptables lives. It may not know
//! Kubernetes, clients, policies or BPF. Probes start no process and change no rule: what nftables can do is asked of the
//! kernel, in a batch that the kernel checks and throws away.

mod iptables;
mod message;
mod netlink;
mod nftables;

pub use iptables::Iptables;
pub use nftables::Nftables;
