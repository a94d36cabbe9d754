//! A Service goes from kube-proxy to the agents and back, while connections are open.

use anyhow::Result;

use super::super::super::load::{KEPT, Load};
use super::super::super::{Measured, Stage};
use super::{Scene, Way};

/// Times that it goes there and back.
const TIMES: usize = 3;

pub(in super::super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    let scene = Scene::set(stage).await?;
    let client = &stage.cluster.clients()[0];
    for way in Way::ALL {
        scene.claim(stage, way, "Drop").await?;
        scene.release(stage, way).await?;
        for (family, to) in ["IPv4", "IPv6"].into_iter().zip(scene.addresses(stage, "n1")?) {
            let load = Load::start(client, to, KEPT).await?;
            for _ in 0..TIMES {
                scene.claim(stage, way, "Drop").await?;
                scene.release(stage, way).await?;
            }
            let counted = load.stop().await?;
            measured.note(&format!("{}_{family}", way.word()), counted.shown());
            counted.unharmed()?;
        }
        measured.note(&format!("{}_times_there_and_back", way.word()), TIMES);
    }
    Ok(())
}
