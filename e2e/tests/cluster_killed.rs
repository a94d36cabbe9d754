//! A testbed that is killed cannot clean up; its children must die with it, and the next run must take the rest away.
//! Needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use portreeve_e2e::teardown::{clean_dead, snapshot};

const WITHIN: Duration = Duration::from_secs(30);

#[test]
fn after_sigkill_no_process_survives_and_the_next_run_clears_the_remains() {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root");
        eprintln!("skipped: needs root");
        return;
    }
    let before = snapshot(None).unwrap();
    let mut supervisor = Command::new(env!("CARGO_BIN_EXE_portreeve-testbed"))
        .args(["up", "--hold", "--nodes", "1"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let run = format!("cluster-{}", supervisor.id());
    let mut said = String::new();
    BufReader::new(supervisor.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.starts_with("export KUBECONFIG="), "{said}");
    assert!(snapshot(Some(&run)).unwrap().processes.len() > 6);

    supervisor.kill().unwrap();
    supervisor.wait().unwrap();
    let deadline = Instant::now() + WITHIN;
    while !snapshot(Some(&run)).unwrap().processes.is_empty() {
        assert!(Instant::now() < deadline, "left: {:?}", snapshot(Some(&run)).unwrap().processes);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_ne!(snapshot(Some(&run)).unwrap(), before, "pins and cgroups are still there");
    clean_dead().unwrap();
    assert_eq!(snapshot(Some(&run)).unwrap(), before);
}
