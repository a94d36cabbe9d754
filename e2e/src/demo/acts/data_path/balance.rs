//! New flows counted by Pod are those that were sent; what a kernel has lost unheard is told by `diff` and mended by it.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::super::super::backend::{Backend, namespace, node_port};
use super::super::super::kubectl::Said;
use super::super::super::wait::until;
use super::super::super::{Measured, Stage};
use super::super::service;
use super::{LINES, WITH_POD, Way, crash};
use crate::node::Node;

const NAMESPACE: &str = "demo-balance";
const NAME: &str = "uneven";
const SERVICE: &str = "svc/uneven";
/// Connections to each node with a Pod over each family: what a load balancer does that shares evenly over nodes.
const EACH: usize = 300;
const CONCURRENCY: usize = 8;
/// How long is counted; the connections take a part of it.
const WINDOW: &str = "12s";
/// Permille of all flows. A node chooses among its Pods at random: five standard deviations of a fair coin thrown 600 times
/// are 51 ‰ of 1,200.
const TOLERANCE: i64 = 52;
/// Elements of another table: more than the kernel keeps for an agent that does not listen.
const UNHEARD: usize = 60_000;

pub(in super::super) async fn play(stage: &Stage, measured: &mut Measured) -> Result<()> {
    namespace(stage, NAMESPACE).await?;
    for (name, replicas, nodes) in [("one", 1, ["n1"]), ("two", 2, ["n2"])] {
        Backend { namespace: NAMESPACE, name, app: NAME, replicas, nodes: &nodes, pod_spec: "" }.deploy(stage).await?;
    }
    stage.kubectl.apply(&service(NAMESPACE, NAME, "NodePort", LINES)).await?.ok()?;
    let port = node_port(stage, NAMESPACE, NAME).await?;
    for way in Way::ahead(stage).iter().copied() {
        super::wish(stage, way, NAMESPACE, "Drop").await?;
        until("the claim on every node", super::WITHIN, || async {
            for node in stage.cluster.nodes() {
                ensure!(way.in_force(node, port).await?, "not yet on {}", node.name());
            }
            Ok(())
        })
        .await?;
        count(stage, measured, way, port).await?;
        let same = diff(stage, &[]).await?;
        ensure!(same.code == 0, "diff on a cluster in step: {}{}", same.stdout, same.stderr);
        tamper(stage, measured, way, port).await?;
    }
    rights(stage, measured).await?;
    stage.kubectl.run(&["delete", "namespace", NAMESPACE, "--wait=false"]).await?.ok()?;
    Ok(())
}

/// Counts by `balance` what is sent meanwhile, and compares Pod by Pod.
async fn count(stage: &Stage, measured: &mut Measured, way: Way, port: u16) -> Result<()> {
    let svg = std::env::temp_dir().join(format!("portreeve-balance-{}.svg", std::process::id()));
    let counting = Counting::begin(stage, &svg.display().to_string()).await?;
    let mut sent: BTreeMap<String, i64> = BTreeMap::new();
    for name in WITH_POD {
        let address = stage.cluster.node(name)?.address();
        for to in [format!("{}:{port}", address.v4), format!("[{}]:{port}", address.v6)] {
            let url = format!("http://{to}/hostname");
            for outcome in stage.cluster.clients()[0].http_burst(&url, EACH, CONCURRENCY).await? {
                ensure!(outcome.is_ok(), "{to}: {:?} {:?}", outcome.status, outcome.error);
                *sent.entry(outcome.body.trim().to_owned()).or_default() += 1;
            }
        }
    }
    let said = counting.end().await?;
    let chart = std::fs::read_to_string(&svg);
    let _ = std::fs::remove_file(&svg);
    let said: Value = serde_json::from_str(&said).context("balance -o json")?;
    ensure!(said["complete"] == true, "balance is not sure: {said}");
    let pods = said["pods"].as_array().context("balance names no Pods")?;
    let number = |value: &Value| value.as_i64().unwrap_or(-1);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let counted: BTreeMap<String, i64> = pods.iter().map(|pod| (text(&pod["pod"]), number(&pod["flows"]))).collect();
    measured.note(&format!("{}_sent", way.word()), format!("{sent:?}"));
    measured.note(&format!("{}_counted", way.word()), format!("{counted:?}"));
    ensure!(counted == sent, "sent {sent:?}, counted {counted:?}");
    let mut worst = 0;
    for pod in pods {
        let wanted = if pod["node"] == "n1" { 500 } else { 250 };
        let (expected, is) = (number(&pod["expectedPermille"]), number(&pod["countedPermille"]));
        ensure!(expected == wanted, "{} should be expected to get {wanted} ‰: {pod}", pod["pod"]);
        worst = worst.max((is - expected).abs());
    }
    measured.note(&format!("{}_furthest_from_expected_permille", way.word()), worst);
    ensure!(worst <= TOLERANCE, "{worst} ‰ from what was expected: {said}");
    let chart = chart.context("the chart")?;
    ensure!(counted.keys().all(|pod| chart.contains(pod.as_str())), "the chart lacks a Pod: {chart}");
    Ok(())
}

