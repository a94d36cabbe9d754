//! PID 1 of a node: makes the inside of the namespaces look like a machine, starts the node's daemons, reaps orphans.
//!
//! It runs in namespaces made by `unshare` (mount, pid, uts, ipc) inside the node's network namespace. Whatever it mounts
//! is seen by the node alone and ends with it: no directory of the machine's `/var`, `/etc` or `/run` is touched.

use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, sethostname};
use serde::{Deserialize, Serialize};

use super::error::{NodeError, file_error, kernel_error};

/// What PID 1 has to know; the node's configuration files lie in `dir` already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitPlan {
    /// Hostname, and the Node's name.
    pub name: String,
    /// The node's own directory on the machine's disk.
    pub dir: PathBuf,
    /// Where logs of daemons and Pods go.
    pub log: PathBuf,
    /// Daemons in order of starting.
    pub daemons: Vec<Daemon>,
}

/// A program that PID 1 starts, and starts again when it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Names the log: `NAME.log`.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// A unix socket that must accept connections before this daemon is started.
    pub after_socket: Option<PathBuf>,
}

/// Sysctls of the whole machine that a kubelet writes at its start unless they already read as it wants: it is shown
/// files that do, and the machine keeps its own.
const SHOWN_SYSCTLS: &[(&str, &str)] = &[
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Node directory → where the node's daemons expect it. The parents are empty tmpfs, so that nothing is made on the
/// machine and nothing of it shows through.
const PLACES: &[(&str, &str)] =
    &[("kubelet", "/var/lib/kubelet"), ("containerd", "/var/lib/containerd"), ("cni", "/var/lib/cni")];

/// The same for logs, which are kept when the node's directory goes.
const LOG_PLACES: &[(&str, &str)] = &[("pods", "/var/log/pods"), ("containers", "/var/log/containers")];

/// The directories that must exist before [`run`].
pub(super) fn directories(plan: &InitPlan) -> Vec<PathBuf> {
    let own = ["cg", "tmp", "sysctl", "cni.d"].iter().chain(PLACES.iter().map(|(from, _)| from));
    let logs = LOG_PLACES.iter().map(|(from, _)| plan.log.join(from));
    own.map(|name| plan.dir.join(name)).chain(logs).collect()
}

/// Paths that a node covers with mounts of its own; the testbed's files cannot live under them.
pub const COVERED: &[&str] = &["/run", "/var/run", "/var/lib", "/var/log", "/sys", "/proc"];

const SOCKET_WAIT: Duration = Duration::from_secs(60);
const RESTART_PAUSE: Duration = Duration::from_secs(1);
const NONE: Option<&str> = None;

/// Runs the node until its namespaces are taken away. Returns only with an error.
pub fn run(plan_file: &Path) -> Result<(), NodeError> {
    let text = fs::read(plan_file).map_err(file_error("read", plan_file))?;
    let plan: InitPlan = serde_json::from_slice(&text)?;
    sethostname(&plan.name).map_err(kernel_error("name the host", &plan.name))?;
    furnish(&plan)?;
    let mut running: Vec<(Pid, &Daemon)> = Vec::new();
    for daemon in &plan.daemons {
        running.push((start(&plan, daemon)?, daemon));
    }
    loop {
        // Shims and other orphans are reaped here as well; only daemons are missed.
        let ended = match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => pid,
            Ok(_) | Err(nix::Error::EINTR) => continue,
            Err(e) => return Err(kernel_error("wait for children of", &plan.name)(e)),
        };
        if let Some(slot) = running.iter_mut().find(|(pid, _)| *pid == ended) {
            eprintln!("{} ended; it is started again", slot.1.name);
            sleep(RESTART_PAUSE);
            slot.0 = start(&plan, slot.1)?;
        }
    }
}

fn furnish(plan: &InitPlan) -> Result<(), NodeError> {
    let dir = &plan.dir;
    // A sysfs of this network namespace, with the machine's cgroup mounts carried over as they are.
    let carried = dir.join("cg");
    bind("/sys/fs/cgroup".as_ref(), &carried, MsFlags::MS_REC)?;
    fresh("sysfs", "/sys", None)?;
    bind(&carried, "/sys/fs/cgroup".as_ref(), MsFlags::MS_REC)?;
    umount2(&carried, MntFlags::MNT_DETACH).map_err(kernel_error("let go of", carried.display()))?;
    fresh("bpf", "/sys/fs/bpf", None)?;

    for place in ["/run", "/var/lib", "/var/log"] {
        fresh("tmpfs", place, Some("mode=755"))?;
    }
    for made in ["/run/lock", "/run/netns", "/run/containerd"] {
        fs::create_dir_all(made).map_err(file_error("create", made.as_ref()))?;
    }
    let places = PLACES.iter().map(|(from, to)| (dir.join(from), *to));
    for (from, to) in places.chain(LOG_PLACES.iter().map(|(from, to)| (plan.log.join(from), *to))) {
        fs::create_dir_all(to).map_err(file_error("create", to.as_ref()))?;
        bind(&from, to.as_ref(), MsFlags::empty())?;
    }
    for (key, value) in SHOWN_SYSCTLS {
        let real = Path::new("/proc/sys").join(key);
        if real.exists() {
            let shown = dir.join("sysctl").join(key.replace('/', "."));
            fs::write(&shown, format!("{value}\n")).map_err(file_error("write", &shown))?;
            bind(&shown, &real, MsFlags::empty())?;
        }
    }
    // Mounts made for one container must reach the others, as on a machine started by systemd.
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SHARED, NONE).map_err(kernel_error("share mounts under", "/"))
}

fn fresh(kind: &str, at: &str, options: Option<&str>) -> Result<(), NodeError> {
    mount(Some(kind), at, Some(kind), MsFlags::empty(), options).map_err(kernel_error("mount a filesystem on", at))
}

fn bind(from: &Path, to: &Path, more: MsFlags) -> Result<(), NodeError> {
    mount(Some(from), to, NONE, MsFlags::MS_BIND | more, NONE)
        .map_err(kernel_error("bind a directory on", to.display()))
}

fn start(plan: &InitPlan, daemon: &Daemon) -> Result<Pid, NodeError> {
    if let Some(socket) = &daemon.after_socket {
        await_socket(socket, &plan.log)?;
    }
    let no_command = || NodeError::NoCommand(daemon.name.clone());
    let (program, args) = daemon.command.split_first().ok_or_else(no_command)?;
    let path = plan.log.join(format!("{}.log", daemon.name));
    let log = File::options().create(true).append(true).open(&path).map_err(file_error("open", &path))?;
    let errors = log.try_clone().map_err(file_error("open", &path))?;
    let child = Command::new(program)
        .args(args)
        // Left-over scratch files belong to the node's directory, not to the machine's /tmp.
        .env("TMPDIR", plan.dir.join("tmp"))
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        .spawn()
        .map_err(file_error("start", program.as_ref()))?;
    Ok(Pid::from_raw(child.id().cast_signed()))
}

fn await_socket(socket: &Path, log: &Path) -> Result<(), NodeError> {
    let deadline = Instant::now() + SOCKET_WAIT;
    while UnixStream::connect(socket).is_err() {
        if Instant::now() > deadline {
            let what = format!("nothing listened on {}", socket.display());
            return Err(NodeError::TooLate { what, within: SOCKET_WAIT, log: log.to_owned() });
        }
        sleep(Duration::from_millis(20));
    }
    Ok(())
}
