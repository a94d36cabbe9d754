//! What clients see: connections, requests, first packets and streams, all nodes side by side.

use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::daemons::{await_agent, await_served, start_agent, start_proxy};
use super::node::Node;
use super::rows::{Metric, Wide};
use super::slices::{Kind, take_turns};
use super::statistics::against_first;
use super::variant::{Engine, Variant};
use super::world::World;
use super::{objects, plan};
use crate::process::Child;

/// Services that are asked whether they are served before anything is measured.
const ASKED: usize = 64;
/// How long the machine may settle after everything was stopped.
const SETTLE: Duration = Duration::from_millis(500);
const GRACE: Duration = Duration::from_secs(2);

/// Programs every node, stops every daemon where it stands, and lets the nodes take turns.
pub(super) fn measure(world: &World, services: usize, kinds: &[Kind], rounds: usize) -> Result<Vec<Wide>> {
    // Daemons end before their nodes.
    let (mut nodes, mut proxies) = (Vec::new(), Vec::new());
    for variant in Variant::ALL {
        nodes.push(world.node(variant, &format!("{}-{services}", variant.id()))?);
    }
    let outcome = program(world, services, &nodes, &mut proxies).and_then(|()| {
        set_running(world, &mut proxies, false)?;
        world.stop.sleep(SETTLE)?;
        let rows = turns(world, services, &nodes, kinds, rounds);
        set_running(world, &mut proxies, true)?;
        rows
    });
    for proxy in &mut proxies {
        proxy.kill()?;
    }
    outcome
}

/// One kube-proxy after the other, then the agents of one engine after the other: all read the same configuration, and each
/// leaves its rules in force when it ends.
fn program(world: &World, services: usize, nodes: &[Node], proxies: &mut Vec<Child>) -> Result<()> {
    let step = world.progress.step(format!("program {} nodes with {services} Services", nodes.len()));
    let asked = plan::spread(services, ASKED);
    for node in nodes {
        let Some(mode) = node.variant.proxy() else { continue };
        step.note(node.variant.column());
        let mut proxy = start_proxy(world, node, &format!("{}-{services}", node.variant.id()), mode)?;
        let served = await_served(node, &asked, &mut proxy, &world.stop);
        proxies.push(proxy);
        served?;
    }
    for engine in [Engine::Nftables, Engine::Iptables] {
        world.choose(engine)?;
        for node in nodes.iter().filter(|node| node.variant.engine() == Some(engine)) {
            step.note(node.variant.column());
            let mut agent = start_agent(world, node, &format!("{}-{services}", node.variant.id()))?;
            await_agent(node, engine, objects(services), &mut agent, &world.stop)?;
            await_served(node, &asked, &mut agent, &world.stop)?;
            agent.terminate(GRACE)?;
        }
    }
    step.done();
    Ok(())
}

/// Stops everything that is not measured where it stands, or lets it go on.
fn set_running(world: &World, proxies: &mut [Child], on: bool) -> Result<()> {
    for proxy in proxies {
        proxy.signal(if on { Signal::SIGCONT } else { Signal::SIGSTOP })?;
    }
    world.set_running(on)
}

fn turns(world: &World, services: usize, nodes: &[Node], kinds: &[Kind], rounds: usize) -> Result<Vec<Wide>> {
    let mut rows = Vec::new();
    for &kind in kinds {
        let step = world.progress.step(format!("{} at {services} Services", name(kind)));
        let samples = take_turns(nodes, services, kind, rounds, &world.stop)?;
        step.done();
        let mut row = |metric, of: fn(&super::statistics::Sample) -> f64| {
            let figures = nodes.iter().map(|node| node.variant).zip(against_first(&samples, of));
            rows.push(Wide::new(metric, services, rounds, figures));
        };
        match kind {
            Kind::Connections => row(Metric::Connections, |it| it.rate),
            Kind::RequestResponse => {
                row(Metric::RequestResponse, |it| it.rate);
                row(Metric::RequestResponseP50, |it| it.p50);
                row(Metric::RequestResponseP99, |it| it.p99);
            }
            Kind::FirstPacket => row(Metric::FirstPacket, |it| it.p50),
            Kind::Stream => row(Metric::Stream, |it| it.rate / 1e6),
        }
    }
    Ok(rows)
}

const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Connections => "new connections",
        Kind::RequestResponse => "request and response",
        Kind::FirstPacket => "first packets",
        Kind::Stream => "streams without offloads",
    }
}
