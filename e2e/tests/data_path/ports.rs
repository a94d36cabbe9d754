//! What a Service's ports, families and kinds of address come to.

use anyhow::Result;
use futures::future::FutureExt as _;
use serde_json::{Value, json};

use super::objects::{HTTP, PROXIED, pod, server, service};
use super::probe::Transport::{Tcp, Udp};
use super::scene::{Numbers, Scenario, Scene};
use super::seen::{Expected, Seen, Source};

/// Several ports, with names that mean another number in each Pod.
pub(crate) const NAMED: Scenario =
    Scenario { name: "several ports", objects: named_objects, play: |scene| named(scene).boxed_local() };
/// Both families, endpoints in one.
pub(crate) const HALF: Scenario =
    Scenario { name: "endpoints of IPv4 alone", objects: half_objects, play: |scene| half(scene).boxed_local() };
/// Addresses that a proxy has.
pub(crate) const PROXY: Scenario =
    Scenario { name: "ipMode Proxy", objects: proxy_objects, play: |scene| proxy(scene).boxed_local() };
/// A ClusterIP Service that has external addresses.
pub(crate) const EXTERNAL: Scenario = Scenario {
    name: "ClusterIP with externalIPs",
    objects: external_objects,
    play: |scene| external(scene).boxed_local(),
};
/// A Pod that talks to itself.
pub(crate) const HAIRPIN: Scenario =
    Scenario { name: "hairpin", objects: hairpin_objects, play: |scene| hairpin(scene).boxed_local() };

fn named_objects(numbers: Numbers) -> Vec<Value> {
    let mut lone = pod("named-3", "named", "n1");
    lone["spec"]["containers"][0]["ports"] = json!([{"name": "extra", "containerPort": HTTP}]);
    let ports = json!([
        {"name": "web", "port": 80, "targetPort": "web"},
        {"name": "extra", "port": 81, "targetPort": "extra"},
        {"name": "plain", "port": 82, "targetPort": 9090},
        {"name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP"},
    ]);
    vec![
        server("named-1", "named", "n1", HTTP, 0),
        server("named-2", "named", "n1", 9090, 0),
        lone,
        server("named-far", "named", "n2", 7070, 0),
        service("named", "named", numbers.of(60), json!({"ports": ports})),
    ]
}

async fn named(scene: &Scene<'_>) -> Result<()> {
    let (placed, client) = (scene.placed("named").await?, scene.outside());
    let two = Seen::pod("named-1").and(Seen::pod("named-2"));
    for (kind, web, extra, dns) in [
        ("load balancer", placed.lb_named(1, "web"), placed.lb_named(1, "extra"), placed.lb_named(1, "dns")),
        (
            "node port",
            placed.node_port_named(1, "web"),
            placed.node_port_named(1, "extra"),
            placed.node_port_named(1, "dns"),
        ),
    ] {
        let step = |port: &str| format!("{port} by {kind}");
        scene.meets(&step("a name with two numbers"), &client, Tcp, web, two.clone()).await?;
        scene.meets(&step("a name that one Pod has"), &client, Tcp, extra, Seen::pod("named-3")).await?;
        scene.meets(&step("UDP by name"), &client, Udp, dns, two.clone()).await?;
    }
    // A number is taken for every Pod; those that do not listen there refuse for themselves.
    let plain = Seen::pod("named-2").and(Seen::refused());
    scene.meets("a number", &client, Tcp, placed.lb_named(1, "plain"), plain).await?;
    let far = Seen::pod("named-far");
    scene.meets("a name, at n2", &client, Tcp, placed.lb_named(2, "web"), far).await?;
    // named-3 is the only one that has it, and it is elsewhere.
    scene.meets("a name that no Pod of n2 has, at n2", &client, Tcp, placed.lb_named(2, "extra"), Seen::silence()).await
}

fn half_objects(numbers: Numbers) -> Vec<Value> {
    vec![pod("half-1", "half", "n1"), service("half", "half", numbers.of(61), json!({"selector": null}))]
}

