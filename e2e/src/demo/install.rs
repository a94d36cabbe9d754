//! The installation, as a user does it: the image on the nodes, `helm install`, wait until it answers.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use portreeve_crds::names;

use super::wait::until;
use super::{Measured, Stage};

/// The chart, from the root of the source tree.
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/helm/portreeve");

/// Installs Portreeve from its own chart and waits until admission really answers.
pub(super) async fn install(stage: &Stage, measured: &mut Measured) -> Result<()> {
    stage.cluster.import_image(Path::new(&stage.image.path)).await?;
    measured.note("image", format!("{} {:.1} MB", stage.image.digest, stage.image.size as f64 / 1e6));
    let began = Instant::now();
    helm_install(stage).await?;
    answering(stage).await?;
    measured.time("seconds_to_answer", began.elapsed());
    let pods = stage.kubectl.run(&["-n", names::NAMESPACE, "get", "pods", "-o", "wide"]).await?.ok()?;
    measured.note("pods", pods.stdout);
    Ok(())
}

/// `helm install`, until every Pod is ready.
pub(super) async fn helm_install(stage: &Stage) -> Result<()> {
    let helm = stage.kubectl.with_program(stage.helm.clone());
    helm.run(&["install", "portreeve", CHART, "--namespace", names::NAMESPACE, "--create-namespace"]).await?.ok()?;
    for deployment in [names::OPERATOR, names::WEBHOOK] {
        stage.cluster.await_deployment(names::NAMESPACE, deployment).await?;
    }
    stage
        .kubectl
        .run(&["-n", names::NAMESPACE, "rollout", "status", &format!("daemonset/{}", names::AGENT), "--timeout=90s"])
        .await?
        .ok()?;
    Ok(())
}

/// Waits until a server-side dry run of a wrong Service is answered by our own words: the API server has the webhook
/// configuration, trusts its certificate, and reaches the Pods.
pub(super) async fn answering(stage: &Stage) -> Result<Duration> {
    let probe = super::acts::service("default", "portreeve-probe", "ClusterIP", "externalTrafficPolicy: Local");
    let (_, took) = until("an answer from the webhook", Duration::from_secs(60), || async {
        let said = stage.kubectl.run_with(&["apply", "--dry-run=server", "-f", "-"], &probe).await?;
        ensure!(said.stderr.contains("[ETP016"), "kubectl said: {}", said.stderr);
        Ok(())
    })
    .await?;
    Ok(took)
}
