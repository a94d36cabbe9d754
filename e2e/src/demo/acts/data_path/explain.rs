//! What `explain` says of a packet and what becomes of it agree, for every node, client and family, whoever decides.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::super::super::{Measured, Stage};
use super::{NAME, NAMESPACE, Scene, Way};
use crate::http::HttpFailure;
use crate::outside::OutsideClient;

pub(in super::super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    let scene = Scene::set(stage).await?;
    for way in Way::ahead(stage).iter().copied() {
        let mut agreed = 0;
        for choice in ["Drop", "Reject", "Passthrough"] {
            scene.claim(stage, way, choice).await?;
            agreed += agree(stage, &scene, "portreeve").await?;
        }
        measured.note(&format!("{}_agreed", way.word()), agreed);
        scene.release(stage, way).await?;
    }
    measured.note("kube_proxy_agreed", agree(stage, &scene, "kube-proxy").await?);
    let plugin = stage.kubectl.with_program(stage.plugin.clone());
    scene.claim(stage, Way::ALL[0], "Reject").await?;
    let from = stage.cluster.clients()[0].ip().to_string();
    let said = plugin.run(&["explain", &format!("svc/{NAME}"), "-n", NAMESPACE, "--from", &from]).await?.ok()?;
    measured.note("explain", said.stdout);
    Ok(())
}

/// Asks about every client, node and family, and sends each of these packets; the number of those that agreed. Where a Pod
/// answers, `decides` must be the one who sent the packet to it.
async fn agree(stage: &Stage, scene: &Scene, decides: &str) -> Result<usize> {
    let plugin = stage.kubectl.with_program(stage.plugin.clone());
    let mut agreed = 0;
    for client in stage.cluster.clients() {
        for (family, from) in [IpAddr::from(client.address.v4), client.address.v6.into()].into_iter().enumerate() {
            let from = from.to_string();
            let asked = ["explain", &format!("svc/{NAME}"), "-n", NAMESPACE, "--from", &from, "-o", "json"];
            let said = plugin.run(&asked).await?.ok()?;
            let said: Value = serde_json::from_str(&said.stdout).context("explain -o json")?;
            for node in stage.cluster.nodes() {
                let to = scene.addresses(stage, node.name())?[family];
                let frontend = frontend(&said, node.name(), to)?;
                let verdict = frontend["verdict"].as_str().unwrap_or_default();
                let seen = outcome(client, to, frontend).await?;
                ensure!(
                    seen == verdict,
                    "{from} to {to}: explain says {verdict} and the packet met: {seen}; {}",
                    frontend["reasons"]
                );
                ensure!(
                    verdict != "deliver" || frontend["decides"] == decides,
                    "{from} to {to}: explain says that {} decides",
                    frontend["decides"]
                );
                agreed += 1;
            }
        }
    }
    Ok(agreed)
}

/// What explain says of one destination on one node.
fn frontend<'a>(said: &'a Value, node: &str, to: SocketAddr) -> Result<&'a Value> {
    let nodes = said["nodes"].as_array().context("explain names no nodes")?;
    let on_node =
        nodes.iter().find(|it| it["node"] == node).with_context(|| format!("explain has nothing of {node}"))?;
    let frontends = on_node["frontends"].as_array().into_iter().flatten();
    let mut same = frontends.filter(|it| it["destination"] == to.to_string());
    same.next().with_context(|| format!("explain has nothing of {to} on {node}"))
}

/// What became of a packet, in explain's words. An answer counts as delivered if a Pod gave it that explain names, and the
/// Pod saw the address that explain says.
async fn outcome(client: &OutsideClient, to: SocketAddr, frontend: &Value) -> Result<String> {
    let patience = Duration::from_secs(2);
    let answer = client.http_get(&format!("http://{to}/hostname"), patience).await?;
    Ok(match (answer.status, answer.error) {
        (Some(200), _) => {
            let pods = frontend["pods"].as_array().into_iter().flatten();
            let named = pods.filter_map(|pod| pod["name"].as_str()).any(|name| name == answer.body.trim());
            let saw = client.http_get(&format!("http://{to}/clientip"), patience).await?;
            let saw = saw.body.rsplit_once(':').map_or("", |(address, _)| address).trim_matches(['[', ']']).to_owned();
            let own = [client.address.v4.to_string(), client.address.v6.to_string()].contains(&saw);
            match (named, own == (frontend["clientSeenAs"] == "client")) {
                (true, true) => "deliver".to_owned(),
                (false, _) => format!("Pod {}, which explain does not name", answer.body.trim()),
                (true, false) => format!("a Pod that saw {saw}"),
            }
        }
        (None, Some(HttpFailure::Timeout)) => "drop".to_owned(),
        (None, Some(HttpFailure::Refused)) => "reject".to_owned(),
        (status, error) => format!("{status:?} {error:?}"),
    })
}
