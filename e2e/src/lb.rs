//! The testbed's load balancers, and the cloud controller that hands them out.
//!
//! Three kinds, because `externalTrafficPolicy` is felt through the load balancer in front: a forwarder keeps the client's
//! address, a proxy does not, an announcer has one node take everything. All of them trust health checks only, as a
//! cloud's do. They run on one thread that lives in the router's network namespace.

mod announcer;
mod controller;
mod forwarder;
mod health;
mod model;
mod proxy;
mod worker;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;

use tokio_util::sync::CancellationToken;

pub use self::health::HealthOptions;
pub use self::model::{Kind, PROXY_PROTOCOL_ANNOTATION, WEIGHTED_ANNOTATION};
use crate::fabric::plan::Dual;
use crate::kubeconfig::KubeconfigError;
use crate::netns::{NetNs, NetNsError};

/// Why a load balancer, or the controller behind them all, could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum LbError {
    /// A route or address could not be changed.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// There is no client for the API server.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// A proxy could not listen.
    #[error("listen on {at}")]
    Listen {
        /// Virtual address and port.
        at: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A connection through a proxy ended badly.
    #[error("relay a connection")]
    Relay(#[from] io::Error),
    /// A proxy has no node to send a connection to.
    #[error("no healthy node")]
    NoNode,
    /// The status of a Service could not be written.
    #[error("write the status of {service}")]
    Status {
        /// `NAMESPACE/NAME`.
        service: String,
        /// What the API server said.
        source: Box<kube::Error>,
    },
    /// The pool is empty.
    #[error("all virtual addresses are taken")]
    Exhausted,
    /// The watch ended for good, which it should not.
    #[error("the watch of Services ended")]
    WatchEnded,
    /// A helper task panicked.
    #[error("a task of the load balancers")]
    Task(#[from] tokio::task::JoinError),
    /// The load balancers' thread panicked.
    #[error("the load balancers' thread panicked")]
    Panicked,
}

/// A node as a load balancer sees it.
#[derive(Debug, Clone)]
pub struct LbNode {
    /// The Node's name.
    pub name: String,
    /// Where it is reached.
    pub address: Dual,
    /// For the announcer, whose speaker runs on the node.
    pub netns: NetNs,
}

/// How the load balancers behave.
#[derive(Debug, Clone, Default)]
pub struct LbOptions {
    /// Kind of a Service without `loadBalancerClass`.
    pub default_kind: Kind,
    /// Health checks of nodes.
    pub health: HealthOptions,
}

/// What one Service's load balancer currently thinks of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeView {
    /// Whether flows are sent to it.
    pub healthy: bool,
    /// `X-Load-Balancing-Endpoint-Weight` of the last good answer; 1 where the node names none.
    pub weight: u16,
    /// Checks made so far.
    pub checks: u64,
}

/// What one Service's load balancer currently does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    /// The kind in use.
    pub kind: Kind,
    /// Its virtual addresses, in the order of the Service's families.
    pub vips: Vec<IpAddr>,
    /// Node name → decision.
    pub nodes: BTreeMap<String, NodeView>,
    /// The node that owns the address, for an announcer.
    pub owner: Option<String>,
}

/// `NAMESPACE/NAME` → view; shared between the load balancers' thread and whoever asks.
#[derive(Debug, Clone, Default)]
struct Views(Arc<Mutex<BTreeMap<String, ServiceView>>>);

impl Views {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, ServiceView>> {
        self.0.lock().expect("invariant: nobody panics while holding the views")
    }
}

/// The running load balancers. Dropping stops them; the namespaces they worked in keep their last state.
#[derive(Debug)]
pub struct LoadBalancers {
    views: Views,
    stop: CancellationToken,
    thread: Option<JoinHandle<Result<(), LbError>>>,
}

impl LoadBalancers {
    /// Starts the controller in `router`, with the cluster as `kubeconfig` says (as reached from inside `router`).
    pub fn start(router: &NetNs, kubeconfig: &Path, nodes: Vec<LbNode>, options: LbOptions) -> Result<Self, LbError> {
        let (views, stop) = (Views::default(), CancellationToken::new());
        let context = controller::Context { router: router.clone(), nodes, options, views: views.clone() };
        let (kubeconfig, until, ns) = (kubeconfig.to_owned(), stop.clone(), router.clone());
        let body = move || ns.block_on(move || controller::run(kubeconfig, context, until))?;
        let thread = std::thread::Builder::new().name("load-balancers".into()).spawn(body)?;
        Ok(Self { views, stop, thread: Some(thread) })
    }

    /// The state of the load balancer of `service` (`NAMESPACE/NAME`), if it has one.
    pub fn view(&self, service: &str) -> Option<ServiceView> {
        self.views.lock().get(service).cloned()
    }

    /// All of them.
    pub fn views(&self) -> BTreeMap<String, ServiceView> {
        self.views.lock().clone()
    }

    /// Names of the nodes that get flows of `service`, sorted; empty when it has no load balancer.
    pub fn healthy_nodes(&self, service: &str) -> Vec<String> {
        let nodes = self.view(service).map(|view| view.nodes).unwrap_or_default();
        nodes.into_iter().filter(|(_, node)| node.healthy).map(|(name, _)| name).collect()
    }

    /// Stops, and says if the controller had failed before.
    pub fn stop(mut self) -> Result<(), LbError> {
        self.stop.cancel();
        match self.thread.take() {
            Some(thread) => thread.join().unwrap_or(Err(LbError::Panicked)),
            None => Ok(()),
        }
    }
}

impl Drop for LoadBalancers {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take()
            && let Err(error) = thread.join().unwrap_or(Err(LbError::Panicked))
        {
            tracing::warn!(%error, "load balancers");
        }
    }
}
