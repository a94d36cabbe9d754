//! The nodes' agents: found by their Pods, asked by a program in their own container, as `kubectl exec` does. So only who may
//! exec there can ask, and nothing listens on the network for it.

use crate::args::ClusterArgs;
use crate::cluster::connect;
use crate::exit::Failure;
use futures::{Stream, StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, AttachedProcess, ListParams};
use kube::client::UpgradeConnectionError;
use kube::{Api, Client, ResourceExt as _};
use portreeve_ask::{Answer, Body, Reply};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

/// Labels of the agents' Pods, as the manifests have them.
const LABELS: &str = "app.kubernetes.io/name=portreeve,app.kubernetes.io/component=agent";
const CONTAINER: &str = "agent";
/// The program in the image.
const PROGRAM: &str = "/portreeve-agent";
/// Nodes that are asked at a time.
const AT_ONCE: usize = 8;
/// How long one agent may take; it gives up earlier itself.
const PATIENCE: Duration = Duration::from_secs(100);
/// Bytes of an answer that may be on their way.
const BUFFER: usize = 1 << 20;
/// Most that is read of one agent's answer: far more than a table of 65,536 frontends.
const LONGEST: u64 = 512 << 20;

/// What one node's agent says, or a sentence that says why it does not and what to do.
pub(crate) type Said = Result<Vec<Answer>, String>;

/// The agents of a cluster.
pub(crate) struct Agents {
    pub(crate) client: Client,
    namespace: String,
    /// By node: the Pod, or why it cannot be asked.
    pods: BTreeMap<String, Result<String, String>>,
}

impl Agents {
    /// Connects and finds the agents' Pods in `namespace`.
    pub(crate) async fn find(args: &ClusterArgs, namespace: &str) -> Result<Self, Failure> {
        let client = connect(args).await?;
        let api = Api::<Pod>::namespaced(client.clone(), namespace);
        let doing = format!("listing the agents' Pods in namespace {namespace}");
        let pods = api.list(&ListParams::default().labels(LABELS)).await.map_err(Failure::from_kube(doing))?;
        let mut found = BTreeMap::new();
        for pod in &pods.items {
            let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) else { continue };
            let state = standing(pod, namespace);
            // While one is replaced, the one that runs.
            if state.is_ok() || !found.contains_key(&node) {
                found.insert(node, state);
            }
        }
        Ok(Self { client, namespace: namespace.to_owned(), pods: found })
    }

    /// Nodes with an agent's Pod.
    pub(crate) fn nodes(&self) -> BTreeSet<String> {
        self.pods.keys().cloned().collect()
    }

    /// Asks the agents of `nodes`, several at a time; each node has its own answer or its own reason.
    pub(crate) async fn ask(&self, nodes: &BTreeSet<String>, question: &[&str]) -> BTreeMap<String, Said> {
        let answers = self.ask_each(nodes, [question]);
        answers.map(|(node, [said])| (node, said)).collect().await
    }

    /// Asks several questions of each node, one after another; nodes come as they answer, so that not all of their tables
    /// are held at a time.
    pub(crate) fn ask_each<'a, const N: usize>(
        &'a self,
        nodes: &'a BTreeSet<String>,
        questions: [&'a [&'a str]; N],
    ) -> impl Stream<Item = (String, [Said; N])> + 'a {
        let asked = nodes.iter().map(move |node| async move {
            let mut said = questions.map(|_| Err(String::new()));
            for (question, said) in questions.iter().zip(&mut said) {
                *said = self.ask_one(node, question).await;
            }
            (node.clone(), said)
        });
        stream::iter(asked).buffer_unordered(AT_ONCE)
    }

    async fn ask_one(&self, node: &str, question: &[&str]) -> Said {
        let namespace = &self.namespace;
        let pod = match self.pods.get(node) {
            Some(Ok(pod)) => pod,
            Some(Err(why)) => return Err(why.clone()),
            None => {
                return Err(format!("no agent runs on it; see kubectl -n {namespace} get pods -o wide -l {LABELS}"));
            }
        };
        let api = Api::<Pod>::namespaced(self.client.clone(), namespace);
        let command: Vec<&str> = [PROGRAM, "ask"].iter().chain(question).copied().collect();
        let params = AttachParams::default().container(CONTAINER).stdout(true).stderr(true).max_stdout_buf_size(BUFFER);
        let conversation = async {
            let process = api.exec(pod, command, &params).await.map_err(|error| refused(&error, namespace, pod))?;
            read(process).await.map_err(|error| match error {
                Broken::Said(said) => said,
                Broken::Off(why) => format!("the connection to Pod {pod} broke off: {why}; try again"),
            })
        };
        let answered = timeout(PATIENCE, conversation).await;
        answered.unwrap_or_else(|_| {
            Err(format!("no answer within {} s; see kubectl -n {namespace} logs {pod}", PATIENCE.as_secs()))
        })
    }
}

