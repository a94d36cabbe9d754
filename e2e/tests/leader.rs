//! Two operators, one leader: a hand-over at once when the leader is asked to go, after its lease when it is killed, and
//! at no time two that write. The API server's audit log is the witness.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use support::{Daemon, Http, Site, daemon::free_port, eventually, holds, objects};
use tokio::{
    sync::{Mutex, MutexGuard, OnceCell},
    task::JoinHandle,
    time::Instant,
};

/// The test binary's one cluster. There is one lease in it, so one test at a time.
async fn alone() -> MutexGuard<'static, Site> {
    static SITE: OnceCell<Mutex<Site>> = OnceCell::const_new();
    SITE.get_or_init(async || Mutex::new(Site::audited("leader").await)).await.lock().await
}

/// An operator that the audit log knows by its own name.
fn operator(site: &Site, name: &str) -> Daemon {
    let user = json!({"as": name, "as-groups": ["system:masters"]});
    let kubeconfig = format!("--kubeconfig={}", site.kubeconfig_of(name, &user).display());
    site.operator(name, free_port(), &[&kubeconfig])
}

async fn leads(operator: &Daemon) -> bool {
    operator.metric("leader_election_master_status", &["portreeve-operator"]).await > 0.5
}

async fn comes_to_lead(operator: &Daemon) {
    eventually("an operator leads", async || holds(leads(operator).await, "it follows")).await;
}

/// A leader, and a follower with its caches filled.
async fn pair(site: &Site, names: [&str; 2]) -> (Daemon, Daemon) {
    let leader = operator(site, names[0]);
    leader.ready().await;
    comes_to_lead(&leader).await;
    let follower = operator(site, names[1]);
    follower.ready().await;
    assert!(!leads(&follower).await);
    (leader, follower)
}

/// Makes Services that all need a report, until it is stopped; so both leaders have something to write at any time.
struct Work {
    stop: Arc<AtomicBool>,
    made: JoinHandle<usize>,
    namespace: String,
}

impl Work {
    async fn begin(site: &Site) -> Self {
        let (namespace, http) = (site.namespace("work").await, site.http().await);
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, inside) = (Arc::clone(&stop), namespace.clone());
        let made = tokio::spawn(async move {
            let mut made = 0;
            while !stopped.load(Ordering::Relaxed) {
                let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]});
                http.create(&objects::service(&inside, &format!("web-{made}"), spec)).await.ok();
                made += 1;
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
            made
        });
        Self { stop, made, namespace }
    }

    /// Stops, and waits until every Service has its report.
    async fn end(self, http: &Http) {
        self.stop.store(true, Ordering::Relaxed);
        let made = self.made.await.unwrap();
        let path = format!("/apis/portreeve.io/v1alpha1/namespaces/{}/servicetraffics", self.namespace);
        eventually("every Service has its report", async || {
            let reports = http.get(&path).await.ok()["items"].as_array().map_or(0, Vec::len);
            holds(reports == made, (reports, made))
        })
        .await;
        assert!(made > 0);
    }
}

/// What an operator asked for: verb and resource, when the request came and when it was answered, and the answer.
#[derive(Clone, Debug)]
struct Request {
    resource: String,
    came: String,
    answered: String,
    code: i64,
}

/// The writes of one operator. Events may come late: they speak of the past and change nothing.
fn writes(site: &Site, user: &str) -> Vec<Request> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = site.audit().into_iter().filter(|event| event["impersonatedUser"]["username"] == user);
    let written = all.filter(|event| ["create", "update", "patch", "delete"].contains(&text(&event["verb"]).as_str()));
    let requests = written.map(|event| Request {
        resource: text(&event["objectRef"]["resource"]),
        came: text(&event["requestReceivedTimestamp"]),
        answered: text(&event["stageTimestamp"]),
        code: event["responseStatus"]["code"].as_i64().unwrap_or_default(),
    });
    requests.filter(|request| request.resource != "events").collect()
}

