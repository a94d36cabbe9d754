use super::*;
use std::thread;

/// `_LINUX_CAPABILITY_VERSION_3` of capset(2).
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

fn held() -> Capabilities {
    Capabilities::parse(&fs::read_to_string("/proc/thread-self/status").unwrap()).unwrap()
}

/// Probes in a thread of its own that holds only `kept` of the capabilities that this one has.
fn probe_with(kept: u64) -> (Capabilities, Probe) {
    thread::spawn(move || {
        let [low, high] = [kept & 0xffff_ffff, kept >> 32].map(|half| u32::try_from(half).unwrap());
        let header: [u32; 2] = [CAPABILITY_VERSION_3, 0];
        let sets: [u32; 6] = [low, low, 0, high, high, 0];
        // SAFETY: capset(2) reads a header of two words and two records of three words, and changes this thread alone.
        let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
        assert_eq!(result, 0, "capabilities can be dropped: {}", io::Error::last_os_error());
        let held = held();
        (held, Ebpf.probe(held))
    })
    .join()
    .unwrap()
}

fn feature<'a>(probe: &'a Probe, name: &str) -> &'a Feature {
    probe.features.iter().find(|feature| feature.name == name).unwrap()
}

const BPF_BIT: u64 = 1 << 39;
const NET_ADMIN_BIT: u64 = 1 << 12;

#[test]
fn a_thread_without_capabilities_says_which_ones_a_program_lacks() {
    let (held, probe) = probe_with(0);
    assert!(!held.may_bpf() && !held.may_net_admin());
    assert_eq!(feature(&probe, "sched-cls").detail, "this process lacks CAP_BPF and CAP_NET_ADMIN");
    assert_eq!(feature(&probe, "sk-lookup").detail, "this process lacks CAP_BPF and CAP_NET_ADMIN");
    assert!(probe.missing().is_some());
}

#[test]
fn each_missing_capability_is_named_alone() {
    if !(held().may_bpf() && held().may_net_admin()) {
        // Whoever lacks them cannot keep one of them; the case above covers that caller.
        return;
    }
    let (_, probe) = probe_with(BPF_BIT);
    assert_eq!(feature(&probe, "sched-cls").detail, "this process lacks CAP_NET_ADMIN");
    let (_, probe) = probe_with(NET_ADMIN_BIT);
    assert_eq!(feature(&probe, "sched-cls").detail, "this process lacks CAP_BPF");
}

#[test]
fn bpf_and_net_admin_are_enough_for_whatever_all_capabilities_can_do() {
    let all = held();
    if !(all.may_bpf() && all.may_net_admin()) {
        return;
    }
    assert_eq!(probe_with(BPF_BIT | NET_ADMIN_BIT).1, Ebpf.probe(all));
}

#[test]
fn a_probe_agrees_with_the_kernels_own_files() {
    let probe = Ebpf.probe(held());
    assert_eq!(feature(&probe, "btf").available, fs::exists(BTF).unwrap());
    if let Ok(number) = setting(UNPRIVILEGED) {
        assert_eq!(feature(&probe, "unprivileged-bpf").available, number == 0);
    }
}

#[test]
fn no_probe_leaves_a_program_on_the_loopback_interface() {
    let before = sys::attached(LOOPBACK, AttachType::TcxIngress).ok();
    Ebpf.probe(held());
    assert_eq!(sys::attached(LOOPBACK, AttachType::TcxIngress).ok(), before);
}

#[test]
fn errors_are_told_apart() {
    let says = |errno, missing: &[&str]| explain(&io::Error::from_raw_os_error(errno), missing);
    assert_eq!(says(libc::EPERM, &["CAP_BPF"]), "this process lacks CAP_BPF");
    assert!(says(libc::EPERM, &[]).starts_with("refused although the capabilities are held"));
    assert_eq!(says(libc::ENOSYS, &[]), "the kernel is built without bpf(2)");
    assert!(says(libc::EINVAL, &["CAP_BPF"]).starts_with("the kernel does not know it"));
    assert!(jit(Ok(0)).is_err() && jit(Ok(1)).is_ok());
    assert!(unprivileged(Ok(0)).is_ok() && unprivileged(Ok(2)).is_err());
}