/// Whether a Pod can be asked.
fn standing(pod: &Pod, namespace: &str) -> Result<String, String> {
    let name = pod.name_any();
    let status = pod.status.as_ref();
    let containers = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
    let runs = containers.iter().any(|one| one.state.as_ref().is_some_and(|state| state.running.is_some()));
    if runs && pod.metadata.deletion_timestamp.is_none() {
        return Ok(name);
    }
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or("unknown");
    Err(format!("its agent does not run: Pod {name} is {phase}; see kubectl -n {namespace} describe pod {name}"))
}

/// Why nothing could be started in the agent's container, and what to do.
fn refused(error: &kube::Error, namespace: &str, pod: &str) -> String {
    let code = match error {
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code)) => Some(code.as_u16()),
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    };
    match code {
        Some(401 | 403) => format!(
            "you may not exec into Pod {pod}: have somebody bind the Role {} of namespace {namespace} to you",
            crate::rbac::ROLE_ASK
        ),
        Some(404) => format!("Pod {pod} is gone; try again"),
        _ => format!(
            "exec into Pod {pod} failed: {error}; the API server must reach the node's kubelet, as for kubectl logs"
        ),
    }
}

/// Why a conversation gave no answer.
enum Broken {
    /// The agent, or the program that asks it, says so.
    Said(String),
    /// The connection broke.
    Off(String),
}

async fn read(mut process: AttachedProcess) -> Result<Vec<Answer>, Broken> {
    let off = |what: &str| Broken::Off(format!("no {what}"));
    let stdout = process.stdout().ok_or_else(|| off("output"))?;
    let stderr = process.stderr().ok_or_else(|| off("messages"))?;
    let status = process.take_status().ok_or_else(|| off("status"))?;
    let (output, messages, status) = tokio::join!(all(stdout), all(stderr), status);
    let (output, messages) = (output?, messages?);
    process.join().await.map_err(|error| Broken::Off(error.to_string()))?;
    ended(status.as_ref(), &messages)?;
    output.lines().map(answer).collect()
}

async fn all(from: impl AsyncRead + Unpin) -> Result<String, Broken> {
    let mut text = String::new();
    let read = from.take(LONGEST).read_to_string(&mut text).await;
    read.map(|_| text).map_err(|error| Broken::Off(error.to_string()))
}

/// Whether the program ended well; if not, its own words are the reason.
fn ended(status: Option<&Status>, messages: &str) -> Result<(), Broken> {
    let Some(status) = status else { return Err(Broken::Off("the program's end was not told".to_owned())) };
    if status.status.as_deref() == Some("Success") {
        return Ok(());
    }
    let said = messages.trim().trim_start_matches("error: ");
    let why = if said.is_empty() { status.message.as_deref().unwrap_or("it failed without a word") } else { said };
    let older = why.contains("unrecognized subcommand") || why.contains("unexpected argument");
    Err(Broken::Said(if older {
        "its agent is of an older version, which cannot be asked: upgrade it".to_owned()
    } else {
        why.to_owned()
    }))
}

fn answer(line: &str) -> Result<Answer, Broken> {
    let reply: Reply = serde_json::from_str(line).map_err(|error| {
        Broken::Said(format!("its agent's answer cannot be read ({error}); use the plugin of the agent's version"))
    })?;
    match reply.body {
        Body::Answer(answer) => Ok(answer),
        Body::Error(why) => Err(Broken::Said(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(state: serde_json::Value, going: bool) -> Pod {
        let time = going.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({
            "metadata": {"name": "agent-x", "deletionTimestamp": time},
            "status": {"phase": "Pending", "containerStatuses": [{
                "name": "agent", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
            }]},
        }))
        .unwrap()
    }

    #[test]
    fn only_a_pod_that_runs_and_stays_can_be_asked() {
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        assert_eq!(standing(&pod(running.clone(), false), "ns"), Ok("agent-x".to_owned()));
        let said = "its agent does not run: Pod agent-x is Pending; see kubectl -n ns describe pod agent-x";
        assert_eq!(standing(&pod(running, true), "ns"), Err(said.to_owned()));
        assert_eq!(standing(&pod(json!({"waiting": {}}), false), "ns"), Err(said.to_owned()));
    }

    #[test]
    fn each_way_to_fail_says_what_to_do() {
        let switch = |code: u16| {
            let code = http_code(code);
            refused(&kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code)), "ns", "agent-x")
        };
        let ended = |status: &str, messages: &str| {
            let status = Status { status: Some(status.to_owned()), ..Status::default() };
            match ended(Some(&status), messages) {
                Ok(()) => "fine".to_owned(),
                Err(Broken::Said(why) | Broken::Off(why)) => why,
            }
        };
        insta::assert_snapshot!(
            [
                switch(403),
                switch(404),
                switch(500),
                ended("Success", ""),
                ended("Failure", "error: nothing is programmed yet\n"),
                ended("Failure", "error: unrecognized subcommand 'ask'"),
                ended("Failure", ""),
            ]
            .join("\n")
        );
    }

    fn http_code(code: u16) -> http::StatusCode {
        code.try_into().unwrap()
    }
}
