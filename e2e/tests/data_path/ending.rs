//! Pods that end: served to the last while nobody else is ready here, then dropped or refused, with the health check beside.

use anyhow::Result;
use futures::future::FutureExt as _;
use serde_json::{Value, json};

use super::objects::{lingering, pod, service};
use super::probe::Transport::{Tcp, Udp};
use super::scene::{Numbers, Scenario, Scene};
use super::seen::Seen;

/// The last Pod of a node ends while another node has one.
pub(crate) const LAST: Scenario =
    Scenario { name: "the last Pod here ends", objects: last_objects, play: |scene| last(scene).boxed_local() };
/// A Pod ends beside another one of its node.
pub(crate) const BESIDE: Scenario =
    Scenario { name: "a Pod ends beside another", objects: beside_objects, play: |scene| beside(scene).boxed_local() };
/// All Pods end.
pub(crate) const ALL: Scenario =
    Scenario { name: "all Pods are gone", objects: all_objects, play: |scene| all(scene).boxed_local() };

/// Long enough to be looked at on a busy machine.
const LINGER: u16 = 12;
/// Connections of which one at least meets the Pod that is to end.
const LINES: usize = 16;

fn last_objects(numbers: Numbers) -> Vec<Value> {
    vec![
        lingering("last-1", "last", "n1", LINGER),
        pod("last-2", "last", "n2"),
        service("last", "last", numbers.of(10), json!({})),
    ]
}

async fn last(scene: &Scene<'_>) -> Result<()> {
    let (placed, client) = (scene.placed("last").await?, scene.outside());
    scene.meets("at n1 before", &client, Tcp, placed.lb(1, Tcp), Seen::pod("last-1")).await?;
    scene.meets("at n2 before", &client, Tcp, placed.node_port(2, Tcp), Seen::pod("last-2")).await?;
    scene.meets("at n3 before", &client, Tcp, placed.lb(3, Tcp), Seen::silence()).await?;
    for (index, state) in [(1, (200, 1)), (2, (200, 1)), (3, (503, 0))] {
        scene.health(&format!("health check of n{index} before"), &placed, index, Some(state)).await?;
    }
    let line = client.connect(placed.lb(1, Tcp).both()[0]).await?;

    scene.end("last-1").await?;
    scene.health("health check of n1 while it ends", &placed, 1, Some((503, 0))).await?;
    for (name, front) in [("load balancer", placed.lb(1, Tcp)), ("node port", placed.node_port(1, Tcp))] {
        scene.meets(&format!("{name} of n1 while it ends"), &client, Tcp, front, Seen::pod("last-1")).await?;
    }
    scene.meets("UDP at n1 while it ends", &client, Udp, placed.lb(1, Udp), Seen::pod("last-1")).await?;
    scene.meets("at n2 while it ends", &client, Tcp, placed.lb(2, Tcp), Seen::pod("last-2")).await?;
    scene.record("an open connection while it ends", &line.state().await, "alive");

    scene.meets("at n1 when it is gone", &client, Tcp, placed.lb(1, Tcp), Seen::silence()).await?;
    scene.meets("UDP at n1 when it is gone", &client, Udp, placed.node_port(1, Udp), Seen::silence()).await?;
    scene.meets("at n2 when it is gone", &client, Tcp, placed.lb(2, Tcp), Seen::pod("last-2")).await?;
    scene.health("health check of n1 when it is gone", &placed, 1, Some((503, 0))).await
}

fn beside_objects(numbers: Numbers) -> Vec<Value> {
    vec![
        lingering("beside-1", "beside", "n1", LINGER),
        pod("beside-2", "beside", "n1"),
        service("beside", "beside", numbers.of(11), json!({})),
    ]
}

async fn beside(scene: &Scene<'_>) -> Result<()> {
    let (placed, client) = (scene.placed("beside").await?, scene.outside());
    let both = Seen::pod("beside-1").and(Seen::pod("beside-2"));
    scene.meets("before", &client, Tcp, placed.lb(1, Tcp), both).await?;
    scene.health("health check before", &placed, 1, Some((200, 2))).await?;
    let mut lines = Vec::new();
    for to in placed.lb(1, Tcp).both() {
        for _ in 0..LINES {
            let line = client.connect(to).await?;
            if line.pod == "beside-1" {
                lines.push(line);
                break;
            }
        }
    }
    scene.record("connections that are open to the Pod", &lines.len().to_string(), "2");

    scene.end("beside-1").await?;
    scene.health("health check while it ends", &placed, 1, Some((200, 1))).await?;
    scene.meets("while it ends", &client, Tcp, placed.lb(1, Tcp), Seen::pod("beside-2")).await?;
    scene.meets("UDP while it ends", &client, Udp, placed.node_port(1, Udp), Seen::pod("beside-2")).await?;
    for line in &lines {
        scene.record("an open connection to it while it ends", &line.state().await, "alive");
    }
    Ok(())
}

fn all_objects(numbers: Numbers) -> Vec<Value> {
    vec![
        pod("all-1", "all", "n1"),
        pod("all-2", "all", "n2"),
        service("all", "all", numbers.of(12), json!({"externalIPs": numbers.external(12)})),
    ]
}

async fn all(scene: &Scene<'_>) -> Result<()> {
    let (placed, client) = (scene.placed("all").await?, scene.outside());
    scene.meets("at n1 before", &client, Tcp, placed.lb(1, Tcp), Seen::pod("all-1")).await?;
    scene.meets("at n3 before", &client, Tcp, placed.lb(3, Tcp), Seen::silence()).await?;
    futures::future::try_join(scene.end("all-1"), scene.end("all-2")).await?;
    for index in [1, 3] {
        for transport in [Tcp, Udp] {
            let fronts = [
                ("node port", placed.node_port(index, transport)),
                ("load balancer", placed.lb(index, transport)),
                ("external IP", placed.external(index, transport)),
            ];
            for (kind, front) in fronts {
                let step = format!("{kind} of n{index}, {transport:?}");
                scene.meets(&step, &client, transport, front, Seen::refused()).await?;
            }
        }
        scene.health(&format!("health check of n{index}"), &placed, index, Some((503, 0))).await?;
    }
    scene.make("all-3", vec![pod("all-3", "all", "n1")]).await?;
    scene.meets("at n1 when one is there again", &client, Tcp, placed.lb(1, Tcp), Seen::pod("all-3")).await?;
    scene.meets("at n3 when one is there again", &client, Tcp, placed.lb(3, Tcp), Seen::silence()).await?;
    scene.health("health check of n1 when one is there again", &placed, 1, Some((200, 1))).await
}
