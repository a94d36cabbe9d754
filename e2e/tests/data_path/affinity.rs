//! Session affinity by client address: kept over all frontends of a port, forgotten after its timeout, and not longer than
//! its Pod.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures::future::{FutureExt as _, try_join_all};
use portreeve_e2e::fabric::plan::Dual;
use serde_json::{Value, json};

use super::objects::{pod, service};
use super::plan::Front;
use super::probe::Caller;
use super::probe::Transport::Tcp;
use super::scene::{Numbers, Scenario, Scene, WITHIN};
use super::seen::{Answer, Source};
use super::world::until;

pub(crate) const AFFINITY: Scenario =
    Scenario { name: "session affinity", objects, play: |scene| play(scene).boxed_local() };

const PODS: [&str; 2] = ["affine-1", "affine-2"];
const SECONDS: u64 = 8;
/// So many clients choose between two Pods, on each of two families: that all choose one Pod, or all choose as before, is a
/// matter of once in 2^30 runs.
const CLIENTS: u8 = 16;

fn objects(numbers: Numbers) -> Vec<Value> {
    let more = json!({
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": SECONDS}},
        "externalIPs": numbers.external(30),
    });
    vec![pod(PODS[0], "affine", "n1"), pod(PODS[1], "affine", "n1"), service("affine", "affine", numbers.of(30), more)]
}

async fn play(scene: &Scene<'_>) -> Result<()> {
    let placed = scene.placed("affine").await?;
    let clients = clients(scene)?;
    let all = clients[0].clone();
    all.inside(|netns| netns.ip(&batch())).await?;
    let (port, lb, external) = (placed.node_port(1, Tcp), placed.lb(1, Tcp), placed.external(1, Tcp));
    let first = until("a Pod for each client", WITHIN, async || choices(&clients, port).await).await?;
    scene.record("clients together meet", &met(&first), &PODS.join(", "));
    scene.record("the same by load balancer", &kept(&first, &choices(&clients, lb).await?), "all keep their Pod");
    scene.record("the same by external IP", &kept(&first, &choices(&clients, external).await?), "all keep their Pod");
    scene.record("the same again", &kept(&first, &choices(&clients, port).await?), "all keep their Pod");

    // Every question would make it begin anew: there is nothing to watch.
    tokio::time::sleep(Duration::from_secs(SECONDS + 1)).await;
    let second = choices(&clients, port).await?;
    let forgotten = if second == first { "all keep their Pod" } else { "they choose again" };
    scene.record("after the timeout", forgotten, "they choose again");

    scene.kill(PODS[0]).await?;
    let want = "the other's clients keep it, its own have moved there";
    let look = async || {
        let third = choices(&clients, lb).await;
        // A Pod that is gone may be asked for a moment.
        Ok(third.map_or_else(|error| format!("{error:#}"), |third| moved(&second, &third)))
    };
    let seen = scene.settles(look, |seen| seen == want).await?;
    scene.record("when a Pod is gone", &seen, want);
    Ok(())
}

/// Addresses of the second outside client that nobody else uses.
fn clients(scene: &Scene<'_>) -> Result<Vec<Caller>> {
    let base = scene.world.outside(1);
    Ok(addresses().map(|address| base.under(address)).collect())
}

fn addresses() -> impl Iterator<Item = Dual> {
    (0..CLIENTS).map(|client| Dual {
        v4: Ipv4Addr::new(172, 31, 0, 200 + client),
        v6: Ipv6Addr::new(0xfd31, 0, 0, 0, 0, 0, 1, client.into()),
    })
}

fn batch() -> String {
    let line = |Dual { v4, v6 }| format!("addr replace {v4}/24 dev eth0\naddr replace {v6}/64 dev eth0 nodad\n");
    addresses().map(line).collect()
}

/// Client and family → Pod. Fails unless every client was answered by one Pod that saw it.
async fn choices(clients: &[Caller], front: Front) -> Result<BTreeMap<(usize, bool), String>> {
    let asked = clients.iter().enumerate().flat_map(|(client, caller)| {
        front.both().map(|to| async move {
            let seen = caller.round(Tcp, to, true).await?;
            let answers: Vec<_> = seen.0.iter().collect();
            ensure!(answers.len() == 1, "client {client} met {seen}");
            match answers[0] {
                Answer::Pod { name, source: Source::Own } => Ok(((client, to.is_ipv4()), name.clone())),
                other => anyhow::bail!("client {client} met {other}"),
            }
        })
    });
    Ok(try_join_all(asked).await?.into_iter().collect())
}

type Choices = BTreeMap<(usize, bool), String>;

fn met(choices: &Choices) -> String {
    let pods: std::collections::BTreeSet<_> = choices.values().map(String::as_str).collect();
    pods.into_iter().collect::<Vec<_>>().join(", ")
}

fn kept(before: &Choices, now: &Choices) -> String {
    let moved = before.iter().filter(|(client, pod)| now.get(*client) != Some(pod)).count();
    if moved == 0 { "all keep their Pod".to_owned() } else { format!("{moved} of {} move", before.len()) }
}

fn moved(before: &Choices, now: &Choices) -> String {
    let wrong = before.keys().filter(|client| now.get(*client).map(String::as_str) != Some(PODS[1])).count();
    if wrong == 0 {
        "the other's clients keep it, its own have moved there".to_owned()
    } else {
        format!("{wrong} of {} are elsewhere", before.len())
    }
}
