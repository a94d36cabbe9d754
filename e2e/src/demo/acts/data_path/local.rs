//! The client's address reaches the Pod of the node that the packet came to, and kube-proxy has no part in it.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::super::super::backend::seen_address;
use super::super::super::{Measured, Stage};
use super::{Scene, WITH_POD, Way, kube_proxy_asked};

const REQUESTS: usize = 20;

pub(in super::super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    let scene = Scene::set(stage).await?;
    let client = &stage.cluster.clients()[0];
    measured.note("client", format!("{} and {}", client.address.v4, client.address.v6));
    // Through kube-proxy first: it must be asked about these, or the silence below would show nothing.
    let n1 = stage.cluster.node("n1")?;
    for way in Way::ahead(stage).iter().copied() {
        let before = kube_proxy_asked(n1, way).await?;
        for to in scene.addresses(stage, "n1")? {
            seen_address(stage, &format!("http://{to}/clientip")).await?;
        }
        let counted = kube_proxy_asked(n1, way).await? - before;
        measured.note(&format!("{}_kube_proxy_asked_before", way.word()), counted);
        ensure!(counted > 0, "the look-out does not see what kube-proxy serves");
        scene.claim(stage, way, "Drop").await?;
        for name in WITH_POD {
            let node = stage.cluster.node(name)?;
            let before = kube_proxy_asked(node, way).await?;
            let mut seen = Vec::new();
            for to in scene.addresses(stage, name)? {
                let expected: std::net::IpAddr =
                    if to.is_ipv4() { client.address.v4.into() } else { client.address.v6.into() };
                for _ in 0..REQUESTS {
                    let outcome = client.http_get(&format!("http://{to}/clientip"), Duration::from_secs(2)).await?;
                    ensure!(outcome.is_ok(), "{to}: {:?} {:?}", outcome.status, outcome.error);
                    let address = outcome.body.rsplit_once(':').map_or("", |(address, _)| address);
                    let address: std::net::IpAddr = address.trim_matches(['[', ']']).parse()?;
                    ensure!(address == expected, "the Pod on {name} saw {address}");
                }
                seen.push(expected.to_string());
            }
            let counted = kube_proxy_asked(node, way).await? - before;
            measured.note(&format!("{}_{name}_pod_saw", way.word()), seen.join(" and "));
            measured.note(&format!("{}_{name}_kube_proxy_asked", way.word()), counted);
            ensure!(counted == 0, "kube-proxy was asked about {counted} flows on {name}");
        }
        scene.release(stage, way).await?;
    }
    Ok(())
}
