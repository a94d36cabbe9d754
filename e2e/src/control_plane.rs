//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler as real processes, on loopback or in a namespace.
//!
//! On loopback every port is free-chosen, so that many control planes run side by side (one per test binary). In a
//! network namespace the usual ports are used and a [`Relay`] makes the API server reachable from outside.
//!
//! Each part can be killed, paused and started again on its own while the others run: that is what fault tests need.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    assets::{Assets, Binary},
    kubeconfig::{self, KubeconfigError},
    pki::{ClusterPki, PkiError, PkiFiles, User},
    process::{self, Child, ProcessError, Spec},
    relay::{Relay, RelayError},
};

mod flags;
#[cfg(test)]
mod tests;

use flags::{Ports, apiserver, controller_manager, etcd, scheduler};

/// How long the API server may take to be ready. Generous: a loaded machine is slow, and a dead part is seen at once.
const READY_WITHIN: Duration = Duration::from_secs(120);
const READY_POLL: Duration = Duration::from_millis(50);
/// Attempts with other ports, should another process take a port between its choice and its use.
const ATTEMPTS: usize = 3;

/// Why a control plane did not start or stopped working.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// A directory could not be made.
    #[error("create {path}", path = path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the filesystem said.
        source: io::Error,
    },
    /// No free port on loopback.
    #[error("find a free port")]
    Port(#[source] io::Error),
    /// The options contradict themselves.
    #[error("control plane options: {0}")]
    Options(&'static str),
    /// Certificates could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A kubeconfig could not be written or used.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// A part did not start, or ended.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The way into the namespace could not be made.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// The API server runs but does not get ready.
    #[error("the API server was not ready after {after:?} ({last}); logs in {log}", log = log.display())]
    NotReady {
        /// How long it was waited for.
        after: Duration,
        /// What the last question was answered.
        last: String,
        /// The logs' directory.
        log: PathBuf,
    },
    /// The part was not asked for in the options.
    #[error("this control plane has no {0:?}")]
    NoSuchPart(Part),
}

/// A process of the control plane, in starting order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The store.
    Etcd,
    /// The API server.
    Apiserver,
    /// Kubernetes' own controllers.
    ControllerManager,
    /// The scheduler.
    Scheduler,
}

/// What to start and where.
#[derive(Debug, Clone)]
pub struct ControlPlaneOptions {
    /// The programs.
    pub assets: Assets,
    /// Database, keys and kubeconfigs go here.
    pub state: PathBuf,
    /// One log file per part goes here.
    pub log: PathBuf,
    /// Namespace to run in; `None` is loopback of the machine.
    pub netns: Option<PathBuf>,
    /// Addresses at which nodes and Pods reach the API server; the first is advertised. Required in a namespace.
    pub advertise: Vec<IpAddr>,
    /// One Service range per family, the primary first.
    pub service_cidrs: Vec<IpNet>,
    /// Pod ranges to hand to nodes by; when empty, nodes get none from here.
    pub pod_cidrs: Vec<IpNet>,
    /// Run kube-controller-manager.
    pub with_controller_manager: bool,
    /// Run kube-scheduler.
    pub with_scheduler: bool,
    /// Further flags of kube-apiserver.
    pub extra_apiserver_args: Vec<String>,
    /// Further flags of kube-controller-manager.
    pub extra_controller_manager_args: Vec<String>,
}

impl ControlPlaneOptions {
    /// A dual-stack control plane on loopback with every part, its files below `dir`.
    pub fn new(assets: Assets, dir: &Path) -> Self {
        let range = |text: &str| text.parse().expect("invariant: the default ranges are well-formed");
        Self {
            assets,
            state: dir.join("state"),
            log: dir.join("log"),
            netns: None,
            advertise: Vec::new(),
            service_cidrs: vec![range("10.96.0.0/16"), range("fd00:10:96::/112")],
            pod_cidrs: Vec::new(),
            with_controller_manager: true,
            with_scheduler: true,
            extra_apiserver_args: Vec::new(),
            extra_controller_manager_args: Vec::new(),
        }
    }

    fn has(&self, part: Part) -> bool {
        match part {
            Part::Etcd | Part::Apiserver => true,
            Part::ControllerManager => self.with_controller_manager,
            Part::Scheduler => self.with_scheduler,
        }
    }
}

/// A running control plane. Dropping it ends every part.
#[derive(Debug)]
pub struct ControlPlane {
    options: ControlPlaneOptions,
    pki: ClusterPki,
    files: PkiFiles,
    server: String,
    inner_server: String,
    kubeconfig: PathBuf,
    specs: BTreeMap<Part, Spec>,
    running: Mutex<BTreeMap<Part, Child>>,
    _relay: Option<Relay>,
}