/// `balance` at work.
struct Counting {
    child: tokio::process::Child,
}

impl Counting {
    /// Returns when it has taken its first reading: what is sent from now on counts.
    async fn begin(stage: &Stage, svg: &str) -> Result<Self> {
        let mut child = Command::new(&stage.plugin)
            .args(["balance", SERVICE, "-n", NAMESPACE, "--for", WINDOW, "-o", "json", "--svg", svg])
            .env("KUBECONFIG", stage.cluster.kubeconfig())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut said = BufReader::new(child.stderr.as_mut().context("invariant: stderr is piped")?);
        let mut line = String::new();
        tokio::time::timeout(Duration::from_secs(30), said.read_line(&mut line))
            .await
            .context("balance is silent")??;
        if !line.starts_with("counting new flows") {
            bail!("balance: {line}");
        }
        Ok(Self { child })
    }

    /// What it counted. It must still be counting, or some of what was sent came too late.
    async fn end(mut self) -> Result<String> {
        ensure!(self.child.try_wait()?.is_none(), "balance had ended before all was sent");
        let output = self.child.wait_with_output().await?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "balance: {}: {stderr}", output.status);
        Ok(String::from_utf8(output.stdout)?)
    }
}

async fn diff(stage: &Stage, more: &[&str]) -> Result<Said> {
    let plugin = stage.kubectl.with_program(stage.plugin.clone());
    plugin.run(&[&["diff", SERVICE, "-n", NAMESPACE], more].concat()).await
}

/// A user who may read all that decides, and may see the agents' Pods and no more; then with the Role of those who may ask.
const READER: &str = r#"
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: demo-reader}, rules: [
  {apiGroups: [""], resources: [services, nodes], verbs: [get, list]},
  {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list]},
  {apiGroups: [portreeve.io], resources: [servicetraffics, datapathconfigs, nodedatapaths], verbs: [list]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: demo-reader},
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: demo-reader}, subjects: [{kind: User, name: on-call}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: demo-reader, namespace: portreeve-system}, rules: [
  {apiGroups: [""], resources: [pods], verbs: [list]}]}
---
{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: demo-reader, namespace: portreeve-system},
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: demo-reader}, subjects: [{kind: User, name: on-call}]}
"#;
const ASKER: &str = r#"
{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: demo-asker, namespace: portreeve-system},
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: portreeve-ask}, subjects: [{kind: User, name: on-call}]}
"#;

/// Who may not ask is told of every node that it could not be asked, and whom to turn to; with the Role it can be.
async fn rights(stage: &Stage, measured: &mut Measured) -> Result<()> {
    let mut kubeconfig: Value = serde_yaml::from_str(&std::fs::read_to_string(stage.cluster.kubeconfig())?)?;
    kubeconfig["users"][0]["user"]["as"] = "on-call".into();
    let path = std::env::temp_dir().join(format!("portreeve-on-call-{}", std::process::id()));
    std::fs::write(&path, kubeconfig.to_string())?;
    let judged = judged(stage, measured, &path.display().to_string()).await;
    std::fs::remove_file(&path)?;
    for manifests in [READER, ASKER] {
        stage.kubectl.run_with(&["delete", "-f", "-", "--ignore-not-found"], manifests).await?.ok()?;
    }
    judged
}

