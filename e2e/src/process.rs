//! Long-lived child processes that cannot outlive us, and short commands whose failure explains itself.
//!
//! A child gets `PR_SET_PDEATHSIG = SIGKILL` (by `setpriv`), a process group of its own, no stdin, a log file for
//! stdout and stderr, and an environment of `PATH`, `HOME` and what its [`Spec`] names: proxies and `KUBECONFIG` of
//! the user never reach a component. A network namespace is entered by `nsenter --net=FILE`, which keeps the pid
//! because it execs.
//!
//! The kernel sends the parent death signal when the *thread* that forked ends (prctl(2)), so every child is spawned
//! by one thread that lives as long as the process. What is left is the millisecond between fork and `setpriv`'s
//! prctl(2): a child whose parent is killed just then stays, and a cluster's next start finds it by its namespace.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    sync::{OnceLock, mpsc},
    thread,
};

use nix::sys::signal::Signal;

mod child;
#[cfg(test)]
mod tests;

pub use child::Child;

/// How much of a log an error quotes, in bytes.
const TAIL: u64 = 2_000;

/// Why a process could not be started, watched or ended.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The log file could not be made.
    #[error("log file {path}")]
    Log {
        /// The log file.
        path: PathBuf,
        /// What the filesystem said.
        source: io::Error,
    },
    /// Fork or exec failed.
    #[error("start {name} ({program})")]
    Spawn {
        /// The process's name in this testbed.
        name: String,
        /// What was to be executed.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A signal could not be sent.
    #[error("signal {signal} to {name} (pid {pid})")]
    Signal {
        /// The process's name.
        name: String,
        /// Its pid, which is also its process group.
        pid: u32,
        /// The signal.
        signal: Signal,
        /// What the kernel said.
        source: nix::Error,
    },
    /// waitpid failed.
    #[error("wait for {name}")]
    Wait {
        /// The process's name.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A long-lived process ended when it should not have.
    #[error("{name} ended early ({status}); log {log}:\n{tail}", log = log.display())]
    Ended {
        /// The process's name.
        name: String,
        /// How it ended.
        status: ExitStatus,
        /// Its log file.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A short command failed.
    #[error("`{command}` failed ({status}):\n{output}")]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote.
        output: String,
    },
}

/// What to start. Build with [`Spec::new`] and the setters, then [`Spec::spawn`].
#[derive(Debug, Clone)]
pub struct Spec {
    /// Name in messages and of the process in this testbed.
    pub name: String,
    /// Program: a path, or a name looked up in `PATH`.
    pub program: PathBuf,
    /// Arguments without the program.
    pub args: Vec<OsString>,
    /// Variables on top of `PATH` and `HOME`.
    pub env: Vec<(OsString, OsString)>,
    /// File of the network namespace to run in; `None` is ours.
    pub netns: Option<PathBuf>,
    /// Working directory; `None` is ours.
    pub directory: Option<PathBuf>,
    /// Where stdout and stderr go (appended).
    pub log: PathBuf,
}

impl Spec {
    /// A process without arguments in our own network namespace.
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            netns: None,
            directory: None,
            log: log.into(),
        }
    }

    /// Appends one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets one variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Runs the process in the namespace of this file, or in ours when `None`.
    #[must_use]
    pub fn netns(mut self, netns: Option<PathBuf>) -> Self {
        self.netns = netns;
        self
    }

    /// Runs the process in this directory.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Starts the process.
    pub fn spawn(self) -> Result<Child, ProcessError> {
        let mut command = self.command()?;
        let (answer, started) = mpsc::channel();
        let job: Job = Box::new(move || {
            answer.send(command.spawn()).expect("invariant: whoever asks for a child waits for it");
        });
        let spawned = spawner().and_then(|spawner| {
            spawner.send(job).expect("invariant: the spawner thread lives as long as the process");
            started.recv().expect("invariant: the spawner answers every job")
        });
        let child = spawned.map_err(|source| {
            let program = self.program.display().to_string();
            ProcessError::Spawn { name: self.name.clone(), program, source }
        })?;
        Ok(Child::new(self.name, self.log, child))
    }

    fn command(&self) -> Result<Command, ProcessError> {
        let log_error = |source| ProcessError::Log { path: self.log.clone(), source };
        if let Some(parent) = self.log.parent() {
            fs::create_dir_all(parent).map_err(log_error)?;
        }
        let out = File::options().create(true).append(true).open(&self.log).map_err(log_error)?;
        let err = out.try_clone().map_err(log_error)?;
        let words = self.words(std::process::id());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).process_group(0).stdin(Stdio::null()).stdout(out).stderr(err).env_clear();
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        for inherited in ["PATH", "HOME"] {
            if let Some(value) = std::env::var_os(inherited) {
                command.env(inherited, value);
            }
        }
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        Ok(command)
    }

    /// The words really executed: the death signal first, so that not even `nsenter` can be left behind; then a look at
    /// who the parent is, since one that died before the signal was set sends none. What shells add to the environment goes.
    fn words(&self, parent: u32) -> Vec<OsString> {
        let mut words: Vec<OsString> = ["setpriv", "--pdeathsig", "KILL", "--"].map(Into::into).to_vec();
        words.extend(
            ["sh", "-c", r#"test "$PPID" = "$0" && unset PWD SHLVL && exec "$@""#, &parent.to_string()].map(Into::into),
        );
        if let Some(netns) = &self.netns {
            let mut net = OsString::from("--net=");
            net.push(netns);
            words.extend(["nsenter".into(), net, "--".into()]);
        }
        words.push(self.program.clone().into());
        words.extend(self.args.iter().cloned());
        words
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// The thread that starts children, made by the first call; without it nothing can be started.
fn spawner() -> io::Result<&'static mpsc::Sender<Job>> {
    static SPAWNER: OnceLock<io::Result<mpsc::Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        let run = move || queue.into_iter().for_each(|job| job());
        thread::Builder::new().name("spawner".into()).spawn(run).map(|_| jobs)
    });
    spawner.as_ref().map_err(|error| io::Error::new(error.kind(), format!("make the thread that starts it: {error}")))
}

/// Runs a command to its end and returns its stdout; on failure the error holds the end of what it wrote.
///
/// The environment is ours; stdin is null.
pub fn run<A: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = A>,
) -> Result<String, ProcessError> {
    run_command(Command::new(program).args(args))
}

/// [`run`] for a command that needs a directory or variables.
pub fn run_command(command: &mut Command) -> Result<String, ProcessError> {
    let shown = shown(command);
    let output = command.stdin(Stdio::null()).output().map_err(|source| ProcessError::Spawn {
        name: shown.clone(),
        program: command.get_program().to_string_lossy().into_owned(),
        source,
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    let output_end = last_bytes(&text, TAIL as usize).trim_end().to_owned();
    Err(ProcessError::Failed { command: shown, status: output.status, output: output_end })
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// The end of a log file; an unreadable log is said in its place, since this only ever decorates another error.
pub fn tail(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    };
    read().unwrap_or_else(|error| format!("(log not readable: {error})"))
}

fn last_bytes(text: &str, bytes: usize) -> &str {
    let from = text.ceil_char_boundary(text.len().saturating_sub(bytes));
    &text[from..]
}
