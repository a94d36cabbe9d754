//! Network namespaces kept alive by a bind-mounted file, and how to act inside one.
//!
//! A namespace belongs to a thread, so everything here runs on a thread of its own that enters the namespace and ends;
//! no thread of the caller (nor of its async runtime) ever changes namespace. Nothing is written to `/run/netns`:
//! `ip netns exec` would remount `/sys` and hide bpffs.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

/// Why something in, or with, a network namespace failed.
#[derive(Debug, thiserror::Error)]
pub enum NetNsError {
    /// The file that pins it could not be made, opened or removed, or a file inside could not be written.
    #[error("{what} {path}", path = path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the filesystem said.
        source: io::Error,
    },
    /// The kernel refused to make, pin or enter it; without root it always does.
    #[error("{what} {path}", path = path.display())]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// The file that pins it.
        path: PathBuf,
        /// What the kernel said.
        source: nix::Error,
    },
    /// A program could not be started or fed.
    #[error("run {program}")]
    Start {
        /// The program.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A program failed.
    #[error("{program} in {path}: {said}\n{input}", path = path.display())]
    Failed {
        /// The program.
        program: String,
        /// The namespace it ran in.
        path: PathBuf,
        /// All it printed.
        said: String,
        /// What it was fed.
        input: String,
    },
    /// No async runtime could be made.
    #[error("start a runtime")]
    Runtime(#[source] io::Error),
}

/// A network namespace, named by the file it is bind-mounted on. Cloning copies the name, not the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetNs {
    path: PathBuf,
}

impl NetNs {
    /// Makes a new, empty namespace (loopback up, bridges not filtered by iptables) and pins it at `path`.
    pub fn create(path: &Path) -> Result<Self, NetNsError> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(file_error("create", parent))?;
        }
        File::create(path).map_err(file_error("create", path))?;
        on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(kernel_error("make a network namespace for", path))?;
            mount(Some("/proc/thread-self/ns/net"), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(kernel_error("pin a network namespace at", path))
        })?;
        let ns = Self::at(path);
        ns.ip("link set lo up\n")?;
        Ok(ns)
    }

    /// The namespace pinned at `path`; nothing is opened until it is used.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The file the namespace is pinned at, as `nsenter --net=` and `setns(2)` want it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on a new thread inside the namespace and waits for it. Sockets it opens and processes it spawns
    /// stay in the namespace after the thread has ended.
    pub fn enter<T, E>(&self, work: impl FnOnce() -> Result<T, E> + Send) -> Result<T, E>
    where
        T: Send,
        E: From<NetNsError> + Send,
    {
        on_thread(|| {
            self.join_current_thread()?;
            work()
        })
    }

    /// Moves the calling thread into the namespace for good: for threads made to live there.
    pub fn join_current_thread(&self) -> Result<(), NetNsError> {
        let file = File::open(&self.path).map_err(file_error("open", &self.path))?;
        setns(file, CloneFlags::CLONE_NEWNET).map_err(kernel_error("enter", &self.path))
    }

    /// Drives a future to its end on a single-threaded runtime inside the namespace. Blocks the caller.
    pub fn block_on<T, F>(&self, future: impl FnOnce() -> F + Send) -> Result<T, NetNsError>
    where
        T: Send,
        F: Future<Output = T>,
    {
        self.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(NetNsError::Runtime)?;
            Ok(runtime.block_on(future()))
        })
    }

    /// Runs iproute2 commands, one per line without the leading `ip`. The family follows from the addresses.
    pub fn ip(&self, batch: &str) -> Result<(), NetNsError> {
        self.run("ip", &["-batch", "-"], batch).map(drop)
    }

    /// Loads an nftables ruleset.
    pub fn nft(&self, ruleset: &str) -> Result<(), NetNsError> {
        self.run("nft", &["-f", "-"], ruleset).map(drop)
    }

    /// Sets sysctls of the namespace (`net/ipv4/ip_forward`), in the order given.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<(), NetNsError> {
        self.enter(|| {
            for (key, value) in settings {
                let file = Path::new("/proc/sys").join(key);
                match fs::write(&file, value) {
                    // A kernel without the feature has no file: then there is nothing to switch.
                    Err(e) if e.kind() == ErrorKind::NotFound => {}
                    other => other.map_err(file_error("write", &file))?,
                }
            }
            Ok(())
        })
    }

    /// Runs a program inside and feeds it `input`; its stdout, or an error with all it printed unless it exits with 0.
    pub fn run(&self, program: &str, args: &[&str], input: &str) -> Result<String, NetNsError> {
        let start_error = |source| NetNsError::Start { program: program.to_owned(), source };
        self.enter(|| {
            let mut child = Command::new(program)
                .args(args)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .map_err(start_error)?;
            // Taken, so that the program sees the end of its input.
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(input.as_bytes()).map_err(start_error)?;
            }
            let out = child.wait_with_output().map_err(start_error)?;
            if out.status.success() {
                return Ok(String::from_utf8_lossy(&out.stdout).into_owned());
            }
            Err(NetNsError::Failed {
                program: program.to_owned(),
                path: self.path.clone(),
                said: String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).trim().to_owned(),
                input: input.to_owned(),
            })
        })
    }

    /// Unpins the namespace. The kernel ends it once the last process and socket in it are gone. Gone already is fine.
    pub fn remove(&self) -> Result<(), NetNsError> {
        match umount2(&self.path, MntFlags::MNT_DETACH) {
            Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
            Err(e) => return Err(kernel_error("unpin", &self.path)(e)),
        }
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(file_error("remove", &self.path)(e)),
            _ => Ok(()),
        }
    }

    /// Whether the pin is still there.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }
}

fn file_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NetNsError {
    let path = path.to_owned();
    move |source| NetNsError::File { what, path, source }
}

fn kernel_error(what: &'static str, path: &Path) -> impl FnOnce(nix::Error) -> NetNsError {
    let path = path.to_owned();
    move |source| NetNsError::Kernel { what, path, source }
}

fn on_thread<T: Send, E: Send>(work: impl FnOnce() -> Result<T, E> + Send) -> Result<T, E> {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

#[cfg(test)]
mod tests;
