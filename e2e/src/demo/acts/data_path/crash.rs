//! The agent is killed without a word and comes back, while clients come.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use portreeve_crds::names;

use super::super::super::load::{KEPT, Load};
use super::super::super::wait::until;
use super::super::super::{Measured, Stage};
use super::{Scene, Way};
use crate::node::Node;

pub(in super::super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    let scene = Scene::set(stage).await?;
    let (client, node) = (&stage.cluster.clients()[0], stage.cluster.node("n1")?);
    for way in Way::ALL {
        scene.claim(stage, way, "Drop").await?;
        let load = Load::start(client, scene.addresses(stage, "n1")?[0], KEPT).await?;
        let (before, began) = (agent(node).await?, Instant::now());
        let killed = node.exec(&["kill", "-KILL", &before]).await?;
        ensure!(killed.status.success(), "kill {before}: {}", String::from_utf8_lossy(&killed.stderr));
        until("another agent", Duration::from_secs(60), || async {
            let now = agent(node).await?;
            ensure!(now != before, "it is still there");
            Ok(())
        })
        .await?;
        let set = format!("daemonset/{}", names::AGENT);
        stage.kubectl.run(&["-n", names::NAMESPACE, "rollout", "status", &set, "--timeout=60s"]).await?.ok()?;
        measured.time(&format!("{}_seconds_until_ready_again", way.word()), began.elapsed());
        ensure!(way.in_force(node, scene.port).await?, "the new agent took the rules away");
        let counted = load.stop().await?;
        measured.note(&format!("{}_load", way.word()), counted.shown());
        counted.unharmed()?;
    }
    Ok(())
}

/// Process number of the node's agent.
pub(super) async fn agent(node: &Node) -> Result<String> {
    let found = node.exec(&["pgrep", "--exact", names::AGENT]).await?;
    let pid = String::from_utf8(found.stdout)?.trim().to_owned();
    ensure!(found.status.success() && pid.parse::<u32>().is_ok(), "one agent should run: '{pid}'");
    Ok(pid)
}
