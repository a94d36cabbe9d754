//! The API server of the data path's benches, and what is in it: Local Services of type NodePort with ten Pods each, one of
//! them on the node that is measured, and a directive for each that gives it to our agent.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use futures::future::BoxFuture;
use http::Request;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::node::{Node, Pinned};
use super::plan::{self, Pod};
use super::variant::{Engine, Variant};
use super::worker::Stop;
use crate::assets::Binary;
use crate::bench::world::{CRDS, named, write_all};
use crate::control_plane::{ControlPlane, ControlPlaneOptions, Part};
use crate::pki::User;
use crate::progress::Progress;
use crate::run_dir::RunDir;

const NAMESPACES: usize = 20;

/// What every part needs. Fields end in this order: processes before namespaces, these before their directory.
pub(super) struct World {
    pub(super) plane: ControlPlane,
    pub(super) client: kube::Client,
    pub(super) runtime: Handle,
    pub(super) stop: Stop,
    pub(super) progress: Progress,
    pub(super) agent: PathBuf,
    /// Where daemons look for programs. kube-proxy does not come to 10,000 Services by iptables' nf_tables variant, which sorts
    /// all chains each time it is started: nothing was in force after 240 s.
    pub(super) path: OsString,
    pub(super) cp: Pinned,
    pub(super) run: RunDir,
    /// Which Pod each Service has.
    pub(super) pods: Pods,
    /// Services that are there.
    services: usize,
    /// Nodes that were there.
    nodes: AtomicU8,
}

/// Which local Pod each Service has, as the last write of each has it. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Pods(Arc<Mutex<BTreeSet<usize>>>);

impl Pods {
    /// The Pod that Service `n` gets next, which is not the one it has.
    pub(super) fn turn(&self, n: usize) -> Pod {
        // The set is valid between any two statements, so a panic elsewhere does not spoil it.
        let mut second = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if second.remove(&n) {
            return Pod::First;
        }
        second.insert(n);
        Pod::Second
    }

    fn is_first(&self, n: usize) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&n)
    }
}

/// Options of a control plane in `cp` in which nobody but us writes.
pub(super) fn options(assets: crate::assets::Assets, run: &RunDir, cp: &Pinned) -> ControlPlaneOptions {
    let mut options = ControlPlaneOptions::new(assets, run.path());
    (options.with_controller_manager, options.with_scheduler) = (false, false);
    options.netns = Some(cp.0.path().to_owned());
    options.advertise = vec![plan::CONTROL_PLANE.into()];
    options.extra_apiserver_args.push(format!("--service-node-port-range={}", plan::NODE_PORTS));
    options
}

/// A search path in which the plain names of iptables are those of its legacy variant, by links in `dir`.
fn with_legacy_iptables(dir: &Path) -> Result<OsString> {
    let found = std::env::var_os("PATH").unwrap_or_default();
    let program = std::env::split_paths(&found).map(|at| at.join("xtables-legacy-multi")).find(|at| at.is_file());
    let program = program.context("xtables-legacy-multi is not in PATH; install iptables with its legacy variant")?;
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    for family in ["iptables", "ip6tables"] {
        for name in [family.to_owned(), format!("{family}-save"), format!("{family}-restore")] {
            std::os::unix::fs::symlink(&program, dir.join(&name)).with_context(|| name)?;
        }
    }
    let path = std::iter::once(dir.to_owned()).chain(std::env::split_paths(&found));
    std::env::join_paths(path).context("PATH")
}

impl World {
    pub(super) fn new(
        plane: ControlPlane,
        client: kube::Client,
        runtime: Handle,
        stop: Stop,
        progress: Progress,
        agent: PathBuf,
        (cp, run): (Pinned, RunDir),
    ) -> Result<Self> {
        plane.kubeconfig_for(&User::Admin, plane.inner_server(), &run.state().join("agent.kubeconfig"))?;
        plane.kubeconfig_for(&User::KubeProxy, plane.inner_server(), &run.state().join("kube-proxy.kubeconfig"))?;
        let path = with_legacy_iptables(&run.state().join("iptables-legacy"))?;
        Ok(Self {
            plane,
            client,
            runtime,
            stop,
            progress,
            agent,
            path,
            cp,
            run,
            pods: Pods::default(),
            services: 0,
            nodes: AtomicU8::new(0),
        })
    }

    /// A node with a number of its own: those before it go when the kernel has time, and hold their names until then.
    pub(super) fn node(&self, variant: Variant, name: &str) -> Result<Node> {
        let number = self.nodes.fetch_add(1, Ordering::Relaxed) + 1;
        Node::build(self.run.path(), &self.cp.0, variant, name, number).with_context(|| variant.column())
    }