async fn judged(stage: &Stage, measured: &mut Measured, kubeconfig: &str) -> Result<()> {
    let own = ["--kubeconfig", kubeconfig];
    let asked = || diff(stage, &own);
    stage.kubectl.apply(READER).await?.ok()?;
    let (refused, _) = until("a user without the Role to be turned away", super::WITHIN, || async {
        let said = asked().await?;
        let told =
            stage.cluster.nodes().iter().all(|node| said.stdout.contains(&format!("{}: could not", node.name())));
        ensure!(said.code == 2 && told, "{} {}{}", said.code, said.stdout, said.stderr);
        Ok(said.stdout)
    })
    .await?;
    ensure!(refused.contains("you may not exec into Pod"), "{refused}");
    measured.note("without_the_role", refused);
    stage.kubectl.apply(ASKER).await?.ok()?;
    let (told, _) = until("the same user with the Role to be answered", super::WITHIN, || async {
        Ok(asked().await?.ok()?.stdout)
    })
    .await?;
    measured.note("with_the_role", told);
    Ok(())
}

async fn done(node: &Node, command: &[&str]) -> Result<()> {
    let done = node.exec(command).await?;
    ensure!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// Takes a rule away. The agent hears of it from the kernel and makes it good, unless more happened than the kernel keeps for
/// it: then nftables' table looks whole, and only reading all of it back tells. iptables' rules are read back after any such
/// loss, so that there is nothing left for `diff` to find.
async fn tamper(stage: &Stage, measured: &mut Measured, way: Way, port: u16) -> Result<()> {
    let node = stage.cluster.node("n1")?;
    match way {
        Way::Nftables => {
            unheard(node, port).await?;
            ensure!(!way.in_force(node, port).await?, "the agent has heard it");
            let told = diff(stage, &[]).await?;
            measured.note("nftables_diff", told.stdout.clone());
            ensure!(told.code == 1 && told.stdout.contains("n1"), "diff: {} {}{}", told.code, told.stdout, told.stderr);
            let mended = diff(stage, &["--repair"]).await?.ok()?;
            measured.note("nftables_repair", mended.stdout);
            ensure!(way.in_force(node, port).await?, "diff --repair mended nothing");
        }
        Way::Iptables => {
            done(node, &["iptables", "-t", "nat", "-F", "PORTREEVE-ENTRY"]).await?;
            until("the agent to mend it", Duration::from_secs(2), || async {
                ensure!(way.in_force(node, port).await?, "not yet");
                Ok(())
            })
            .await?;
        }
    }
    let same = diff(stage, &[]).await?.ok()?;
    measured.note(&format!("{}_diff_at_the_end", way.word()), same.stdout);
    Ok(())
}

/// Deletes the node port from our map while the agent is stopped and the kernel keeps no more news for it.
async fn unheard(node: &Node, port: u16) -> Result<()> {
    let agent = crash::agent(node).await?;
    done(node, &["kill", "-STOP", &agent]).await?;
    let harmed = harm(node, port).await;
    // Whatever became of it, the agent goes on.
    done(node, &["kill", "-CONT", &agent]).await?;
    harmed?;
    // It has heard what there is to hear.
    tokio::time::sleep(Duration::from_secs(1)).await;
    Ok(())
}

async fn harm(node: &Node, port: u16) -> Result<()> {
    let flood = format!(
        "nft add table inet flood; nft add set inet flood marks '{{ type mark; }}'; seq 1 {UNHEARD} | \
         sed 's/.*/add element inet flood marks {{ & }}/' | nft -f -"
    );
    done(node, &["sh", "-c", &flood]).await?;
    let element = format!("{{ tcp . {port} }}");
    done(node, &["nft", "delete", "element", "inet", "portreeve", "node-ports4", &element]).await?;
    done(node, &["nft", "delete", "table", "inet", "flood"]).await
}
