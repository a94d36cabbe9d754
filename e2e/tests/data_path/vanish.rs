//! Pods whose kernel says nothing more, as when a machine loses power: nobody tells the client but the node.

use anyhow::Result;
use futures::future::FutureExt as _;
use serde_json::{Value, json};

use super::objects::{pod, service};
use super::probe::Transport::Tcp;
use super::scene::{Numbers, Scenario, Scene};
use super::seen::Seen;

pub(crate) const VANISH: Scenario =
    Scenario { name: "a Pod vanishes", objects, play: |scene| play(scene).boxed_local() };

fn objects(numbers: Numbers) -> Vec<Value> {
    vec![
        pod("vanish-1", "vanish", "n1"),
        pod("vanish-2", "vanish", "n2"),
        service("vanish", "vanish", numbers.of(13), json!({})),
    ]
}

async fn play(scene: &Scene<'_>) -> Result<()> {
    let (placed, client) = (scene.placed("vanish").await?, scene.outside());
    scene.meets("before", &client, Tcp, placed.lb(1, Tcp), Seen::pod("vanish-1")).await?;
    let mut lines = Vec::new();
    for to in placed.lb(1, Tcp).both().into_iter().chain(placed.node_port(1, Tcp).both()) {
        lines.push(client.connect(to).await?);
    }
    scene.pod("vanish-1").await?.inside(|netns| netns.ip("link set eth0 down\n")).await?;
    scene.kill("vanish-1").await?;
    scene.meets("when it is gone", &client, Tcp, placed.lb(1, Tcp), Seen::silence()).await?;
    // kube-proxy leaves TCP alone: the client sends until it gives up.
    let wanted = if scene.claimed() { "reset" } else { "silence" };
    for (line, kind) in
        lines.iter().zip(["load balancer, IPv4", "load balancer, IPv6", "node port, IPv4", "node port, IPv6"])
    {
        scene.record(&format!("an open connection by {kind}"), &line.fate().await, wanted);
    }
    Ok(())
}
