//! A wrong Service through plain `kubectl apply`.

use anyhow::{Result, ensure};

use super::super::{Measured, Stage};
use super::service;

pub(super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    let wrong = service("default", "wrong", "ClusterIP", "externalTrafficPolicy: Local");
    let said = stage.kubectl.apply(&wrong).await?;
    measured.note("exit_code", said.code);
    measured.note("message", said.stderr.clone());
    said.refused_with(&["[ETP016", "spec.externalTrafficPolicy", "Fix:", "kubectl portreeve explain ETP016"])?;
    let left = stage.kubectl.run(&["-n", "default", "get", "service", "wrong"]).await?;
    ensure!(left.code != 0, "the refused Service exists");
    let right = service("default", "right", "ClusterIP", "internalTrafficPolicy: Cluster");
    let said = stage.kubectl.apply(&right).await?.ok()?;
    ensure!(!said.stderr.contains("ETP"), "a right Service should pass without a word, but: {}", said.stderr);
    measured.note("right_service", said.stdout.trim());
    stage.kubectl.run(&["-n", "default", "delete", "service", "right"]).await?.ok()?;
    Ok(())
}