    /// Drives a future to its end, unless the work should end.
    pub(super) fn wait<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        self.stop.block_on(&self.runtime, future)
    }

    /// Brings the API server to `services` Services, and the Pods of all to the first.
    pub(super) fn grow(&mut self, services: usize) -> Result<()> {
        let (from, to) = (self.services, services.max(self.services));
        let pods = to * plan::PODS_EACH;
        let step = self.progress.step(format!("{to} Services and {pods} Pods in the API"));
        if from == 0 {
            self.wait(async { Ok(self.plane.kubectl(&["apply", "--server-side", "--filename", CRDS]).await?) })
                .context("applying the CRDs")?;
            let spaces =
                (0..NAMESPACES).map(|n| ("/api/v1/namespaces".to_owned(), named("Namespace", "v1", &space(n))));
            let node = std::iter::once(("/api/v1/nodes".to_owned(), node()));
            self.create(spaces.chain(node).collect())?;
        }
        for kind in [slice, service, directive] {
            self.create((from..to).map(kind).collect())?;
        }
        self.services = to;
        step.done();
        Ok(())
    }

    fn create(&self, objects: Vec<(String, Value)>) -> Result<()> {
        let post =
            |(path, body): (String, Value)| (Request::post(path).header("content-type", "application/json"), body);
        self.wait(write_all(&self.client, objects.into_iter().map(post)))
    }

    /// What the next agent is to work with.
    pub(super) fn choose(&self, engine: Engine) -> Result<()> {
        let path = "/apis/portreeve.io/v1alpha1/datapathconfigs/default?fieldManager=bench&force=true";
        let body = json!({
            "apiVersion": "portreeve.io/v1alpha1", "kind": "DatapathConfig", "metadata": {"name": "default"},
            "spec": {"backend": engine.backend()},
        });
        let request = Request::patch(path).header("content-type", "application/apply-patch+yaml");
        self.wait(write_all(&self.client, std::iter::once((request, body))))
    }

    /// Gives Services their first Pod again.
    pub(super) fn restore(&self, services: &[usize]) -> Result<()> {
        for &n in services.iter().filter(|n| !self.pods.is_first(**n)) {
            self.wait(change(&self.client, n, self.pods.turn(n)))?;
        }
        Ok(())
    }

    /// Stops etcd and the API server where they stand, or lets them go on.
    pub(super) fn set_running(&self, on: bool) -> Result<()> {
        for part in [Part::Etcd, Part::Apiserver] {
            if on { self.plane.resume(part)? } else { self.plane.pause(part)? }
        }
        Ok(())
    }

    pub(super) fn kube_proxy(&self) -> PathBuf {
        self.plane.program(Binary::KubeProxy)
    }
}

/// One write: the local Pod of Service `n` is now this one.
pub(super) fn change(client: &kube::Client, n: usize, pod: Pod) -> BoxFuture<'static, Result<()>> {
    let client = client.clone();
    Box::pin(async move {
        let path = format!("{}/service-{n}", slices(n));
        let body = json!([{"op": "replace", "path": "/endpoints/0/addresses", "value": [plan::local_pod(n, pod)]}]);
        let request = Request::patch(&path).header("content-type", "application/json-patch+json");
        client.request_text(request.body(serde_json::to_vec(&body)?)?).await.context(path)?;
        Ok(())
    })
}

fn space(n: usize) -> String {
    format!("team-{}", n % NAMESPACES)
}

fn slices(n: usize) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", space(n))
}

fn node() -> Value {
    let mut node = named("Node", "v1", plan::NODE);
    node["status"] = json!({"addresses": [{"type": "InternalIP", "address": plan::NODE_ADDRESS}]});
    node
}

fn service(n: usize) -> (String, Value) {
    let body = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("service-{n}")},
        "spec": {
            "type": "NodePort", "externalTrafficPolicy": "Local", "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "http", "port": 80, "targetPort": plan::POD_PORT, "nodePort": plan::node_port(n)}],
        },
    });
    (format!("/api/v1/namespaces/{}/services", space(n)), body)
}

fn slice(n: usize) -> (String, Value) {
    let ready = json!({"ready": true, "serving": true, "terminating": false});
    let local = json!({"addresses": [plan::local_pod(n, Pod::First)], "nodeName": plan::NODE, "conditions": ready});
    let remote = |i: usize| {
        let node = format!("other-{}", (n + i * 17) % 200);
        json!({"addresses": [plan::remote_pod(n, i)], "nodeName": node, "conditions": ready})
    };
    let endpoints: Vec<_> = std::iter::once(local).chain((0..plan::PODS_EACH - 1).map(remote)).collect();
    let name = format!("service-{n}");
    let body = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": plan::POD_PORT, "protocol": "TCP"}],
        "endpoints": endpoints,
    });
    (slices(n), body)
}

fn directive(n: usize) -> (String, Value) {
    let body = json!({
        "apiVersion": "portreeve.io/v1alpha1", "kind": "ServiceTraffic", "metadata": {"name": format!("service-{n}")},
        "spec": {"mode": "Local"},
    });
    (format!("/apis/portreeve.io/v1alpha1/namespaces/{}/servicetraffics", space(n)), body)
}
