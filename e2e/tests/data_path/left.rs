//! What is nobody's, or nobody's here: a Service of another proxy, an endpoint of no node.

use anyhow::Result;
use futures::future::FutureExt as _;
use serde_json::{Value, json};

use super::objects::{HTTP, OTHER_PROXY, pod, service};
use super::probe::Transport::{Tcp, Udp};
use super::scene::{Numbers, Scenario, Scene};
use super::seen::{Seen, Source};

/// Another service proxy has it.
pub(crate) const OTHER: Scenario =
    Scenario { name: "another service proxy", objects: other_objects, play: |scene| other(scene).boxed_local() };
/// An endpoint does not say where it is.
pub(crate) const NOWHERE: Scenario =
    Scenario { name: "an endpoint of no node", objects: nowhere_objects, play: |scene| nowhere(scene).boxed_local() };

fn other_objects(numbers: Numbers) -> Vec<Value> {
    let mut labelled = service("other", "other", numbers.of(65), json!({}));
    labelled["metadata"]["labels"][OTHER_PROXY] = json!("elsewhere");
    vec![pod("other-1", "other", "n1"), labelled]
}

async fn other(scene: &Scene<'_>) -> Result<()> {
    let (placed, client) = (scene.placed("other").await?, scene.outside());
    for transport in [Tcp, Udp] {
        let step = format!("node port, {transport:?}");
        scene.meets(&step, &client, transport, placed.node_port(1, transport), Seen::refused()).await?;
    }
    // Nobody has the address: routers pass the packet to and fro.
    scene.meets("load balancer", &client, Tcp, placed.lb(1, Tcp), Seen::unreachable()).await
}

fn nowhere_objects(numbers: Numbers) -> Vec<Value> {
    vec![pod("nowhere-1", "nowhere", "n1"), service("nowhere", "nowhere", numbers.of(66), json!({"selector": null}))]
}

/// It is local to no node, so that nobody outside reaches it under `Local`; those inside do.
async fn nowhere(scene: &Scene<'_>) -> Result<()> {
    let (placed, client) = (scene.placed("nowhere").await?, scene.outside());
    let address = scene.pod("nowhere-1").await?.address;
    let slice = |family: &str, ip: String| {
        let name = format!("nowhere-{family}").to_lowercase();
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "nowhere"}},
            "endpoints": [{"addresses": [ip]}],
            "ports": [{"name": "tcp", "port": HTTP}],
        })
    };
    let slices = vec![slice("IPv4", address.v4.to_string()), slice("IPv6", address.v6.to_string())];
    scene.make("nowhere-slices", slices).await?;
    let inside = Seen::pods(&["nowhere-1"], Source::Node(1));
    scene.meets("n1 itself", &scene.world.node(1), Tcp, placed.lb(1, Tcp), inside).await?;
    for (kind, front) in [("load balancer", placed.lb(1, Tcp)), ("node port", placed.node_port(1, Tcp))] {
        scene.meets(&format!("{kind} of n1"), &client, Tcp, front, Seen::silence()).await?;
    }
    for index in [1, 3] {
        scene.health(&format!("health check of n{index}"), &placed, index, Some((503, 0))).await?;
    }
    Ok(())
}
