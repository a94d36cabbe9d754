//! Rolling updates behind the load balancer that checks health: a Pod that ends serves on until the load balancer knows.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::super::super::backend::{namespace, placement, vip};
use super::super::super::load::Load;
use super::super::super::wait::until;
use super::super::super::{Measured, Stage};
use super::super::service;
use super::Way;

const NAMESPACE: &str = "demo-drain";
const NAME: &str = "roll";
const LINES: &str = "externalTrafficPolicy: Local\n  loadBalancerClass: testbed.portreeve.io/forwarder";
const UPDATES: usize = 2;
/// Old and new Pods each on nodes of their own.
const SPREAD: &str = r#""topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
"whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "roll"}}, "matchLabelKeys": ["pod-template-hash"]}],"#;

pub(in super::super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    namespace(stage, NAMESPACE).await?;
    stage.kubectl.apply(&super::lingering(NAMESPACE, NAME, 2, SPREAD)).await?.ok()?;
    stage.cluster.await_deployment(NAMESPACE, NAME).await?;
    stage.kubectl.apply(&service(NAMESPACE, NAME, "LoadBalancer", LINES)).await?.ok()?;
    let to = SocketAddr::new(vip(stage, NAMESPACE, NAME).await?, 80);
    for way in Way::ALL {
        super::wish(stage, way, NAMESPACE, "Drop").await?;
        until("every node with a Pod to be healthy", super::WITHIN, || async {
            let healthy = stage.cluster.lb().healthy_nodes(&format!("{NAMESPACE}/{NAME}"));
            let nodes: Vec<String> = placement(stage, NAMESPACE, NAME).await?.into_keys().collect();
            ensure!(!nodes.is_empty() && healthy == nodes, "healthy: {healthy:?}, Pods on {nodes:?}");
            Ok(())
        })
        .await?;
        // A connection that stays open ends with its Pod; new ones must not notice that anything ends.
        let load = Load::start(&stage.cluster.clients()[0], to, 0).await?;
        let began = Instant::now();
        for _ in 0..UPDATES {
            stage.kubectl.run(&["-n", NAMESPACE, "rollout", "restart", &format!("deployment/{NAME}")]).await?.ok()?;
            stage.cluster.await_deployment(NAMESPACE, NAME).await?;
            until("the old Pods to be gone", Duration::from_secs(40), || async {
                let running = placement(stage, NAMESPACE, NAME).await?.values().sum::<u32>();
                ensure!(running == 2, "{running} Pods");
                Ok(())
            })
            .await?;
        }
        let counted = load.stop().await?;
        measured.time(&format!("{}_seconds_for_{UPDATES}_updates", way.word()), began.elapsed());
        measured.note(&format!("{}_load", way.word()), counted.shown());
        counted.unharmed()?;
    }
    stage.kubectl.run(&["delete", "namespace", NAMESPACE, "--wait=false"]).await?.ok()?;
    Ok(())
}
