//! The whole: a control plane, nodes, outside clients and load balancers, from nothing to Ready and back to nothing.

mod hold;
mod options;
mod ready;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

pub use self::hold::{HeldCluster, detach, down, held};
pub use self::options::ClusterOptions;
use crate::assets::{Binary, cache_root};
use crate::control_plane::{ControlPlane, ControlPlaneOptions};
use crate::fabric::{Fabric, plan};
use crate::image::catalogue;
use crate::lb::{LbNode, LoadBalancers};
use crate::node::config::NodeConfig;
use crate::node::{Node, images};
use crate::outside::OutsideClient;
use crate::pki::User;
use crate::run_dir::RunDir;
use crate::teardown::{self, Supervisor};

/// The name of a cluster's run directory: `cluster-PID`.
pub(crate) const RUN: &str = "cluster";

const DNS: &str = include_str!("manifests/dns.yaml");

/// A running cluster. Dropping it takes everything down; [`Cluster::down`] does the same and says what went wrong.
///
/// The order of the fields is the order of the end: first who sends packets, last the wires and the directory.
#[derive(Debug)]
pub struct Cluster {
    lb: LoadBalancers,
    nodes: Vec<Node>,
    plane: ControlPlane,
    clients: Vec<OutsideClient>,
    fabric: Arc<Fabric>,
    timings: Vec<(&'static str, Duration)>,
    run: RunDir,
}

impl Cluster {
    /// Brings a cluster up: returns when all nodes are Ready and DNS answers. Needs root. On failure, or when the future
    /// is dropped, everything is taken down again; the logs stay.
    pub async fn up(options: ClusterOptions) -> Result<Self> {
        teardown::clean_dead()?;
        let run = RunDir::create(RUN).context("making the run's directory")?;
        let name = run_name(&run);
        Supervisor::this().write(run.path())?;
        let log = run.log();
        let built = Self::build(options, run).await;
        built.with_context(|| format!("bringing {name} up; logs in {}", log.display()))
    }

    async fn build(options: ClusterOptions, run: RunDir) -> Result<Self> {
        let mut clock = Clock { progress: options.progress, timings: Vec::new() };
        options::visible_in_nodes(run.path())?;
        options::visible_in_nodes(options.assets.dir())?;
        let store = clock.time("image store", || Ok(images::template(&cache_root()?, &options.images, &run.log())?))?;
        let fabric = clock.time("namespaces and wires", || {
            Ok(Arc::new(Fabric::build(&teardown::pins(run.path()), options.nodes, options.clients)?))
        })?;

        let began = Instant::now();
        let plane = ControlPlane::start(plane_options(&options, &run, &fabric)?).await?;
        clock.note("control plane ready", began);

        let configs = (1..=options.nodes).map(|index| node_config(&options, &run, &plane, index));
        let configs = configs.collect::<Result<Vec<_>>>()?;
        let nodes = clock.time("nodes started", || start_nodes(&options, &fabric, &store, configs))?;
        let began = Instant::now();
        apply(&plane, "dns", &dns()).await?;
        let client = plane.client().await?;
        ready::nodes(&client, &nodes).await?;
        clock.note("nodes Ready", began);

        let began = Instant::now();
        let lb_kubeconfig = run.state().join("load-balancers.kubeconfig");
        plane.kubeconfig_for(&User::Admin, plane.inner_server(), &lb_kubeconfig)?;
        let members = nodes.iter().map(|node| LbNode {
            name: node.name().to_owned(),
            address: node.address(),
            netns: teardown::pin(run.path(), node.name()),
        });
        let lb = LoadBalancers::start(&fabric.router, &lb_kubeconfig, members.collect(), options.lb.clone())?;
        ready::deployment(&client, "kube-system", "coredns").await?;
        clock.note("DNS ready", began);

        let clients = fabric.clients.iter().zip(1..);
        let clients = clients.map(|(ns, index)| OutsideClient::new(plan::client(index), ns.clone())).collect();
        Ok(Self { lb, nodes, plane, clients, fabric, timings: clock.timings, run })
    }

    /// A client with an administrator's rights, over the relay; make one per runtime.
    pub async fn client(&self) -> Result<kube::Client> {
        Ok(self.plane.client().await?)
    }

    /// An administrator's kubeconfig that works on the machine, outside all namespaces.
    pub fn kubeconfig(&self) -> &Path {
        self.plane.kubeconfig()
    }

    /// Runs kubectl as administrator; its stdout.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        Ok(self.plane.kubectl(args).await?)
    }

    /// Applies manifests given as text. `name` names the file they are kept in beside the cluster's state.
    pub async fn apply(&self, name: &str, manifests: &str) -> Result<()> {
        apply(&self.plane, name, manifests).await
    }

    /// Waits until `namespace/name` has all its replicas available and the rollout is complete.
    pub async fn await_deployment(&self, namespace: &str, name: &str) -> Result<()> {
        ready::deployment(&self.client().await?, namespace, name).await
    }

    /// The control plane, for faults in its parts.
    pub fn control_plane(&self) -> &ControlPlane {
        &self.plane
    }

    /// The load balancers.
    pub fn lb(&self) -> &LoadBalancers {
        &self.lb
    }

