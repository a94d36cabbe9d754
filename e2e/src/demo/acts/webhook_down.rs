//! Admission fails open: without the webhook, writes go on.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use portreeve_crds::names;

use super::super::wait::until;
use super::super::{Measured, Stage, install};
use super::service;

pub(super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    scale(stage, 0).await?;
    until("the last webhook Pod to go", Duration::from_secs(60), || async {
        let pods = stage
            .kubectl
            .jsonpath(
                &["-n", names::NAMESPACE, "pods", "-l", "app.kubernetes.io/component=webhook"],
                "{.items[*].metadata.name}",
            )
            .await?;
        ensure!(pods.is_empty(), "still there: {pods}");
        Ok(())
    })
    .await?;
    let began = Instant::now();
    let said = stage
        .kubectl
        .apply(&service("default", "unwatched", "NodePort", "externalTrafficPolicy: Local"))
        .await?
        .ok()?;
    measured.note("write_without_webhook", said.stdout.trim());
    measured.time("seconds_for_the_write", began.elapsed());
    let pod = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"unwatched","namespace":"default"},"spec":{"terminationGracePeriodSeconds":0,"containers":[{"name":"c","image":"portreeve.io/testbed/pause:1"}]}}"#;
    stage.kubectl.apply(pod).await?.ok()?;
    stage.kubectl.run(&["-n", "default", "delete", "service/unwatched", "pod/unwatched"]).await?.ok()?;
    scale(stage, 2).await?;
    stage.cluster.await_deployment(names::NAMESPACE, names::WEBHOOK).await?;
    let back = install::answering(stage).await?;
    measured.time("seconds_until_it_answers_again", back);
    Ok(())
}

async fn scale(stage: &Stage, replicas: u32) -> Result<()> {
    let replicas = format!("--replicas={replicas}");
    stage.kubectl.run(&["-n", names::NAMESPACE, "scale", "deployment", names::WEBHOOK, &replicas]).await?.ok()?;
    Ok(())
}
