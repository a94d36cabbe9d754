//! A Service that changes while connections to it are open: its policy, its node port, its type.

use anyhow::Result;
use futures::future::FutureExt as _;
use serde_json::{Value, json};

use super::objects::{HTTP, UDP, pod, service};
use super::probe::Line;
use super::probe::Transport::Tcp;
use super::scene::{Numbers, Scenario, Scene};
use super::seen::{Seen, Source};

pub(crate) const FLIP: Scenario =
    Scenario { name: "a Service changes", objects, play: |scene| play(scene).boxed_local() };

const PODS: [&str; 2] = ["flip-1", "flip-2"];

fn objects(numbers: Numbers) -> Vec<Value> {
    vec![pod(PODS[0], "flip", "n1"), pod(PODS[1], "flip", "n2"), service("flip", "flip", numbers.of(50), json!({}))]
}

async fn play(scene: &Scene<'_>) -> Result<()> {
    let (first, client) = (scene.placed("flip").await?, scene.outside());
    scene.meets("Local, at n1", &client, Tcp, first.lb(1, Tcp), Seen::pod(PODS[0])).await?;
    scene.meets("Local, at n3", &client, Tcp, first.lb(3, Tcp), Seen::silence()).await?;
    let mut lines = Vec::new();
    for to in first.node_port(1, Tcp).both().into_iter().chain(first.lb(1, Tcp).both()) {
        lines.push(client.connect(to).await?);
    }

    scene.patch("flip", json!({"externalTrafficPolicy": "Cluster"})).await?;
    for index in [1, 3] {
        let hidden = Seen::pods(&PODS, Source::Node(index));
        scene.meets(&format!("Cluster, at n{index}"), &client, Tcp, first.lb(index, Tcp), hidden.clone()).await?;
        let step = format!("Cluster, node port of n{index}");
        scene.meets(&step, &client, Tcp, first.node_port(index, Tcp), hidden).await?;
        scene.health(&format!("Cluster, health check of n{index}"), &first, index, None).await?;
    }
    alive(scene, "Cluster", &lines).await;
    for to in first.node_port(3, Tcp).both() {
        lines.push(client.connect(to).await?);
    }

    let again = json!({"externalTrafficPolicy": "Local", "healthCheckNodePort": first.health});
    let second = scene.patch("flip", again).await?;
    scene.meets("Local again, at n1", &client, Tcp, second.lb(1, Tcp), Seen::pod(PODS[0])).await?;
    scene.meets("Local again, at n3", &client, Tcp, second.node_port(3, Tcp), Seen::silence()).await?;
    scene.health("Local again, health check of n1", &first, 1, Some((200, 1))).await?;
    scene.health("Local again, health check of n3", &first, 3, Some((503, 0))).await?;
    alive(scene, "Local again", &lines).await;

    let mut ports = json!([
        {"name": "tcp", "port": 80, "targetPort": HTTP},
        {"name": "udp", "port": 80, "targetPort": UDP, "protocol": "UDP"},
    ]);
    for (port, node_port) in ports.as_array_mut().into_iter().flatten().zip(scene.variant.own_node_ports()) {
        port["nodePort"] = json!(node_port);
    }
    let third = scene.patch("flip", json!({"ports": ports})).await?;
    scene.meets("another node port, at n1", &client, Tcp, third.node_port(1, Tcp), Seen::pod(PODS[0])).await?;
    scene.meets("the node port that was, at n1", &client, Tcp, second.node_port(1, Tcp), Seen::refused()).await?;
    scene.meets("another node port, at n3", &client, Tcp, third.node_port(3, Tcp), Seen::silence()).await?;
    alive(scene, "another node port", &lines).await;

    let plain = json!({"type": "NodePort", "loadBalancerClass": null, "healthCheckNodePort": null});
    let fourth = scene.patch("flip", plain).await?;
    scene.health("type NodePort, health check of n1", &first, 1, None).await?;
    scene.meets("type NodePort, at n1", &client, Tcp, fourth.node_port(1, Tcp), Seen::pod(PODS[0])).await?;
    scene.meets("type NodePort, at n3", &client, Tcp, fourth.node_port(3, Tcp), Seen::silence()).await?;
    // Nobody has the address: routers pass the packet to and fro.
    scene.meets("type NodePort, load balancer of n1", &client, Tcp, first.lb(1, Tcp), Seen::unreachable()).await?;
    alive(scene, "type NodePort", &lines).await;
    Ok(())
}

async fn alive(scene: &Scene<'_>, step: &str, lines: &[Line]) {
    let mut states = Vec::new();
    for line in lines {
        states.push(line.state().await);
    }
    states.sort();
    states.dedup();
    scene.record(&format!("{step}, open connections"), &states.join("; "), "alive");
}
