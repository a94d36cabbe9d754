//! bpf(2), as far as probing needs it. Layouts are those of `union bpf_attr` in `include/uapi/linux/bpf.h`; the kernel
//! takes a shorter attribute than its own and reads the rest as zero.

use std::ffi::CStr;
use std::io;
use std::mem;
use std::os::fd::{FromRawFd as _, OwnedFd};

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_QUERY: libc::c_long = 16;

/// Instruction `r0 = value`.
const MOV64_IMM: u8 = 0xb7;
/// Instruction `exit`.
const EXIT: u8 = 0x95;

/// Kinds of program that are probed (`enum bpf_prog_type`).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum ProgramType {
    SchedCls = 3,
    SkLookup = 30,
}

/// Where programs are attached (`enum bpf_attach_type`).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum AttachType {
    Unspecified = 0,
    SkLookup = 36,
    TcxIngress = 46,
}

/// Kinds of map that are probed (`enum bpf_map_type`).
#[derive(Clone, Copy, Debug)]
#[repr(u32)]
pub(crate) enum MapType {
    Hash = 1,
    Array = 2,
    LpmTrie = 11,
    RingBuf = 27,
}

/// `BPF_F_NO_PREALLOC`: an LPM trie must have it.
pub(crate) const NO_PREALLOC: u32 = 1;
/// `BPF_F_MMAPABLE`: user space may map the array and write it without a syscall (Linux 5.5).
pub(crate) const MMAPABLE: u32 = 1 << 10;

/// The attribute of `BPF_MAP_CREATE`.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct MapCreate {
    pub(crate) map_type: MapType,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
}

/// `struct bpf_insn`.
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    expected_attach_type: u32,
}

#[derive(Default)]
#[repr(C)]
struct ProgQuery {
    target_interface: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    program_ids: u64,
    count: u32,
    padding: u32,
    program_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// Creates a map; it is gone when the returned descriptor is dropped.
///
/// # Errors
/// The errno of bpf(2).
pub(crate) fn create_map(mut map: MapCreate) -> io::Result<OwnedFd> {
    // SAFETY: `MapCreate` is the head of `union bpf_attr` for this command and holds no pointer.
    let fd = unsafe { bpf(BPF_MAP_CREATE, &mut map) }?;
    own(fd)
}

/// Loads the program `return value`, attached nowhere; it is gone when the returned descriptor is dropped.
///
/// # Errors
/// The errno of bpf(2).
pub(crate) fn load_return(kind: ProgramType, attach: AttachType, value: i32) -> io::Result<OwnedFd> {
    const LICENSE: &CStr = c"Dual BSD/GPL";
    let instructions = [
        Instruction { code: MOV64_IMM, registers: 0, offset: 0, immediate: value },
        Instruction { code: EXIT, registers: 0, offset: 0, immediate: 0 },
    ];
    let mut attr = ProgLoad {
        prog_type: kind as u32,
        instruction_count: 2,
        instructions: instructions.as_ptr() as u64,
        license: LICENSE.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name: [0; 16],
        interface: 0,
        expected_attach_type: attach as u32,
    };
    // SAFETY: `ProgLoad` is the head of `union bpf_attr` for this command; its two pointers lead to `instructions`, as many
    // as `instruction_count` says, and to a NUL-terminated string, and both outlive the call, which only reads them.
    let fd = unsafe { bpf(BPF_PROG_LOAD, &mut attr) }?;
    own(fd)
}

/// Number of programs attached at `attach` to the interface of index `interface`.
///
/// # Errors
/// The errno of bpf(2); `EINVAL` where the kernel does not know the attach type.
pub(crate) fn attached(interface: u32, attach: AttachType) -> io::Result<u32> {
    let mut attr = ProgQuery { target_interface: interface, attach_type: attach as u32, ..ProgQuery::default() };
    // SAFETY: `ProgQuery` is the head of `union bpf_attr` for this command; its pointers are null, which asks for the
    // number only, and the kernel writes `attach_flags`, `count` and `revision`, all within the struct.
    unsafe { bpf(BPF_PROG_QUERY, &mut attr) }?;
    Ok(attr.count)
}

/// One call of bpf(2).
///
/// # Safety
/// `attr` must be laid out as the kernel's `union bpf_attr` begins for `command`, and every pointer in it must be null or
/// valid for what the command does with it, until the call returns.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    let attr: *mut T = attr;
    // SAFETY: `attr` points to `size_of::<T>()` bytes that are ours alone; what they mean to the kernel is the caller's
    // promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr, mem::size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn own(fd: libc::c_long) -> io::Result<OwnedFd> {
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: bpf(2) has just returned `fd` as a new descriptor (close-on-exec), which nothing else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
