//! What this node lets a BPF engine do, tried feature by feature. Every map and program that a probe makes is attached
//! nowhere and gone when the probe ends.

use crate::sys::{self, AttachType, MMAPABLE, MapCreate, MapType, NO_PREALLOC, ProgramType};
use portreeve_table::{Backend, BackendKind, Capabilities, Feature, Probe};
use std::fs;
use std::io;

const BTF: &str = "/sys/kernel/btf/vmlinux";
const JIT: &str = "/proc/sys/net/core/bpf_jit_enable";
const UNPRIVILEGED: &str = "/proc/sys/kernel/unprivileged_bpf_disabled";
/// The loopback interface has this index in every network namespace.
const LOOPBACK: u32 = 1;
/// A ring buffer is a power of two of whole pages; this holds for every page size in use.
const RING_BYTES: u32 = 64 * 1024;

/// The engine that programs packets with BPF.
#[derive(Clone, Copy, Debug)]
pub struct Ebpf;

impl Backend for Ebpf {
    fn kind(&self) -> BackendKind {
        BackendKind::Ebpf
    }

    fn probe(&self, held: Capabilities) -> Probe {
        let map = |map_type, key_size, value_size, max_entries, flags, what: &str| {
            let made = sys::create_map(MapCreate { map_type, key_size, value_size, max_entries, flags });
            tried(made, held, Needs::Bpf, format!("{what} can be created"))
        };
        let program = |kind, attach, value, what: &str| {
            tried(sys::load_return(kind, attach, value), held, Needs::BpfAndNetAdmin, format!("{what} can be loaded"))
        };
        let tcx = sys::attached(LOOPBACK, AttachType::TcxIngress);
        let features = vec![
            Feature::required("bpf-programs", Err("this version of Portreeve has none yet".to_owned())),
            Feature::required("bpf-maps", map(MapType::Hash, 4, 4, 1, 0, "a hash map")),
            Feature::required(
                "bpf-mmapable-array",
                map(MapType::Array, 4, 8, 1, MMAPABLE, "an array in shared memory"),
            ),
            Feature::required("bpf-lpm-trie", map(MapType::LpmTrie, 8, 4, 1, NO_PREALLOC, "a trie of address ranges")),
            Feature::required("bpf-ringbuf", map(MapType::RingBuf, 0, 0, RING_BYTES, 0, "a ring buffer")),
            Feature::required("btf", btf()),
            Feature::required(
                "sched-cls",
                program(ProgramType::SchedCls, AttachType::Unspecified, 0, "a packet program"),
            ),
            Feature::required(
                "tcx",
                tried(tcx, held, Needs::NetAdmin, "programs can be linked to interfaces".to_owned()),
            ),
            Feature::optional(
                "sk-lookup",
                program(ProgramType::SkLookup, AttachType::SkLookup, 1, "a socket look-up program"),
            ),
            Feature::optional("bpf-jit", jit(setting(JIT))),
            Feature::optional("unprivileged-bpf", unprivileged(setting(UNPRIVILEGED))),
        ];
        Probe { kind: BackendKind::Ebpf, features }
    }
}

/// What the kernel asks of the caller for one operation.
#[derive(Clone, Copy, Debug)]
enum Needs {
    Bpf,
    NetAdmin,
    BpfAndNetAdmin,
}

impl Needs {
    /// Names of the capabilities that are needed and not held.
    fn missing(self, held: Capabilities) -> Vec<&'static str> {
        let (bpf, net_admin) = match self {
            Self::Bpf => (true, false),
            Self::NetAdmin => (false, true),
            Self::BpfAndNetAdmin => (true, true),
        };
        let mut missing = Vec::new();
        if bpf && !held.may_bpf() {
            missing.push("CAP_BPF");
        }
        if net_admin && !held.may_net_admin() {
            missing.push("CAP_NET_ADMIN");
        }
        missing
    }
}

/// The outcome of one try, in words.
fn tried<T>(outcome: io::Result<T>, held: Capabilities, needs: Needs, seen: String) -> Result<String, String> {
    outcome.map(|_| seen).map_err(|error| explain(&error, &needs.missing(held)))
}

fn explain(error: &io::Error, missing: &[&str]) -> String {
    match (error.raw_os_error(), missing) {
        (Some(libc::EPERM | libc::EACCES), []) => {
            format!(
                "refused although the capabilities are held (a seccomp profile, a security module or lockdown?): {error}"
            )
        }
        (Some(libc::EPERM | libc::EACCES), missing) => format!("this process lacks {}", missing.join(" and ")),
        (Some(libc::ENOSYS), _) => "the kernel is built without bpf(2)".to_owned(),
        (Some(libc::EINVAL | libc::EOPNOTSUPP | libc::E2BIG), _) => format!("the kernel does not know it: {error}"),
        _ => error.to_string(),
    }
}

fn btf() -> Result<String, String> {
    match fs::metadata(BTF) {
        Ok(file) => Ok(format!("{BTF} has {} KiB", file.len() / 1024)),
        Err(error) => Err(format!("{BTF}: {error}")),
    }
}

/// The integer in a sysctl file.
fn setting(path: &str) -> Result<i64, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    text.trim().parse().map_err(|_| format!("{path} holds no number"))
}

/// Meaning of `net.core.bpf_jit_enable` (Documentation/admin-guide/sysctl/net.rst).
fn jit(setting: Result<i64, String>) -> Result<String, String> {
    match setting? {
        0 => Err("net.core.bpf_jit_enable is 0: programs are interpreted".to_owned()),
        on => Ok(format!("net.core.bpf_jit_enable is {on}")),
    }
}

/// Meaning of `kernel.unprivileged_bpf_disabled` (Documentation/admin-guide/sysctl/kernel.rst).
fn unprivileged(setting: Result<i64, String>) -> Result<String, String> {
    match setting? {
        0 => Ok("kernel.unprivileged_bpf_disabled is 0: users without capabilities may call bpf(2)".to_owned()),
        1 => Err("kernel.unprivileged_bpf_disabled is 1: capabilities are needed until reboot".to_owned()),
        other => Err(format!("kernel.unprivileged_bpf_disabled is {other}: capabilities are needed")),
    }
}

#[cfg(test)]
mod tests;
