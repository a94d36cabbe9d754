//! Network namespaces that live as long as a test.

use nix::sched::{CloneFlags, unshare};
use nix::unistd::{geteuid, gettid};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::{env, fs, thread};

/// Runs a test that makes network namespaces: here if this process is root, else in a process of its own that is root of a
/// user namespace, by a name that no other test's contains. Where neither is to be had the test fails and says so.
pub fn privileged(test: &str, body: impl FnOnce()) {
    if geteuid().is_root() {
        return body();
    }
    let child = Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(env::current_exe().unwrap())
        .args([test, "--nocapture"])
        // The lock that all users of iptables share is root's.
        .env("XTABLES_LOCKFILE", env::temp_dir().join(format!("portreeve-{}.lock", geteuid())))
        .output();
    let output = child.expect("this test needs root, or unshare(1) for a user namespace");
    let says = [output.stdout, output.stderr].concat();
    let says = String::from_utf8_lossy(&says);
    assert!(output.status.success(), "this test needs root or a user namespace of its own: {says}");
    assert!(says.contains("1 passed"), "{says}");
}

/// Whether this process is in the user namespace that the machine began with: the only one in which all numbers are users
/// (user_namespaces(7)).
pub fn initial_user_namespace() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.contains("4294967295"))
}

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, held by a thread that lives in it.
pub struct Namespace {
    jobs: Sender<Job>,
    thread: i32,
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Namespace {
    /// A new one, in which there is nothing but a loopback link that is down.
    pub fn new() -> Self {
        let (jobs, queue) = channel::<Job>();
        let (ready, made) = channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs CAP_SYS_ADMIN");
            ready.send(gettid().as_raw()).unwrap();
            queue.into_iter().for_each(|job| job());
        });
        Self { jobs, thread: made.recv().unwrap() }
    }

    /// Number by which ip(8) finds it.
    pub fn thread(&self) -> i32 {
        self.thread
    }

    /// Runs `work` inside. Sockets opened there and processes started there belong to it.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (give, take) = channel();
        self.jobs.send(Box::new(move || give.send(work()).unwrap())).unwrap();
        take.recv().expect("the work panicked; its message is above")
    }

    /// Runs ip(8) inside, once per line.
    pub fn ip(&self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let line = line.to_owned();
            self.run(move || {
                let output = Command::new("ip").args(line.split(' ')).output().unwrap();
                assert!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
            });
        }
    }
}
