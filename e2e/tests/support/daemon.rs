//! Portreeve's daemons as processes, and what they say of themselves on their admin port.

use nix::sys::signal::Signal;
use portreeve_e2e::{
    http::{Target, get},
    process::{Child, Spec},
};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use super::{eventually, kubectl::program};

/// A running daemon. Ends with the test, or when it is dropped.
pub(crate) struct Daemon {
    child: Mutex<Child>,
    admin: SocketAddr,
}

impl Daemon {
    /// Starts `program` with these arguments and an admin port of its own.
    pub(crate) fn start(name: &str, program_name: &str, log: PathBuf, args: &[String]) -> Self {
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let spec = Spec::new(name, program(program_name), log)
            .args(args.iter().cloned())
            .env("PORTREEVE_ADMIN_ADDRESS", admin.to_string())
            .env("PORTREEVE_LOG", "info");
        Self { child: Mutex::new(spec.spawn().unwrap()), admin }
    }

    /// One of its pages, whatever its status.
    pub(crate) async fn page(&self, path: &str) -> Result<String, String> {
        let outcome = get(&Target::new(self.admin, path), Duration::from_secs(5)).await;
        match outcome.status {
            Some(200) => Ok(outcome.body),
            Some(status) => Err(format!("{status}: {}", outcome.body)),
            None => Err(format!("{:?}", outcome.error)),
        }
    }

    /// Waits until `/readyz` answers; at once an error when the process has ended.
    pub(crate) async fn ready(&self) {
        eventually("the daemon is ready", async || {
            self.child.lock().unwrap().require_running().unwrap();
            self.page("/readyz").await
        })
        .await;
    }

    pub(crate) async fn metrics(&self) -> String {
        self.page("/metrics").await.unwrap()
    }

    /// The sum of all samples of `metric` whose labels contain every one of `labels`, e.g. `code="200"`.
    pub(crate) async fn metric(&self, metric: &str, labels: &[&str]) -> f64 {
        sum(&self.metrics().await, metric, labels)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.child.lock().unwrap().signal(signal).unwrap();
    }

    /// SIGKILL, and waits until it is gone.
    pub(crate) fn kill(&self) {
        self.child.lock().unwrap().kill().unwrap();
    }

    /// SIGTERM, and waits until it has ended by itself; panics when it had to be killed.
    pub(crate) fn stop(&self) {
        let status = self.child.lock().unwrap().terminate(Duration::from_secs(30)).unwrap();
        assert!(status.success(), "{status}");
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.child.lock().unwrap().log()).unwrap()
    }
}

fn sum(text: &str, metric: &str, labels: &[&str]) -> f64 {
    let samples = text.lines().filter_map(|line| line.strip_prefix(metric)?.rsplit_once(' '));
    let matching = samples.filter(|(head, _)| {
        (head.is_empty() || head.starts_with('{')) && labels.iter().all(|label| head.contains(label))
    });
    matching.map(|(_, value)| value.parse::<f64>().unwrap()).sum()
}

/// A port on loopback below those that the kernel hands out by itself, so that no connection takes it meanwhile.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 9_000).unwrap();
    for _ in 0..9_000 {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 9_000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free between 20000 and 29000")
}

#[test]
fn samples_of_one_metric_are_summed_by_label() {
    let text = "a_total{code=\"200\"} 2\na_total{code=\"500\"} 1\na_total_more 9\nb 4\n";
    assert!((sum(text, "a_total", &["code=\"200\""]) - 2.0).abs() < f64::EPSILON);
    assert!((sum(text, "a_total", &[]) - 3.0).abs() < f64::EPSILON);
    assert!((sum(text, "b", &[]) - 4.0).abs() < f64::EPSILON);
}
