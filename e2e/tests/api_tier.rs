//! The API tier itself: it starts, answers like Kubernetes, survives faults, and leaves no process behind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{error::Error, path::Path, process::Stdio, time::Duration};

use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{Api, api::ListParams};
use portreeve_e2e::{
    api_tier,
    control_plane::{ControlPlane, ControlPlaneOptions, Part},
    process::ProcessError,
    progress::Progress,
    run_dir::RunDir,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::{sleep, timeout},
};

/// Whether a process exists and is more than an entry that waits for its parent.
fn running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    // proc_pid_stat(5): the state follows the name, which is in parentheses and may hold any character.
    stat.is_ok_and(|stat| stat.rsplit(')').next().is_some_and(|rest| !rest.trim_start().starts_with('Z')))
}

/// The children of all threads of a process.
fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let lists = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("children")).unwrap());
    lists.flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()).collect()
}

/// A control plane that a test may break: store and API server only.
async fn own_control_plane() -> Result<(ControlPlane, RunDir), Box<dyn Error>> {
    let run = RunDir::create("api-faults")?;
    let mut options = ControlPlaneOptions::new(api_tier::assets(Progress::Shown).await?, run.path());
    options.with_controller_manager = false;
    options.with_scheduler = false;
    Ok((ControlPlane::start(options).await?, run))
}

#[tokio::test]
async fn kubectl_sees_the_four_namespaces_of_every_cluster() {
    let api = api_tier::start().await.unwrap();
    let names = api.kubectl(&["get", "namespaces", "-o", "name"]).await.unwrap();
    for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        assert!(names.lines().any(|line| line == format!("namespace/{name}")), "{names}");
    }
}

#[tokio::test]
async fn a_cluster_ip_service_with_an_external_traffic_policy_is_refused_in_the_api_servers_own_words() {
    let api = api_tier::start().await.unwrap();
    let namespace = api.namespace("refusal").await.unwrap();
    let dir = RunDir::create("api-refusal").unwrap();
    let file = dir.state().join("service.yaml");
    std::fs::write(
        &file,
        "apiVersion: v1\nkind: Service\nmetadata: {name: inside}\n\
         spec: {type: ClusterIP, externalTrafficPolicy: Local, ports: [{port: 80}]}\n",
    )
    .unwrap();
    let apply = api.kubectl(&["-n", &namespace, "apply", "-f", file.to_str().unwrap()]).await;
    let Err(ProcessError::Failed { output, .. }) = apply else { panic!("not refused: {apply:?}") };
    assert!(output.contains("spec.externalTrafficPolicy: Invalid value: \"Local\""), "{output}");
    assert!(output.contains("may only be set for externally-accessible services"), "{output}");
}

#[tokio::test]
async fn a_new_namespace_accepts_pods_and_the_scheduler_explains_why_they_wait() {
    let api = api_tier::start().await.unwrap();
    let namespace = api.namespace("pods").await.unwrap();
    api.kubectl(&["-n", &namespace, "run", "one", "--image=none"]).await.unwrap();
    let condition = "--for=jsonpath={.status.conditions[?(@.type=='PodScheduled')].reason}=Unschedulable";
    api.kubectl(&["-n", &namespace, "wait", "pod/one", condition, "--timeout=60s"]).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(api.client().await.unwrap(), &namespace);
    assert_eq!(pods.list(&ListParams::default()).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn the_api_server_comes_back_with_its_data_after_a_crash() {
    let (plane, _run) = own_control_plane().await.unwrap();
    plane.kubectl(&["create", "namespace", "kept"]).await.unwrap();
    let crashed = plane.pids()[&Part::Apiserver];
    plane.kill(Part::Apiserver).unwrap();
    assert!(!running(crashed));
    assert!(plane.kubectl(&["get", "namespace", "kept"]).await.is_err());
    plane.restart(Part::Apiserver).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(plane.client().await.unwrap());
    assert!(namespaces.get_opt("kept").await.unwrap().is_some());
}

#[tokio::test]
async fn a_stopped_control_plane_leaves_no_process_and_no_state() {
    let (plane, run) = own_control_plane().await.unwrap();
    let pids: Vec<u32> = plane.pids().into_values().collect();
    assert_eq!(pids.len(), 2);
    plane.stop().unwrap();
    assert!(pids.into_iter().all(|pid| !running(pid)));
    let state = run.state();
    drop(run);
    assert!(!state.exists());
}

#[tokio::test]
async fn a_testbed_that_is_killed_takes_its_control_plane_with_it() {
    let mut testbed = Command::new(env!("CARGO_BIN_EXE_portreeve-testbed"))
        .args(["api", "--hold"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(testbed.stdout.take().unwrap()).lines();
    let ready = lines.next_line().await.unwrap().unwrap();
    assert!(ready.starts_with("export KUBECONFIG="), "{ready}");
    let parts = children(testbed.id().unwrap());
    assert_eq!(parts.len(), 4, "etcd, API server, controller manager, scheduler");
    testbed.kill().await.unwrap();
    let ended = async {
        while parts.iter().any(|&pid| running(pid)) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(60), ended).await.expect("all parts end");
}
