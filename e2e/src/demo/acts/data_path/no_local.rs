//! A node without a Pod does what the policy says: silence, a refusal at once, or kube-proxy's decision.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::super::super::{Measured, Stage};
use super::{Scene, WITHOUT_POD, Way, kube_proxy_asked};
use crate::http::HttpFailure;

/// Each choice with what the client sees and whether kube-proxy decides.
const CHOICES: [(&str, HttpFailure, bool); 3] = [
    ("Drop", HttpFailure::Timeout, false),
    ("Reject", HttpFailure::Refused, false),
    ("Passthrough", HttpFailure::Timeout, true),
];

pub(in super::super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    let scene = Scene::set(stage).await?;
    let (client, node) = (&stage.cluster.clients()[0], stage.cluster.node(WITHOUT_POD)?);
    for way in Way::ahead(stage).iter().copied() {
        for (choice, expected, by_kube_proxy) in CHOICES {
            scene.claim(stage, way, choice).await?;
            // The claim may have stood before with another choice; the first answer of the new one is waited for.
            super::super::super::wait::until(choice, super::WITHIN, || async {
                let before = kube_proxy_asked(node, way).await?;
                for to in scene.addresses(stage, WITHOUT_POD)? {
                    let outcome = client.http_get(&format!("http://{to}/hostname"), Duration::from_secs(2)).await?;
                    ensure!(outcome.error == Some(expected), "{to}: {:?} {:?}", outcome.status, outcome.error);
                }
                let asked = kube_proxy_asked(node, way).await? > before;
                ensure!(asked == by_kube_proxy, "kube-proxy was asked: {asked}");
                Ok(())
            })
            .await?;
            let decided = if by_kube_proxy { "kube-proxy decided" } else { "kube-proxy was not asked" };
            measured.note(&format!("{}_{choice}", way.word()), format!("{expected} on both families, {decided}"));
        }
    }
    Ok(())
}
