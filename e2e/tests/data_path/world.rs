//! One real cluster with Portreeve installed from its chart, and clients in every place a packet can come from.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use portreeve_crds::names;
use portreeve_e2e::assets::{Assets, Binary};
use portreeve_e2e::cluster::{Cluster, ClusterOptions};
use portreeve_e2e::fabric::plan::Dual;
use portreeve_e2e::image::{catalogue, release};
use portreeve_e2e::netns::NetNs;
use portreeve_e2e::node::config::ProxyMode;
use portreeve_e2e::progress::Progress;
use portreeve_e2e::run_dir;
use serde_json::{Value, json};

use super::plan::{self, NODES};
use super::probe::Caller;

/// The chart, from the root of the source tree.
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/helm/portreeve");
/// The kernel tells a client of so many refused packets a second; the scenarios ask more often.
const TOLD: &[(&str, &str)] = &[("net/ipv4/icmp_ratelimit", "0"), ("net/ipv6/icmp/ratelimit", "0")];

/// Programs and the project's image, made once for all clusters.
#[derive(Clone)]
pub(crate) struct Made {
    assets: Assets,
    image: PathBuf,
}

impl Made {
    /// Builds what is not up to date; blocks.
    pub(crate) fn ready() -> Result<Self> {
        let dir = run_dir::root().join("images");
        std::fs::create_dir_all(&dir)?;
        let assets = Assets::ensure(Progress::Shown)?;
        let binaries = release::build(&dir.join("build.log"), Progress::Shown)?;
        let image = catalogue::portreeve(&binaries)?.write(&dir)?;
        Ok(Self { assets, image: image.path })
    }
}

/// The cluster.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) client: kube::Client,
    pub(crate) mode: ProxyMode,
    made: Made,
}

impl World {
    /// Brings it up with kube-proxy in this mode, and installs Portreeve.
    pub(crate) async fn up(made: &Made, mode: ProxyMode) -> Result<Self> {
        let mut options = ClusterOptions::new(made.assets.clone(), Progress::Shown)?;
        options.proxy_mode = mode;
        let cluster = Cluster::up(options).await?;
        let client = cluster.client().await?;
        let world = Self { cluster, client, mode, made: made.clone() };
        world.cluster.fabric().router.ip(&plan::routes())?;
        world.cluster.fabric().router.sysctl(TOLD)?;
        for index in NODES {
            world.cluster.fabric().node(index).sysctl(TOLD)?;
        }
        world.install().await?;
        Ok(world)
    }

    async fn install(&self) -> Result<()> {
        self.cluster.import_image(&self.made.image).await?;
        let helm = tokio::process::Command::new(self.made.assets.path(Binary::Helm))
            .args(["install", "portreeve", CHART, "--namespace", names::NAMESPACE, "--create-namespace"])
            .args(["--set", "operator.replicas=1", "--set", "webhook.replicas=1"])
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        ensure!(helm.status.success(), "helm install: {}", String::from_utf8_lossy(&helm.stderr));
        for deployment in [names::OPERATOR, names::WEBHOOK] {
            self.cluster.await_deployment(names::NAMESPACE, deployment).await?;
        }
        let agents = format!("daemonset/{}", names::AGENT);
        self.cluster.kubectl(&["-n", names::NAMESPACE, "rollout", "status", &agents, "--timeout=90s"]).await?;
        Ok(())
    }

    /// A machine outside the cluster, 0 or 1.
    pub(crate) fn outside(&self, index: usize) -> Caller {
        let client = &self.cluster.clients()[index];
        Caller { netns: client.netns().clone(), address: client.address, bound: true }
    }

    /// A process of this node.
    pub(crate) fn node(&self, index: u8) -> Caller {
        let address = portreeve_e2e::fabric::plan::node(index);
        Caller { netns: self.cluster.fabric().node(index), address, bound: false }
    }

    /// A process of this Pod, which must be running.
    pub(crate) async fn pod(&self, namespace: &str, name: &str) -> Result<Caller> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pod = pods.get(name).await?;
        let uid = pod.metadata.uid.context("a Pod has a uid")?;
        let status = pod.status.unwrap_or_default();
        let mut address = Dual { v4: std::net::Ipv4Addr::UNSPECIFIED, v6: std::net::Ipv6Addr::UNSPECIFIED };
        for ip in status.pod_ips.into_iter().flatten() {
            match ip.ip.parse()? {
                std::net::IpAddr::V4(v4) => address.v4 = v4,
                std::net::IpAddr::V6(v6) => address.v6 = v6,
            }
        }
        Ok(Caller { netns: netns_of(&uid)?, address, bound: false })
    }

    /// Applies objects, into `namespace` if they do not name one.
    pub(crate) async fn apply(&self, namespace: &str, name: &str, mut objects: Vec<Value>) -> Result<()> {
        for object in &mut objects {
            if object["metadata"]["namespace"].is_null() {
                object["metadata"]["namespace"] = json!(namespace);
            }
        }
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        self.cluster.apply(&format!("{namespace}-{name}"), &list.to_string()).await
    }

    /// What a command on a node printed.
    pub(crate) async fn on_node(&self, index: u8, command: &[&str]) -> Result<String> {
        let out = self.cluster.node(&format!("n{index}"))?.exec(command).await?;
        ensure!(out.status.success(), "{command:?} on n{index}: {}", String::from_utf8_lossy(&out.stderr));
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }
}

/// The network of a Pod, found through a process that the kubelet put into the Pod's cgroup.
fn netns_of(uid: &str) -> Result<NetNs> {
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        // A process may end while it is looked at.
        let Ok(groups) = std::fs::read_to_string(path.join("cgroup")) else { continue };
        if groups.contains(uid) {
            return Ok(NetNs::at(&path.join("ns/net")));
        }
    }
    anyhow::bail!("no process of the Pod with uid {uid}")
}

/// Asks until `ask` has an answer, and says what it said last if it never has.
pub(crate) async fn until<T>(what: &str, within: Duration, mut ask: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if began.elapsed() > within => {
                return Err(error.context(format!("{what}: not within {within:?}")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Where the tables of what was seen are kept.
pub(crate) fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/data-path")
}
