//! UDP clients that keep their port: one flow for ever, which must follow its Pod's successor.

use anyhow::Result;
use futures::future::FutureExt as _;
use portreeve_e2e::http::HttpFailure;
use serde_json::{Value, json};

use super::objects::{pod, service};
use super::probe::Socket;
use super::probe::Transport::Udp;
use super::scene::{Numbers, Scenario, Scene, pair};

pub(crate) const UDP: Scenario =
    Scenario { name: "UDP from one port", objects, play: |scene| play(scene).boxed_local() };

fn objects(numbers: Numbers) -> Vec<Value> {
    vec![pod("udp-1", "udp", "n1"), pod("udp-far", "udp", "n2"), service("udp", "udp", numbers.of(40), json!({}))]
}

async fn play(scene: &Scene<'_>) -> Result<()> {
    let (placed, client) = (scene.placed("udp").await?, scene.outside());
    let [to4, to6] = placed.node_port(1, Udp).both();
    let sockets = [client.socket(to4).await?, client.socket(to6).await?];
    met(scene, "before", &sockets, "udp-1").await?;

    scene.kill("udp-1").await?;
    scene.make("udp-2", vec![pod("udp-2", "udp", "n1")]).await?;
    met(scene, "when its Pod is replaced", &sockets, "udp-2").await?;

    futures::future::try_join(scene.kill("udp-2"), scene.kill("udp-far")).await?;
    // kube-proxy leaves flows alone while a Service has no endpoint (kubernetes/kubernetes#139628): packets go on to where
    // the Pod was.
    let wanted = if scene.claimed() { "refused" } else { "silence" };
    let mut seen = Vec::new();
    for socket in &sockets {
        let look = async || Ok(shown(socket.ask().await));
        seen.push(scene.settles(look, |seen| *seen == wanted).await?);
    }
    scene.record("when no Pod is left", &pair(&seen[0], &seen[1]), wanted);

    scene.make("udp-3", vec![pod("udp-3", "udp", "n1")]).await?;
    met(scene, "when one is there again", &sockets, "udp-3").await
}

async fn met(scene: &Scene<'_>, step: &str, sockets: &[Socket; 2], wanted: &str) -> Result<()> {
    let mut seen = Vec::new();
    for socket in sockets {
        let look = async || Ok(shown(socket.ask().await));
        seen.push(scene.settles(look, |seen| *seen == wanted).await?);
    }
    scene.record(step, &pair(&seen[0], &seen[1]), wanted);
    Ok(())
}

fn shown(answer: Result<String, HttpFailure>) -> String {
    match answer {
        Ok(pod) => pod,
        Err(HttpFailure::Refused) => "refused".to_owned(),
        Err(HttpFailure::Timeout) => "silence".to_owned(),
        Err(other) => other.to_string(),
    }
}
