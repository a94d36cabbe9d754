//! Another party takes our rules away, as a whole, by halves and one by one; they are made good while clients come.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::super::super::load::{KEPT, Load};
use super::super::super::{Measured, Stage};
use super::{Scene, Way};

/// `datapath.md`: repaired in a second.
const WITHIN: Duration = Duration::from_secs(1);

pub(in super::super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    let scene = Scene::set(stage).await?;
    let (client, node) = (&stage.cluster.clients()[0], stage.cluster.node("n1")?);
    for way in Way::ALL {
        scene.claim(stage, way, "Drop").await?;
        let load = Load::start(client, scene.addresses(stage, "n1")?[0], KEPT).await?;
        let element = format!("delete element inet portreeve node-ports4 {{ tcp . {} }}", scene.port);
        let harms: &[(&str, &str)] = match way {
            Way::Nftables => &[
                ("the table deleted", "delete table inet portreeve"),
                ("its chain flushed", "flush chain inet portreeve prerouting"),
                ("the frontend removed", &element),
            ],
        };
        for (harm, command) in harms {
            let began = Instant::now();
            let done = node.exec(&["nft", command]).await?;
            ensure!(done.status.success(), "nft {command}: {}", String::from_utf8_lossy(&done.stderr));
            while !whole(node, way, scene.port).await? {
                ensure!(began.elapsed() < WITHIN, "{harm}: not repaired in {WITHIN:?}");
            }
            measured.note(
                &format!("{}_{}_ms", way.word(), harm.replace(' ', "_")),
                format!("{:.0}", began.elapsed().as_secs_f64() * 1000.0),
            );
        }
        let counted = load.stop().await?;
        measured.note(&format!("{}_load", way.word()), counted.shown());
        counted.unharmed()?;
    }
    Ok(())
}

/// Whether both the frontend and the rules that lead to it are there.
async fn whole(node: &crate::node::Node, way: Way, port: u16) -> Result<bool> {
    let rules = match way {
        Way::Nftables => {
            let chain = node.exec(&["nft", "list", "chain", "inet", "portreeve", "prerouting"]).await?;
            String::from_utf8_lossy(&chain.stdout).contains("@node-ports4")
        }
    };
    Ok(rules && way.in_force(node, port).await?)
}