async fn half(scene: &Scene<'_>) -> Result<()> {
    let (placed, client) = (scene.placed("half").await?, scene.outside());
    let pod = scene.pod("half-1").await?;
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "half-4", "labels": {"kubernetes.io/service-name": "half"}},
        "endpoints": [{"addresses": [pod.address.v4], "nodeName": "n1", "conditions": {"ready": true}}],
        "ports": [{"name": "tcp", "port": HTTP}],
    });
    scene.make("half-4", vec![slice]).await?;
    let at = |four| Expected([four, Seen::refused()]);
    for (kind, n1, n3) in [
        ("load balancer", placed.lb(1, Tcp), placed.lb(3, Tcp)),
        ("node port", placed.node_port(1, Tcp), placed.node_port(3, Tcp)),
    ] {
        scene.meets(&format!("{kind} of n1"), &client, Tcp, n1, at(Seen::pod("half-1"))).await?;
        scene.meets(&format!("{kind} of n3"), &client, Tcp, n3, at(Seen::silence())).await?;
    }
    Ok(())
}

fn proxy_objects(numbers: Numbers) -> Vec<Value> {
    let mut service = service("proxied", "proxied", numbers.of(62), json!({}));
    service["metadata"]["labels"][PROXIED] = json!("yes");
    vec![pod("proxied-1", "proxied", "n1"), service]
}

async fn proxy(scene: &Scene<'_>) -> Result<()> {
    let (placed, client) = (scene.placed("proxied").await?, scene.outside());
    scene.meets("node port", &client, Tcp, placed.node_port(1, Tcp), Seen::pod("proxied-1")).await?;
    // Nobody has the address: routers pass the packet to and fro.
    scene.meets("load balancer", &client, Tcp, placed.lb(1, Tcp), Seen::unreachable()).await
}

fn external_objects(numbers: Numbers) -> Vec<Value> {
    let more = json!({"type": "ClusterIP", "loadBalancerClass": null, "externalIPs": numbers.external(63)});
    vec![pod("outer-1", "outer", "n1"), service("outer", "outer", numbers.of(63), more)]
}

async fn external(scene: &Scene<'_>) -> Result<()> {
    let (placed, client) = (scene.placed("outer").await?, scene.outside());
    for transport in [Tcp, Udp] {
        let step = |index| format!("external IP of n{index}, {transport:?}");
        scene.meets(&step(1), &client, transport, placed.external(1, transport), Seen::pod("outer-1")).await?;
        scene.meets(&step(3), &client, transport, placed.external(3, transport), Seen::silence()).await?;
    }
    Ok(())
}

fn hairpin_objects(numbers: Numbers) -> Vec<Value> {
    vec![
        pod("hairpin-1", "hairpin", "n1"),
        pod("hairpin-2", "hairpin", "n1"),
        pod("hairpin-far", "hairpin", "n2"),
        service("hairpin", "hairpin", numbers.of(64), json!({"externalIPs": numbers.external(64)})),
    ]
}

/// To itself a Pod is hidden, or its kernel would take the answer for nobody's; to others it is not.
async fn hairpin(scene: &Scene<'_>) -> Result<()> {
    let (placed, pod) = (scene.placed("hairpin").await?, scene.pod("hairpin-1").await?);
    for transport in [Tcp, Udp] {
        let itself = Seen::pods(&["hairpin-1"], Source::Node(1));
        let expected = itself.and(Seen::pods(&["hairpin-2", "hairpin-far"], Source::Own));
        for (kind, front) in [
            ("node port", placed.node_port(1, transport)),
            ("load balancer", placed.lb(1, transport)),
            ("external IP", placed.external(1, transport)),
            ("ClusterIP", placed.cluster_ip(transport)),
        ] {
            let step = format!("a Pod to the {kind} of its node, {transport:?}");
            scene.meets(&step, &pod, transport, front, expected.clone()).await?;
        }
    }
    Ok(())
}
