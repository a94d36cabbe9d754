//! The table as BPF programs and maps; today: what this node lets such an engine do.
//!
//! This room knows bpf(2) and the kernel's BPF files, and is the only one with unsafe code, all of it in `sys`. It may
//! not know Kubernetes, clients, policies or netfilter. Everything is tried rather than read off the kernel's release:
//! distributions backport, and containers forbid.

mod probe;
mod sys;

pub use probe::Ebpf;