/// Asserts that everything `first` wrote was answered before anything `second` wrote came, the lease last and first.
fn one_after_the_other(site: &Site, first: &str, second: &str) {
    let (is_lease, done) = (|one: &&Request| one.resource == "leases", |one: &&Request| one.code < 300);
    let (before, after) = (writes(site, first), writes(site, second));
    let last = before.iter().filter(|one| !is_lease(one)).map(|one| &one.answered).max().unwrap();
    let next = after.iter().filter(|one| !is_lease(one)).map(|one| &one.came).min().unwrap();
    assert!(last < next, "{first} still wrote at {last}, {second} began at {next}");
    let taken = after.iter().filter(is_lease).filter(done).map(|one| &one.came).min().unwrap();
    assert!(last < taken && taken < next, "the lease was taken at {taken}, between {last} and {next}");
}

/// Asserts that the last thing `first` did was to give the lease back, and that `second` took it only then.
fn given_back(site: &Site, first: &str, second: &str) {
    let lease = |user| writes(site, user).into_iter().filter(|one| one.resource == "leases").collect::<Vec<_>>();
    let released = lease(first).into_iter().max_by(|one, other| one.came.cmp(&other.came)).unwrap();
    assert_eq!(released.code, 200, "{released:?}");
    let others = writes(site, first).into_iter().filter(|one| one.resource != "leases");
    assert!(others.map(|one| one.answered).max().unwrap() < released.came, "work outlived the lease");
    let taken = lease(second).into_iter().filter(|one| one.code < 300).map(|one| one.came).min().unwrap();
    assert!(released.came < taken, "given back at {}, taken at {taken}", released.came);
}

#[tokio::test]
async fn a_leader_that_is_asked_to_go_hands_over_at_once_and_writes_no_more() {
    let site = alone().await;
    let http = site.http().await;
    let (leader, follower) = pair(&site, ["asked", "heir"]).await;
    let work = Work::begin(&site).await;
    eventually("the leader is at work", async || holds(writes(&site, "asked").len() > 20, "few writes")).await;
    let asked = Instant::now();
    leader.signal(Signal::SIGTERM);
    comes_to_lead(&follower).await;
    eprintln!("hand-over after SIGTERM: {} ms", asked.elapsed().as_millis());
    work.end(&http).await;
    leader.stop();
    one_after_the_other(&site, "asked", "heir");
    given_back(&site, "asked", "heir");
    assert!(leads(&follower).await);
    follower.stop();
}

#[tokio::test]
async fn a_leader_that_is_killed_is_followed_once_its_lease_has_run_out() {
    let site = alone().await;
    let http = site.http().await;
    let (leader, follower) = pair(&site, ["killed", "next"]).await;
    let work = Work::begin(&site).await;
    eventually("the leader is at work", async || holds(writes(&site, "killed").len() > 20, "few writes")).await;
    let killed = Instant::now();
    leader.kill();
    comes_to_lead(&follower).await;
    eprintln!("hand-over after SIGKILL, with a lease of 3 s: {} ms", killed.elapsed().as_millis());
    work.end(&http).await;
    one_after_the_other(&site, "killed", "next");
    follower.stop();
}

#[tokio::test]
async fn a_leader_that_stood_still_finds_that_it_leads_no_more_and_leaves_all_to_its_follower() {
    let site = alone().await;
    let http = site.http().await;
    let (leader, follower) = pair(&site, ["asleep", "awake"]).await;
    let before = Work::begin(&site).await;
    eventually("the leader is at work", async || holds(writes(&site, "asleep").len() > 20, "few writes")).await;
    before.end(&http).await;
    leader.signal(Signal::SIGSTOP);
    comes_to_lead(&follower).await;
    // What the sleeper finds when it wakes is much to do.
    let work = Work::begin(&site).await;
    eventually("the follower is at work", async || holds(writes(&site, "awake").len() > 20, "few writes")).await;
    leader.signal(Signal::SIGCONT);
    eventually("the sleeper knows", async || holds(!leads(&leader).await, "it leads")).await;
    work.end(&http).await;
    one_after_the_other(&site, "asleep", "awake");
    // It is a good follower again.
    follower.stop();
    comes_to_lead(&leader).await;
    leader.stop();
}
