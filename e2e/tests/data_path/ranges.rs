//! `loadBalancerSourceRanges`: whom load balancer addresses let in, and that nothing else asks.

use anyhow::Result;
use futures::future::FutureExt as _;
use portreeve_e2e::fabric::plan::{client, node};
use portreeve_e2e::node::config::ProxyMode;
use serde_json::{Value, json};

use super::objects::{pod, service};
use super::plan;
use super::probe::Transport::{Tcp, Udp};
use super::scene::{Numbers, Scenario, Scene};
use super::seen::{Expected, Seen, Source};

pub(crate) const RANGES: Scenario =
    Scenario { name: "source ranges", objects, play: |scene| play(scene).boxed_local() };

const POD: &str = "ranges-1";

fn objects(numbers: Numbers) -> Vec<Value> {
    let (one, n1) = (client(1), node(1));
    let with = |name, app, number, ranges: Value| {
        let more = json!({"loadBalancerSourceRanges": ranges, "externalIPs": numbers.external(number)});
        service(name, app, numbers.of(number), more)
    };
    vec![
        pod(POD, "ranges", "n1"),
        pod("ranges-caller", "ranges-caller", "n1"),
        with("ranges-one", "ranges", 20, json!([format!("{}/32", one.v4), format!("{}/128", one.v6)])),
        with("ranges-zero", "ranges", 21, json!(["192.0.2.0/24", "0.0.0.0/0", "2001:db8:ffff::/64", "::/0"])),
        with("ranges-four", "ranges", 22, json!([format!("{}/32", one.v4)])),
        with("ranges-own", "ranges", 23, json!([format!("{}/32", n1.v4), format!("{}/128", n1.v6)])),
        with("ranges-empty", "nobody", 24, json!([format!("{}/32", one.v4), format!("{}/128", one.v6)])),
    ]
}

async fn play(scene: &Scene<'_>) -> Result<()> {
    strangers(scene).await?;
    node_itself(scene).await?;
    without_pods(scene).await
}

async fn strangers(scene: &Scene<'_>) -> Result<()> {
    let (allowed, other) = (scene.outside(), scene.world.outside(1));
    let one = scene.placed("ranges-one").await?;
    for transport in [Tcp, Udp] {
        let step = |what: &str| format!("{what}, {transport:?}");
        let lb = one.lb(1, transport);
        scene.meets(&step("a client within"), &allowed, transport, lb, Seen::pod(POD)).await?;
        scene.meets(&step("a client without"), &other, transport, lb, Seen::silence()).await?;
        for (kind, front) in [("node port", one.node_port(1, transport)), ("external IP", one.external(1, transport))] {
            let step = step(&format!("a client without, to the {kind}"));
            scene.meets(&step, &other, transport, front, Seen::pod(POD)).await?;
        }
    }
    let pod = scene.pod("ranges-caller").await?;
    scene.meets("a Pod without", &pod, Tcp, one.lb(1, Tcp), Seen::silence()).await?;
    let zero = scene.placed("ranges-zero").await?;
    scene.meets("any client, where one range is /0", &other, Tcp, zero.lb(1, Tcp), Seen::pod(POD)).await?;
    let four = scene.placed("ranges-four").await?;
    let expected = Expected([Seen::silence(), Seen::pod(POD)]);
    scene.meets("a client without, ranges of IPv4 alone", &other, Tcp, four.lb(1, Tcp), expected).await
}

/// A node's own connection to an address that is bound to it has that address as its source: it may pass where the node may.
async fn node_itself(scene: &Scene<'_>) -> Result<()> {
    let (own, one) = (scene.placed("ranges-own").await?, scene.placed("ranges-one").await?);
    let n1 = scene.world.node(1);
    scene.meets("the node within", &n1, Tcp, own.lb(1, Tcp), Seen::pods(&[POD], Source::Node(1))).await?;
    scene.meets("the node without", &n1, Tcp, one.lb(1, Tcp), Seen::silence()).await?;
    for (placed, step, expected) in [
        (&own, "the node within, as the bound address", Seen::pods(&[POD], Source::Node(1))),
        (&one, "the node without, as the bound address", Seen::silence()),
    ] {
        let address = plan::load_balancer(1, placed.number);
        let bound = format!("addr add {}/32 dev lo\naddr add {}/128 dev lo nodad\n", address.v4, address.v6);
        n1.inside(move |netns| netns.ip(&bound)).await?;
        scene.meets(step, &n1.under(address), Tcp, placed.lb(1, Tcp), expected).await?;
        let others = if step.contains("within") { Seen::silence() } else { Seen::pod(POD) };
        let step = format!("{step}; and a client");
        scene.meets(&step, &scene.outside(), Tcp, placed.lb(1, Tcp), others).await?;
    }
    Ok(())
}

/// kube-proxy's iptables mode refuses everybody where there is no Pod; its nftables mode and the agents ask the ranges first.
async fn without_pods(scene: &Scene<'_>) -> Result<()> {
    let empty = scene.placed("ranges-empty").await?;
    scene.meets("no Pod, a client within", &scene.outside(), Tcp, empty.lb(1, Tcp), Seen::refused()).await?;
    let refused = !scene.claimed() && scene.world.mode == ProxyMode::Iptables;
    let expected = if refused { Seen::refused() } else { Seen::silence() };
    scene.meets("no Pod, a client without", &scene.world.outside(1), Tcp, empty.lb(1, Tcp), expected).await
}
