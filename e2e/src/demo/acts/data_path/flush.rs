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
        let element = format!("nft delete element inet portreeve node-ports4 {{ tcp . {} }}", scene.port);
        let harms: &[(&str, &str)] = match way {
            Way::Nftables => &[
                ("the table deleted", "nft delete table inet portreeve"),
                ("its chain flushed", "nft flush chain inet portreeve prerouting"),
                ("the frontend removed", &element),
            ],
            Way::Iptables => &[
                ("its chain flushed", "iptables -t nat -F PORTREEVE-ENTRY"),
                ("the jump removed", "iptables -t nat -D PREROUTING 1"),
            ],
        };
        for (harm, command) in harms {
            let began = Instant::now();
            let done = node.exec(&command.split(' ').collect::<Vec<_>>()).await?;
            ensure!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
            while !way.in_force(node, scene.port).await? {
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