    /// All nodes, in the order of their names.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of this name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name() == name).with_context(|| format!("no node {name}"))
    }

    /// Clients outside the cluster, in a network the nodes are not in.
    pub fn clients(&self) -> &[OutsideClient] {
        &self.clients
    }

    /// Namespaces and wires.
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// Loads an OCI archive into every node's image store, on all nodes at a time.
    pub async fn import_image(&self, archive: &Path) -> Result<()> {
        futures::future::try_join_all(self.nodes.iter().map(|node| node.import_image(archive))).await?;
        Ok(())
    }

    /// How long each step of coming up took.
    pub fn timings(&self) -> &[(&'static str, Duration)] {
        &self.timings
    }

    /// The run's name, which its cgroups carry.
    pub fn run_name(&self) -> String {
        run_name(&self.run)
    }

    /// Where everything logs; kept after the end.
    pub fn log_dir(&self) -> std::path::PathBuf {
        self.run.log()
    }

    /// Takes everything down; returns when nothing is left.
    pub async fn down(self) -> Result<()> {
        let Self { lb, nodes, plane, clients: _, fabric, timings: _, run } = self;
        let balanced = lb.stop();
        // Together: most of the time is the kernel's, taking namespaces apart.
        let off: Vec<_> = std::thread::scope(|scope| {
            let ending: Vec<_> = nodes.iter().map(|node| scope.spawn(|| node.power_off())).collect();
            ending.into_iter().map(|node| node.join()).collect()
        });
        drop(nodes);
        plane.stop()?;
        let name = run_name(&run);
        let dir = run.path().to_owned();
        drop(fabric);
        drop(run);
        teardown::sweep(&name, &dir)?;
        balanced.context("the load balancers had failed")?;
        for node in off {
            node.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    }
}

struct Clock {
    progress: crate::progress::Progress,
    timings: Vec<(&'static str, Duration)>,
}

impl Clock {
    fn time<T>(&mut self, step: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let began = Instant::now();
        let done = work().context(step)?;
        self.note(step, began);
        Ok(done)
    }

    fn note(&mut self, step: &'static str, began: Instant) {
        let took = began.elapsed();
        self.progress.say(&format!("{:>7.1}s  {step}", took.as_secs_f64()));
        self.timings.push((step, took));
    }
}

fn run_name(run: &RunDir) -> String {
    run.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn plane_options(options: &ClusterOptions, run: &RunDir, fabric: &Fabric) -> Result<ControlPlaneOptions> {
    let mut plane = ControlPlaneOptions::new(options.assets.clone(), run.path());
    plane.netns = Some(fabric.control_plane.path().to_owned());
    plane.advertise = vec![IpAddr::from(plan::CONTROL_PLANE.v4), IpAddr::from(plan::CONTROL_PLANE.v6)];
    plane.service_cidrs = vec![plan::SERVICES_V4.parse()?, plan::SERVICES_V6.parse()?];
    plane.extra_apiserver_args.clone_from(&options.extra_apiserver_args);
    // Its client's default of 20 requests a second makes the first start of all controllers take seconds.
    let controllers = ["--kube-api-qps=300", "--kube-api-burst=500"].map(str::to_owned);
    // Otherwise it makes /usr/libexec/kubernetes on the machine.
    let volumes = format!("--flex-volume-plugin-dir={}", run.state().join("volume-plugins").display());
    plane.extra_controller_manager_args = [volumes].into_iter().chain(controllers).collect();
    plane.extra_controller_manager_args.extend_from_slice(&options.extra_controller_manager_args);
    Ok(plane)
}

fn node_config(options: &ClusterOptions, run: &RunDir, plane: &ControlPlane, index: u8) -> Result<NodeConfig> {
    let name = format!("n{index}");
    let dir = run.state().join("nodes").join(&name);
    std::fs::create_dir_all(&dir)?;
    let (kubelet_kubeconfig, proxy_kubeconfig) = (dir.join("kubelet.kubeconfig"), dir.join("kube-proxy.kubeconfig"));
    plane.kubeconfig_for(&User::Node(name.clone()), plane.inner_server(), &kubelet_kubeconfig)?;
    plane.kubeconfig_for(&User::KubeProxy, plane.inner_server(), &proxy_kubeconfig)?;
    Ok(NodeConfig {
        run: run_name(run),
        log: run.log().join(&name),
        index,
        dir,
        address: plan::node(index),
        cni_bin: options::cni_plugins()?,
        pause_image: catalogue::PAUSE.to_owned(),
        client_ca: plane.pki_files().ca_certificate.clone(),
        kubelet_kubeconfig,
        proxy_kubeconfig,
        kubelet: options.assets.path(Binary::Kubelet),
        kube_proxy: options.assets.path(Binary::KubeProxy),
        proxy_mode: options.proxy_mode,
        name,
    })
}

fn start_nodes(
    options: &ClusterOptions,
    fabric: &Arc<Fabric>,
    store: &Path,
    configs: Vec<NodeConfig>,
) -> Result<Vec<Node>> {
    let mut nodes = Vec::new();
    for config in configs {
        images::copy(store, &config.dir.join("containerd"))?;
        let node = Node::new(config, options.egress, fabric.clone(), options.init_program.clone());
        node.power_on().with_context(|| format!("switching {} on", node.name()))?;
        nodes.push(node);
    }
    Ok(nodes)
}

fn dns() -> String {
    DNS.replace("@DNS_IMAGE@", catalogue::COREDNS)
        .replace("@DNS_V4@", &plan::DNS_V4.to_string())
        .replace("@DNS_V6@", &plan::DNS_V6.to_string())
}

async fn apply(plane: &ControlPlane, name: &str, manifests: &str) -> Result<()> {
    let dir = plane.kubeconfig().parent().context("invariant: the kubeconfig lies in a directory")?.join("applied");
    std::fs::create_dir_all(&dir)?;
    let file = dir.join(format!("{name}.yaml"));
    std::fs::write(&file, manifests)?;
    plane.kubectl(&["apply", "--filename", &file.display().to_string()]).await?;
    Ok(())
}
