use std::{os::unix::process::ExitStatusExt, time::Duration};

use super::*;
use crate::run_dir::scratch;

fn shell(dir: &Path, script: &str) -> Child {
    Spec::new("shell", "sh", dir.join("log")).args(["-c", script]).spawn().unwrap()
}

fn exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn a_child_writes_both_streams_to_its_log() {
    let dir = scratch("process-log");
    let mut child = shell(dir.path(), "echo out; echo err >&2");
    assert!(child.wait().unwrap().success());
    assert_eq!(tail(child.log()), "out\nerr");
}

#[test]
fn a_child_sees_only_the_named_environment() {
    let dir = scratch("process-env");
    let log = dir.path().join("log");
    let mut child = Spec::new("env", "env", &log).env("ONE", "1").spawn().unwrap();
    child.wait().unwrap();
    let keys: Vec<_> = tail(&log).lines().filter_map(|l| l.split_once('=').map(|(k, _)| k.to_owned())).collect();
    assert!(keys.contains(&"ONE".to_owned()));
    assert!(keys.iter().all(|key| ["ONE", "PATH", "HOME"].contains(&key.as_str())), "{keys:?}");
}

#[test]
fn an_early_end_is_reported_with_the_end_of_the_log() {
    let dir = scratch("process-early");
    let mut child = shell(dir.path(), "echo the reason; exit 3");
    child.wait().unwrap();
    let error = child.require_running().unwrap_err().to_string();
    assert!(error.contains("the reason") && error.contains("exit status: 3"), "{error}");
}

#[test]
fn terminate_kills_a_group_that_ignores_sigterm() {
    let dir = scratch("process-stubborn");
    let mut child = shell(dir.path(), "trap '' TERM; echo ready; while :; do sleep 0.05; done");
    while tail(child.log()) != "ready" {
        thread::sleep(Duration::from_millis(10));
    }
    let status = child.terminate(Duration::from_millis(50)).unwrap();
    assert_eq!(status.signal(), Some(9));
    assert!(!exists(child.pid()));
}

#[test]
fn terminate_reaches_a_stopped_process() {
    let dir = scratch("process-stopped");
    let mut child = shell(dir.path(), "exec sleep 1000");
    child.signal(Signal::SIGSTOP).unwrap();
    assert_eq!(child.terminate(Duration::from_secs(60)).unwrap().signal(), Some(15));
}

#[test]
fn dropping_a_child_ends_it() {
    let dir = scratch("process-drop");
    let child = shell(dir.path(), "exec sleep 1000");
    let pid = child.pid();
    drop(child);
    assert!(!exists(pid));
}

#[test]
fn a_child_survives_the_thread_that_asked_for_it() {
    let dir = scratch("process-thread");
    let path = dir.path().to_owned();
    let mut child = thread::spawn(move || shell(&path, "sleep 0.3; echo alive")).join().unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_failed_command_shows_what_it_wrote() {
    let error = run("sh", ["-c", "echo half; echo why >&2; exit 7"]).unwrap_err().to_string();
    assert!(error.contains("half\nwhy") && error.contains("exit status: 7"), "{error}");
}

#[test]
fn a_missing_program_is_named() {
    let error = run("portreeve-no-such-program", [""; 0]).unwrap_err().to_string();
    assert!(error.contains("portreeve-no-such-program"), "{error}");
}

#[test]
fn a_program_whose_parent_died_before_it_began_never_runs() {
    let spec = Spec::new("late", "echo", "unused").arg("ran");
    let run = |parent| {
        let words = spec.words(parent);
        std::process::Command::new(&words[0]).args(&words[1..]).output().unwrap()
    };
    assert_eq!(run(std::process::id()).stdout, b"ran\n");
    let orphaned = run(std::process::id() + 1);
    assert!(!orphaned.status.success() && orphaned.stdout.is_empty(), "{orphaned:?}");
}
