//! Three Pods that the scheduler puts on one node; then, with injection, one on each.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use portreeve_crds::names;

use super::super::backend::{Backend, namespace, placement};
use super::super::wait::until;
use super::super::{Measured, Stage};
use super::service;
use crate::image::catalogue::PAUSE;

const NAMESPACE: &str = "demo-spread";
const APP: &str = "web";
const POLICY: &str = "apiVersion: portreeve.io/v1alpha1\nkind: ClusterTrafficPolicy\nmetadata: {name: demo-spread}\nspec:\n  \
    match: {namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: demo-spread}}}\n  enforcement: {mode: Enforce}\n  \
    defaults: {spread: {mode: Inject}}\n";
/// A constraint of the Pod's own, over zones: it switches the scheduler's built-in spreading off, as any constraint does.
const ZONES_ONLY: &str = r#""topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone",
"whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {"matchLabels": {"app": "web"}}}],"#;

pub(super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    namespace(stage, NAMESPACE).await?;
    stage.kubectl.run(&["label", "nodes", "--all", "--overwrite", "topology.kubernetes.io/zone=demo"]).await?.ok()?;
    // Two busy nodes: the scheduler prefers the third.
    for node in ["n1", "n2"] {
        stage.kubectl.apply(&ballast(node)).await?.ok()?;
    }
    stage
        .kubectl
        .run(&["-n", NAMESPACE, "wait", "--for=condition=Ready", "pod", "-l", "app=ballast", "--timeout=60s"])
        .await?
        .ok()?;
    stage.kubectl.apply(&service(NAMESPACE, APP, "NodePort", "externalTrafficPolicy: Local")).await?.ok()?;
    Backend { namespace: NAMESPACE, name: APP, app: APP, replicas: 3, nodes: &[], pod_spec: ZONES_ONLY }
        .deploy(stage)
        .await?;
    let before = placement(stage, NAMESPACE, APP).await?;
    measured.note("before", shown(&before));
    ensure!(before.len() == 1, "the stage is not set: without injection the Pods should share a node");

    stage.kubectl.apply(POLICY).await?.ok()?;
    stage
        .kubectl
        .run(&["wait", "--for=condition=Ready", "clustertrafficpolicy/demo-spread", "--timeout=20s"])
        .await?
        .ok()?;
    // The operator registers the Pod webhook with the first policy that injects; a dry run shows when it answers.
    until("injection into new Pods", Duration::from_secs(30), || async {
        let said =
            stage.kubectl.run_with(&["create", "--dry-run=server", "-f", "-", "-o", "yaml"], PROBE).await?.ok()?;
        ensure!(said.stdout.contains("podAntiAffinity"), "not injected yet");
        Ok(())
    })
    .await?;
    stage.kubectl.run(&["-n", NAMESPACE, "rollout", "restart", &format!("deployment/{APP}")]).await?.ok()?;
    stage.cluster.await_deployment(NAMESPACE, APP).await?;
    let (after, _) = until("the old Pods to go", Duration::from_secs(30), || async {
        let after = placement(stage, NAMESPACE, APP).await?;
        ensure!(after.values().sum::<u32>() == 3, "{after:?}");
        Ok(after)
    })
    .await?;
    measured.note("after", shown(&after));
    ensure!(after.len() == 3, "with injection each Pod should have a node of its own");
    let told = told(stage).await?;
    measured.note("the_pods_say", told.join(", "));
    let expected = "ctp/demo-spread PodAntiAffinity";
    ensure!(
        told.len() == 3 && told.iter().all(|told| told == expected),
        "each Pod should say \"{expected}\" in its annotation {}: {told:?}",
        names::ANNOTATION_INJECTED
    );
    let template = "{.spec.template.spec.affinity}";
    let template = stage.kubectl.jsonpath(&["-n", NAMESPACE, "deployment", APP], template).await?;
    ensure!(template.is_empty(), "the Deployment's template was written to: {template}");
    stage.kubectl.run(&["delete", "clustertrafficpolicy", "demo-spread"]).await?.ok()?;
    stage.kubectl.run(&["delete", "namespace", NAMESPACE, "--wait=false"]).await?.ok()?;
    Ok(())
}

/// What a Pod of the Deployment looks like to admission, without the Deployment.
const PROBE: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe", "namespace": "demo-spread", "labels": {"app": "web"}},
"spec": {"containers": [{"name": "c", "image": "example.invalid/none"}]}}"#;

fn ballast(node: &str) -> String {
    format!(
        r#"{{"apiVersion": "v1", "kind": "Pod", "metadata": {{"name": "ballast-{node}", "namespace": "{NAMESPACE}", "labels": {{"app": "ballast"}}}},
"spec": {{"nodeSelector": {{"kubernetes.io/hostname": "{node}"}}, "terminationGracePeriodSeconds": 0,
"containers": [{{"name": "c", "image": "{PAUSE}", "resources": {{"requests": {{"cpu": "1200m", "memory": "8Gi"}}}}}}]}}}}"#
    )
}

/// What each running Pod says of the injection, in an annotation.
async fn told(stage: &Stage) -> Result<Vec<String>> {
    let key = names::ANNOTATION_INJECTED.replace('.', "\\.");
    let each = format!("{{range .items[*]}}{{.metadata.annotations.{key}}}{{\"\\n\"}}{{end}}");
    let running = "--field-selector=status.phase=Running";
    let told = stage.kubectl.jsonpath(&["-n", NAMESPACE, "pods", "-l", "app=web", running], &each).await?;
    Ok(told.lines().map(str::to_owned).collect())
}

fn shown(placement: &BTreeMap<String, u32>) -> String {
    ["n1", "n2", "n3"].map(|node| format!("{node}={}", placement.get(node).copied().unwrap_or(0))).join(" ")
}
