//! Portreeve is uninstalled and installed again, with connections open: nothing of it is left, kube-proxy serves, and back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use portreeve_crds::names;

use super::super::super::load::{KEPT, Load};
use super::super::super::wait::until;
use super::super::super::{Measured, Stage, install};
use super::{Scene, Way, kube_proxy_asked};

/// The look-out that sees all that comes to kube-proxy, whoever was there before.
const LOOK: Way = Way::Nftables;
const WITHIN: Duration = Duration::from_secs(60);
/// Kinds of which a registration may be left.
const REGISTRATIONS: &str = "validatingwebhookconfigurations,mutatingwebhookconfigurations";

pub(in super::super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    let scene = Scene::set(stage).await?;
    let (client, node) = (&stage.cluster.clients()[0], stage.cluster.node("n1")?);
    let to = scene.addresses(stage, "n1")?[0];
    for way in Way::ALL {
        scene.claim(stage, way, "Drop").await?;
        let load = Load::start(client, to, KEPT).await?;
        let (helm, began) = (stage.kubectl.with_program(stage.helm.clone()), Instant::now());
        helm.run(&["uninstall", "portreeve", "--namespace", names::NAMESPACE]).await?.ok()?;
        until("nothing of ours to be left", WITHIN, || nothing_left(stage)).await?;
        measured.time(&format!("{}_seconds_until_nothing_was_left", way.word()), began.elapsed());
        let before = kube_proxy_asked(node, LOOK).await?;
        let answer = client.http_get(&format!("http://{to}/hostname"), Duration::from_secs(2)).await?;
        let counted = kube_proxy_asked(node, LOOK).await? - before;
        ensure!(answer.is_ok() && counted > 0, "kube-proxy should serve: {:?}, it counted {counted}", answer.error);
        let began = Instant::now();
        install::helm_install(stage).await?;
        until("the claim to be in force again", WITHIN, || scene.everywhere(stage, way, true)).await?;
        measured.time(&format!("{}_seconds_until_in_force_again", way.word()), began.elapsed());
        let counted = load.stop().await?;
        measured.note(&format!("{}_load", way.word()), counted.shown());
        counted.unharmed()?;
    }
    Ok(())
}

/// No Pod, no rule on any node, no registration at the API server.
async fn nothing_left(stage: &Stage) -> Result<()> {
    let pods = stage.kubectl.run(&["-n", names::NAMESPACE, "get", "pods", "-o", "name"]).await?.ok()?.stdout;
    ensure!(pods.is_empty(), "{pods}");
    let registered = stage.kubectl.run(&["get", REGISTRATIONS, "-o", "name"]).await?.ok()?.stdout;
    ensure!(!registered.contains(names::WEBHOOK_CONFIGURATION), "{registered}");
    for node in stage.cluster.nodes() {
        for command in [["nft", "list", "ruleset"].as_slice(), &["iptables-save"], &["ip6tables-save"]] {
            let rules = node.exec(command).await?;
            ensure!(rules.status.success(), "{command:?}: {}", String::from_utf8_lossy(&rules.stderr));
            let rules = String::from_utf8_lossy(&rules.stdout).to_lowercase();
            let ours = rules.lines().find(|line| line.contains("portreeve"));
            ensure!(ours.is_none(), "on {}: {}", node.name(), ours.unwrap_or_default());
        }
    }
    Ok(())
}
