//! The leading operator is killed without a word; the other one takes over and acts. Then a hand-over with a word.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use portreeve_crds::names;

use super::super::backend::namespace;
use super::super::wait::until;
use super::super::{Measured, Stage};
use super::service;

const NAMESPACE: &str = "demo-failover";
/// A lease of 15 s counted from the last renewal that the other saw, and a look every 2 s.
const KILLED_WITHIN: Duration = Duration::from_secs(17);
/// The hand-over itself takes milliseconds; kubectl, kubelet and containerd deliver the signal.
const RELEASED_WITHIN: Duration = Duration::from_secs(5);

pub(super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    namespace(stage, NAMESPACE).await?;
    let first = holder(stage).await?;
    measured.note("leader", first.as_str());
    kill(stage, &first).await?;
    let began = Instant::now();
    let second = another(stage, &first).await?;
    let took = began.elapsed();
    measured.note("after_the_kill_leads", second.as_str());
    measured.time("seconds_after_kill", took);
    ensure!(took <= KILLED_WITHIN, "took {took:?}");
    acts(stage, "after-kill", measured).await?;

    stage.cluster.await_deployment(names::NAMESPACE, names::OPERATOR).await?;
    let began = Instant::now();
    stage.kubectl.run(&["-n", names::NAMESPACE, "delete", "pod", pod_of(&second), "--wait=false"]).await?.ok()?;
    another(stage, &second).await?;
    let took = began.elapsed();
    measured.time("seconds_after_delete_with_kubectl_and_kubelet", took);
    ensure!(took <= RELEASED_WITHIN, "took {took:?}");
    acts(stage, "after-delete", measured).await?;
    stage.cluster.await_deployment(names::NAMESPACE, names::OPERATOR).await?;
    stage.kubectl.run(&["delete", "namespace", NAMESPACE, "--wait=false"]).await?.ok()?;
    Ok(())
}

/// Who holds the lease.
async fn holder(stage: &Stage) -> Result<String> {
    let (holder, _) = until("a leader", Duration::from_secs(30), || async {
        let lease = ["-n", names::NAMESPACE, "lease", names::OPERATOR];
        let holder = stage.kubectl.jsonpath(&lease, "{.spec.holderIdentity}").await?;
        ensure!(!holder.is_empty(), "nobody leads");
        Ok(holder)
    })
    .await?;
    Ok(holder)
}

/// Waits until somebody else than `before` leads.
async fn another(stage: &Stage, before: &str) -> Result<String> {
    let (now, _) = until("another leader", Duration::from_secs(40), || async {
        let now = holder(stage).await?;
        ensure!(now != before, "{before} still leads");
        Ok(now)
    })
    .await?;
    Ok(now)
}

/// The Pod of a candidate; its identity is the Pod's name and a part that differs with every start of the process.
fn pod_of(identity: &str) -> &str {
    identity.split_once('_').map_or(identity, |(pod, _)| pod)
}

/// Ends the operator's process in `identity`'s Pod with SIGKILL, from inside the node.
async fn kill(stage: &Stage, identity: &str) -> Result<()> {
    let pod = pod_of(identity);
    let node = stage.kubectl.jsonpath(&["-n", names::NAMESPACE, "pod", pod], "{.spec.nodeName}").await?;
    let script = format!(
        "for p in /proc/[0-9]*; do if tr '\\0' '\\n' 2>/dev/null <$p/environ | grep -qx 'POD_NAME={pod}' && \
         grep -q portreeve-operator $p/cmdline; then kill -9 ${{p#/proc/}} && echo ${{p#/proc/}}; fi; done"
    );
    let out = stage.cluster.node(&node)?.exec(&["sh", "-c", &script]).await?;
    let killed = String::from_utf8_lossy(&out.stdout);
    ensure!(
        killed.lines().count() == 1,
        "no single operator process of {pod} on {node}: '{killed}' {}",
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(())
}

/// A new Service is reported on, so somebody works.
async fn acts(stage: &Stage, name: &str, measured: &mut Measured) -> Result<()> {
    stage.kubectl.apply(&service(NAMESPACE, name, "NodePort", "externalTrafficPolicy: Local")).await?.ok()?;
    let (_, took) = until("a ServiceTraffic for a new Service", Duration::from_secs(15), || async {
        stage.kubectl.jsonpath(&["-n", NAMESPACE, "servicetraffic", name], "{.status.externalTrafficPolicy}").await
    })
    .await
    .context("the new leader does not act")?;
    measured.time(&format!("seconds_to_report_{}", name.replace('-', "_")), took);
    Ok(())
}
