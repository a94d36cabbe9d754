//! One Service's load balancer at work: check the nodes, decide, and change what has to change.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::controller::Context;
use super::forwarder::{self, Path};
use super::health::{Streak, check};
use super::model::{Kind, Wanted};
use super::{LbError, LbNode, NodeView, ServiceView, announcer, proxy};
use crate::netns::{NetNs, NetNsError};

/// Runs until it is aborted; what it has set up stays until [`clean`], so that a changed Service does not lose its flows.
pub(super) async fn run(key: String, wanted: Wanted, vips: Vec<IpAddr>, context: Context) {
    let mut worker = Worker::new(key, wanted, vips, context);
    let mut tick = interval(worker.context.options.health.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        worker.check_nodes().await;
        // What could not be applied is tried again at the next check.
        if let Err(error) = worker.apply().await {
            tracing::warn!(service = worker.key, error = &error as &dyn std::error::Error, "load balancer");
        }
    }
}

struct Worker {
    key: String,
    wanted: Wanted,
    vips: Vec<IpAddr>,
    context: Context,
    streaks: BTreeMap<String, Streak>,
    /// The decision that is in force; `None` until the first.
    applied: Option<BTreeMap<String, NodeView>>,
    backends: proxy::Backends,
    listeners: JoinSet<()>,
}

impl Worker {
    fn new(key: String, wanted: Wanted, vips: Vec<IpAddr>, context: Context) -> Self {
        let streaks = context.nodes.iter().map(|node| (node.name.clone(), Streak::new())).collect();
        Self {
            key,
            wanted,
            vips,
            context,
            streaks,
            applied: None,
            backends: proxy::Backends::default(),
            listeners: JoinSet::new(),
        }
    }

    async fn check_nodes(&mut self) {
        let health = self.context.options.health;
        let mut answers = JoinSet::new();
        for node in &self.context.nodes {
            let (name, at) = (node.name.clone(), SocketAddr::new(node.address.v4.into(), self.wanted.check_port));
            answers.spawn(async move { (name, check(at, health.interval).await) });
        }
        while let Some(joined) = answers.join_next().await {
            let (name, answer) = joined.expect("invariant: a check does not panic");
            if let Some(streak) = self.streaks.get_mut(&name) {
                streak.observe(answer, &health);
            }
        }
    }

    async fn apply(&mut self) -> Result<(), LbError> {
        let nodes: BTreeMap<_, _> = self.streaks.iter().map(|(name, streak)| (name.clone(), streak.view)).collect();
        let mut view = ServiceView { kind: self.wanted.kind, vips: self.vips.clone(), nodes, owner: None };
        let decision: BTreeMap<_, _> =
            view.nodes.iter().map(|(n, v)| (n.clone(), NodeView { checks: 0, ..*v })).collect();
        let changed = self.applied.as_ref() != Some(&decision);
        match self.wanted.kind {
            Kind::Forwarder if changed => {
                let batch: String = self.vips.iter().map(|vip| forwarder::route(*vip, &self.paths(&view))).collect();
                blocking(&self.context.router, move |router| router.ip(&batch)).await?;
            }
            Kind::Proxy if changed => {
                self.backends.set(self.paths(&view).into_iter().map(|path| path.node).collect());
                if self.listeners.is_empty() {
                    let vips = self.vips.clone();
                    blocking(&self.context.router, move |router| carry(router, &vips)).await?;
                    let (ports, header) = (&self.wanted.ports, self.wanted.proxy_protocol);
                    self.listeners = proxy::listen(&self.vips, ports, &self.backends, header).await?;
                }
            }
            Kind::Forwarder | Kind::Proxy => {}
            Kind::Announcer => view.owner = self.announce(&view.nodes).await?,
        }
        self.applied = Some(decision);
        self.context.views.lock().insert(self.key.clone(), view);
        Ok(())
    }

    fn paths(&self, view: &ServiceView) -> Vec<Path> {
        let weight = |node: &NodeView| if self.wanted.weighted { node.weight } else { 1 };
        let path = |node: &LbNode| {
            let seen = view.nodes.get(&node.name).filter(|seen| seen.healthy)?;
            Some(Path { node: node.address, weight: weight(seen) })
        };
        self.context.nodes.iter().filter_map(path).collect()
    }

    /// Moves the address if it has to move; the owner is remembered in the view, across changes of the Service.
    async fn announce(&self, nodes: &BTreeMap<String, NodeView>) -> Result<Option<String>, LbError> {
        let before = self.context.views.lock().get(&self.key).and_then(|view| view.owner.clone());
        let after = announcer::choose(nodes, before.as_deref());
        if after != before {
            let find = |name: Option<&String>| self.context.nodes.iter().find(|node| Some(&node.name) == name).cloned();
            let (old, new, vips) = (find(before.as_ref()), find(after.as_ref()), self.vips.clone());
            blocking(&self.context.router, move |_| {
                old.map_or(Ok(()), |node| announcer::leave(&node, &vips))?;
                new.map_or(Ok(()), |node| announcer::take(&node, &vips))
            })
            .await?;
        }
        Ok(after)
    }
}

/// Takes away what the load balancer of `view` had set up.
pub(super) async fn clean(view: ServiceView, context: &Context) -> Result<(), LbError> {
    let nodes = context.nodes.clone();
    blocking(&context.router, move |router| {
        for vip in &view.vips {
            match view.kind {
                Kind::Forwarder => router.ip(&forwarder::unroute(*vip))?,
                Kind::Proxy => router.ip(&format!("addr del {vip} dev lo\n"))?,
                Kind::Announcer => {}
            }
        }
        let owner = nodes.iter().find(|node| Some(&node.name) == view.owner.as_ref());
        owner.map_or(Ok(()), |node| announcer::leave(node, &view.vips))
    })
    .await
}

fn carry(router: &NetNs, vips: &[IpAddr]) -> Result<(), NetNsError> {
    // An IPv6 address that is still being checked for duplicates cannot be listened on.
    let nodad = |vip: &IpAddr| if vip.is_ipv6() { " nodad" } else { "" };
    let batch: String = vips.iter().map(|vip| format!("addr replace {vip} dev lo{}\n", nodad(vip))).collect();
    router.ip(&batch)
}

/// iproute2 blocks for milliseconds: connections that are being proxied on this thread must not wait for it.
async fn blocking(
    netns: &NetNs,
    work: impl FnOnce(&NetNs) -> Result<(), NetNsError> + Send + 'static,
) -> Result<(), LbError> {
    let netns = netns.clone();
    Ok(tokio::task::spawn_blocking(move || work(&netns)).await??)
}
