//! ClusterIP with externalIPs: the API server accepts the field there (since 1.29), although it means little.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::super::backend::namespace;
use super::super::wait::until;
use super::super::{Measured, Stage};
use super::service;

const NAMESPACE: &str = "demo-hole";
const POLICY: &str = "apiVersion: portreeve.io/v1alpha1\nkind: ClusterTrafficPolicy\nmetadata: {name: demo-hole}\nspec:\n  \
    match: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: demo-hole}}}\n  enforcement: {mode: Enforce}\n  \
    overrides: {rules: [{id: ETP003, action: Deny}]}\n";

pub(super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    namespace(stage, NAMESPACE).await?;
    let hole = |name: &str| {
        service(NAMESPACE, name, "ClusterIP", "externalIPs: [198.51.100.7]\n  externalTrafficPolicy: Local")
    };
    let said = stage.kubectl.apply(&hole("warned")).await?.ok()?;
    measured.note("warning", said.stderr.clone());
    said.says(&["Warning: ", "ETP003"])?;

    stage.kubectl.apply(POLICY).await?.ok()?;
    stage
        .kubectl
        .run(&["wait", "--for=condition=Ready", "clustertrafficpolicy/demo-hole", "--timeout=20s"])
        .await?
        .ok()?;
    // Ready says that the operator took it up; each webhook replica follows its own watch.
    let (refused, took) = until("the refusal", Duration::from_secs(10), || async {
        let said = stage.kubectl.run_with(&["apply", "--dry-run=server", "-f", "-"], &hole("refused")).await?;
        ensure!(said.code != 0, "accepted: {}", said.stdout);
        Ok(said)
    })
    .await?;
    measured.time("seconds_until_enforced", took);
    measured.note("refusal", refused.stderr.clone());
    refused.says(&["[ETP003 policy=ctp/demo-hole]", "Fix:"])?;
    let untouched = stage.kubectl.run(&["-n", NAMESPACE, "label", "service", "warned", "touched=yes"]).await?.ok()?;
    measured.note("update_of_the_old_service", untouched.stdout.trim());
    stage.kubectl.run(&["delete", "clustertrafficpolicy", "demo-hole"]).await?.ok()?;
    Ok(())
}