impl ControlPlane {
    /// Starts every part and returns when `/readyz` answers; three to four seconds on an idle machine.
    pub async fn start(options: ControlPlaneOptions) -> Result<Self, ControlPlaneError> {
        if options.netns.is_some() && options.advertise.is_empty() {
            return Err(ControlPlaneError::Options("a namespace needs an address to advertise"));
        }
        let mut attempt = 1;
        loop {
            match Self::attempt(options.clone()).await {
                Err(ControlPlaneError::Process(error @ ProcessError::Ended { .. }))
                    if options.netns.is_none() && attempt < ATTEMPTS =>
                {
                    tracing::warn!(attempt, %error, "control plane ended while starting; trying other ports");
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt(options: ControlPlaneOptions) -> Result<Self, ControlPlaneError> {
        let database = options.state.join("etcd");
        for dir in [&options.state, &options.log, &database] {
            std::fs::create_dir_all(dir)
                .map_err(|source| ControlPlaneError::Directory { path: dir.clone(), source })?;
        }
        let ports = match options.netns {
            Some(_) => Ports::USUAL,
            None => Ports::free().map_err(ControlPlaneError::Port)?,
        };
        let mut reached = options.advertise.clone();
        reached.extend(options.service_cidrs.iter().map(first_address));
        let pki = ClusterPki::generate(&reached)?;
        let files = pki.write(&options.state.join("pki"))?;

        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.apiserver));
        let relay = options.netns.as_deref().map(|netns| Relay::start(netns, local)).transpose()?;
        let server = format!("https://{}", relay.as_ref().map_or(local, Relay::address));
        let advertised = options.advertise.first().map(|&address| SocketAddr::from((address, ports.apiserver)));
        let inner_server = format!("https://{}", advertised.unwrap_or(local));

        let mut plane = Self {
            kubeconfig: options.state.join("admin.kubeconfig"),
            specs: BTreeMap::new(),
            running: Mutex::default(),
            _relay: relay,
            options,
            pki,
            files,
            server,
            inner_server,
        };
        plane.kubeconfig_for(&User::Admin, &plane.server, &plane.kubeconfig)?;
        plane.describe_parts(&ports, &local.to_string())?;
        plane.start_part(Part::Etcd)?;
        plane.start_part(Part::Apiserver)?;
        plane.ready().await?;
        for part in [Part::ControllerManager, Part::Scheduler] {
            if plane.options.has(part) {
                plane.start_part(part)?;
            }
        }
        Ok(plane)
    }

    fn describe_parts(&mut self, ports: &Ports, local: &str) -> Result<(), ControlPlaneError> {
        let spec = |name: &str, binary, args: Vec<String>| {
            Spec::new(name, self.options.assets.path(binary), self.options.log.join(format!("{name}.log")))
                .args(args)
                .netns(self.options.netns.clone())
        };
        let mut specs = BTreeMap::from([
            (Part::Etcd, spec("etcd", Binary::Etcd, etcd(ports, &self.options.state.join("etcd")))),
            (
                Part::Apiserver,
                spec("kube-apiserver", Binary::KubeApiserver, apiserver(ports, &self.options, &self.files)),
            ),
        ]);
        let local_server = format!("https://{local}");
        if self.options.with_controller_manager {
            let path = self.options.state.join("controller-manager.kubeconfig");
            self.kubeconfig_for(&User::ControllerManager, &local_server, &path)?;
            let args = controller_manager(&self.options, &self.files, &path);
            specs.insert(Part::ControllerManager, spec("kube-controller-manager", Binary::KubeControllerManager, args));
        }
        if self.options.with_scheduler {
            let path = self.options.state.join("scheduler.kubeconfig");
            self.kubeconfig_for(&User::Scheduler, &local_server, &path)?;
            specs.insert(Part::Scheduler, spec("kube-scheduler", Binary::KubeScheduler, scheduler(&path)));
        }
        self.specs = specs;
        Ok(())
    }

    /// Where processes on this machine reach the API server.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Where nodes and Pods reach it: its first advertised address. On loopback the same as [`Self::server`].
    pub fn inner_server(&self) -> &str {
        &self.inner_server
    }

    /// The administrator's kubeconfig, for use on this machine.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The certificates, to issue more.
    pub fn pki(&self) -> &ClusterPki {
        &self.pki
    }

    /// The certificates' files.
    pub fn pki_files(&self) -> &PkiFiles {
        &self.files
    }

    /// Where one of the programs is.
    pub fn program(&self, binary: Binary) -> PathBuf {
        self.options.assets.path(binary)
    }

    /// Where the logs are.
    pub fn log_dir(&self) -> &Path {
        &self.options.log
    }

    /// The administrator's client; one per test, see [`kubeconfig::client`].
    pub async fn client(&self) -> Result<kube::Client, ControlPlaneError> {
        Ok(kubeconfig::client(&self.kubeconfig).await?)
    }

    /// Writes a kubeconfig for a user and an address of the API server.
    pub fn kubeconfig_for(&self, user: &User, server: &str, path: &Path) -> Result<(), ControlPlaneError> {
        let pair = self.pki.client(user)?;
        Ok(kubeconfig::write(path, server, self.pki.authority.certificate(), &pair)?)
    }

    /// Runs kubectl as administrator and returns what it printed.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String, ProcessError> {
        kubectl(self.options.assets.path(Binary::Kubectl), &self.kubeconfig, args).await
    }

    /// Waits until `/readyz` answers; at once an error when etcd or the API server is not running.
    pub async fn ready(&self) -> Result<(), ControlPlaneError> {
        let client = self.client().await?;
        let began = Instant::now();
        loop {
            for part in [Part::Etcd, Part::Apiserver] {
                self.running().get_mut(&part).ok_or(ControlPlaneError::NoSuchPart(part))?.require_running()?;
            }
            let question =
                http::Request::get("/readyz").body(Vec::new()).expect("invariant: the request is built from constants");
            let last = match timeout(Duration::from_secs(5), client.request_text(question)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer within 5 s".to_owned(),
            };
            if began.elapsed() > READY_WITHIN {
                return Err(ControlPlaneError::NotReady { after: READY_WITHIN, last, log: self.options.log.clone() });
            }
            sleep(READY_POLL).await;
        }
    }

    /// Ends a part without warning, as a crash would.
    pub fn kill(&self, part: Part) -> Result<(), ControlPlaneError> {
        let mut child = self.running().remove(&part).ok_or(ControlPlaneError::NoSuchPart(part))?;
        child.kill()?;
        Ok(())
    }

    /// Stops a part where it stands (SIGSTOP): connections stay open and nothing answers.
    pub fn pause(&self, part: Part) -> Result<(), ControlPlaneError> {
        self.signal(part, Signal::SIGSTOP)
    }

    /// Lets a paused part go on.
    pub fn resume(&self, part: Part) -> Result<(), ControlPlaneError> {
        self.signal(part, Signal::SIGCONT)
    }

    /// Starts a killed part again with the same flags and data; kills it first when it runs.
    pub async fn restart(&self, part: Part) -> Result<(), ControlPlaneError> {
        match self.kill(part) {
            Ok(()) | Err(ControlPlaneError::NoSuchPart(_)) => {}
            Err(error) => return Err(error),
        }
        self.start_part(part)?;
        match part {
            Part::Etcd | Part::Apiserver => self.ready().await,
            Part::ControllerManager | Part::Scheduler => Ok(()),
        }
    }

    /// Pids of the running parts.
    pub fn pids(&self) -> BTreeMap<Part, u32> {
        self.running().iter().map(|(&part, child)| (part, child.pid())).collect()
    }

    /// Ends every part, the last started first.
    ///
    /// Nothing of the database is kept, so nothing is gained by a graceful end.
    pub fn stop(self) -> Result<(), ControlPlaneError> {
        self.kill_all()
    }

    fn kill_all(&self) -> Result<(), ControlPlaneError> {
        let mut running = self.running();
        while let Some((_, mut child)) = running.pop_last() {
            child.kill()?;
        }
        Ok(())
    }

    fn signal(&self, part: Part, signal: Signal) -> Result<(), ControlPlaneError> {
        let mut running = self.running();
        Ok(running.get_mut(&part).ok_or(ControlPlaneError::NoSuchPart(part))?.signal(signal)?)
    }

    fn start_part(&self, part: Part) -> Result<(), ControlPlaneError> {
        let child = self.specs.get(&part).ok_or(ControlPlaneError::NoSuchPart(part))?.clone().spawn()?;
        self.running().insert(part, child);
        Ok(())
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<Part, Child>> {
        // The map is valid between any two statements, so a panic elsewhere does not spoil it.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        if let Err(error) = self.kill_all() {
            tracing::warn!(%error, "control plane not ended");
        }
    }
}

/// Runs kubectl with this kubeconfig; its discovery cache stays beside it.
pub(crate) async fn kubectl(program: PathBuf, kubeconfig: &Path, args: &[&str]) -> Result<String, ProcessError> {
    let cache = kubeconfig.with_file_name("kubectl-cache");
    let mut command = std::process::Command::new(program);
    command.arg("--kubeconfig").arg(kubeconfig).arg("--cache-dir").arg(cache).args(args);
    tokio::task::spawn_blocking(move || process::run_command(&mut command))
        .await
        .expect("invariant: running a command does not panic")
}

/// The address of the `kubernetes` Service: one above the range's own.
fn first_address(range: &IpNet) -> IpAddr {
    match range {
        IpNet::V4(range) => Ipv4Addr::from_bits(range.network().to_bits() + 1).into(),
        IpNet::V6(range) => std::net::Ipv6Addr::from_bits(range.network().to_bits() + 1).into(),
    }
}

impl Ports {
    /// Three ports that are free on loopback now.
    fn free() -> io::Result<Self> {
        // All are held until all are chosen: otherwise the kernel may name one twice.
        let held = [(); 3].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let mut chosen = [0; 3];
        for (port, listener) in chosen.iter_mut().zip(held) {
            *port = listener?.local_addr()?.port();
        }
        let [apiserver, etcd, etcd_peer] = chosen;
        Ok(Self { apiserver, etcd, etcd_peer })
    }
}
