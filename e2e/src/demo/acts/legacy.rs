//! A manifest from before 1.7.

use anyhow::Result;
use portreeve_crds::names::legacy;

use super::super::backend::namespace;
use super::super::{Measured, Stage};
use super::annotated;

const NAMESPACE: &str = "demo-legacy";

pub(super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    namespace(stage, NAMESPACE).await?;
    let old = annotated(
        NAMESPACE,
        "old",
        "NodePort",
        "sessionAffinity: None",
        &[(legacy::EXTERNAL_TRAFFIC_BETA, "OnlyLocal")],
    );
    let said = stage.kubectl.apply(&old).await?.ok()?;
    measured.note("warning", said.stderr.clone());
    said.says(&["Warning: ", "ETP001", "ETP002"])?;
    let live = stage.kubectl.jsonpath(&["-n", NAMESPACE, "service", "old"], "{.spec.externalTrafficPolicy}").await?;
    measured.note("runs_as", live);
    stage.kubectl.run(&["delete", "namespace", NAMESPACE, "--wait=false"]).await?.ok()?;
    Ok(())
}
