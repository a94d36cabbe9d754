//! A node: namespaces of its own, PID 1 of ours, and inside it containerd, kubelet and kube-proxy as on a machine.
//!
//! A node is switched off by killing its PID 1: the kernel ends every process of the pid namespace with it, containers
//! included, and its mounts and network go too.

pub mod cgroups;
pub mod config;
mod error;
pub mod images;
pub mod init;

use std::ffi::OsStr;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use self::config::NodeConfig;
pub use self::error::NodeError;
use self::error::{file_error, kernel_error};
use crate::fabric::plan::Dual;
use crate::fabric::{Fabric, PodEgress};
use crate::process::{Child, Spec};

const INIT_WAIT: Duration = Duration::from_secs(10);

/// One node of the cluster, switched on or off.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    egress: PodEgress,
    fabric: Arc<Fabric>,
    init_program: PathBuf,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    /// `unshare`, which waits for PID 1.
    outer: Child,
    /// The node's PID 1, by the machine's numbering.
    init: Pid,
}

impl Node {
    /// A node that is off. `init_program` has a subcommand `node-init FILE` that calls [`init::run`].
    pub fn new(config: NodeConfig, egress: PodEgress, fabric: Arc<Fabric>, init_program: PathBuf) -> Self {
        Self { config, egress, fabric, init_program, running: Mutex::new(None) }
    }

    /// The Node's name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Its addresses in the nodes' network.
    pub fn address(&self) -> Dual {
        self.config.address
    }

    /// Its IPv4 address.
    pub fn ip(&self) -> IpAddr {
        self.config.address.v4.into()
    }

    /// Where it and its Pods log.
    pub fn log(&self) -> &Path {
        &self.config.log
    }

    /// The machine's pid of the node's PID 1, while it is on.
    pub fn init_pid(&self) -> Option<i32> {
        self.lock().as_ref().map(|running| running.init.as_raw())
    }

    /// Switches it on: plugged in, with empty tables, its disk as it was. Returns when PID 1 runs, which is well before
    /// the node is Ready.
    pub fn power_on(&self) -> Result<(), NodeError> {
        let mut running = self.lock();
        if running.is_some() {
            return Err(self.is("on"));
        }
        let (config, plan) = (&self.config, self.config.init_plan());
        for dir in init::directories(&plan) {
            fs::create_dir_all(&dir).map_err(file_error("create", &dir))?;
        }
        for (name, text) in config.files() {
            let path = config.dir.join(name);
            fs::write(&path, text).map_err(file_error("write", &path))?;
        }
        let plan_file = config.dir.join("init.json");
        fs::write(&plan_file, serde_json::to_vec_pretty(&plan)?).map_err(file_error("write", &plan_file))?;
        cgroups::create(&config.run, &config.name)?;
        let netns = self.fabric.join_node(config.index, self.egress)?;
        let flags = ["--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc"];
        let mut outer = Spec::new(&config.name, "unshare", config.log.join("init.log"))
            .args(flags)
            .args(["--propagation", "private", "--"])
            .arg(&self.init_program)
            .arg("node-init")
            .arg(&plan_file)
            .netns(Some(netns.path().to_owned()))
            .spawn()?;
        let init = find_init(&mut outer)?;
        *running = Some(Running { outer, init });
        Ok(())
    }

    /// Switches it off as pulling the plug does: nothing is shut down in order.
    pub fn power_off(&self) -> Result<(), NodeError> {
        let Some(mut running) = self.lock().take() else {
            return Ok(());
        };
        match kill(running.init, Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(e) => return Err(kernel_error("kill PID 1 of", self.name())(e)),
        }
        // `unshare` ends after PID 1, and that after everything in the namespace.
        running.outer.wait()?;
        self.fabric.drop_node(self.config.index)?;
        cgroups::remove(&self.config.run, Some(self.name()))
    }

    /// Fails, with the end of its log, when PID 1 has ended by itself.
    pub fn require_running(&self) -> Result<(), NodeError> {
        match self.lock().as_mut() {
            None => Err(self.is("off")),
            Some(running) => Ok(running.outer.require_running()?),
        }
    }

    /// Runs a command inside all of the node's namespaces and waits for it; a failing one is not an error here.
    pub async fn exec<A: AsRef<OsStr>>(&self, command: &[A]) -> Result<Output, NodeError> {
        let pid = self.init_pid().ok_or_else(|| self.is("off"))?;
        let mut nsenter = tokio::process::Command::new("nsenter");
        nsenter.args(["--target", &pid.to_string(), "--mount", "--uts", "--ipc", "--net", "--pid", "--"]);
        nsenter.args(command).kill_on_drop(true).stdin(std::process::Stdio::null());
        nsenter.output().await.map_err(file_error("run", "nsenter".as_ref()))
    }

    /// Loads an OCI archive into the node's image store.
    pub async fn import_image(&self, archive: &Path) -> Result<(), NodeError> {
        let archive = std::path::absolute(archive).map_err(file_error("find", archive))?;
        let import =
            ["ctr", "--namespace", images::NAMESPACE, "images", "import", "--snapshotter", images::SNAPSHOTTER];
        let mut command: Vec<&OsStr> = import.iter().map(OsStr::new).collect();
        command.push(archive.as_os_str());
        let out = self.exec(&command).await?;
        if out.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        Err(NodeError::Import { archive, node: self.name().to_owned(), said })
    }

    fn is(&self, state: &'static str) -> NodeError {
        NodeError::State { node: self.name().to_owned(), state }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().expect("invariant: nobody panics while switching a node")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(e) = self.power_off() {
            tracing::warn!(node = self.name(), error = &e as &dyn std::error::Error, "not switched off");
        }
    }
}

/// The only child of `unshare`.
fn find_init(outer: &mut Child) -> Result<Pid, NodeError> {
    let deadline = Instant::now() + INIT_WAIT;
    let children = format!("/proc/{0}/task/{0}/children", outer.pid());
    loop {
        outer.require_running()?;
        let child = fs::read_to_string(&children).unwrap_or_default();
        if let Some(pid) = child.split_whitespace().next().and_then(|pid| pid.parse().ok()) {
            return Ok(Pid::from_raw(pid));
        }
        if Instant::now() > deadline {
            let what = format!("{} started no PID 1", outer.name());
            return Err(NodeError::TooLate { what, within: INIT_WAIT, log: outer.log().to_owned() });
        }
        sleep(Duration::from_millis(5));
    }
}
