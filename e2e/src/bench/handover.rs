//! How long nobody leads when a leader leaves, and when it is killed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, pin_mut};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::runtime::{WatchStreamExt as _, watcher};
use nix::sys::signal::Signal;
use portreeve_crds::names;

use super::programs::free_address;
use super::{Bench, Row, world};
use crate::process::{Child, Spec};

const GRACEFUL: usize = 9;
const KILLED: usize = 3;
/// A lease is 15 s long; anything beyond this is a fault, not a slow run.
const WITHIN: Duration = Duration::from_secs(60);

pub(super) async fn measure(bench: &Bench) -> Result<Vec<Row>> {
    let namespace = world::named("Namespace", "v1", names::NAMESPACE);
    world::create(bench, std::iter::once(("/api/v1/namespaces".to_owned(), namespace))).await?;
    let step = bench.progress.step(format!("{GRACEFUL} hand-overs, then {KILLED} kills of the leader"));
    let mut pair = [start(bench, 0)?, start(bench, 1)?];
    let mut next = 2;
    let mut leads = holder(bench, |_| true).await?;
    let (mut graceful, mut killed) = (Vec::new(), Vec::new());
    for round in 0..GRACEFUL + KILLED {
        step.note(&format!("{round}"));
        // The one that follows must be ready to lead.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let leader = pair.iter_mut().find(|candidate| leads.starts_with(&candidate.name));
        let leader = leader.with_context(|| format!("{leads} is none of ours"))?;
        let signal = if round < GRACEFUL { Signal::SIGTERM } else { Signal::SIGKILL };
        let before = leads.clone();
        let began = Instant::now();
        leader.process.signal(signal)?;
        leads = holder(bench, |now| now != before).await?;
        let took = began.elapsed().as_secs_f64();
        if round < GRACEFUL {
            graceful.push(took)
        } else {
            killed.push(took)
        }
        leader.process.wait()?;
        *leader = start(bench, next)?;
        next += 1;
    }
    step.done();
    let worst = |rounds: &[f64]| rounds.iter().copied().fold(0.0, f64::max);
    Ok(vec![
        Row::new("handover-graceful", "another operator leads after SIGTERM", "s", &graceful)
            .goal("≤ 1 s", worst(&graceful) <= 1.0),
        Row::new("handover-killed", "another operator leads after SIGKILL", "s", &killed)
            .goal("≤ 16 s", worst(&killed) <= 16.0),
    ])
}

struct Candidate {
    name: String,
    process: Child,
}

fn start(bench: &Bench, number: usize) -> Result<Candidate> {
    let name = format!("candidate-{number}");
    let process = spec(bench, &name)?.0.spawn()?;
    Ok(Candidate { name, process })
}

/// An operator of this name, and the address of its metrics. It registers a webhook at which nobody listens, which fails
/// open.
pub(super) fn spec(bench: &Bench, name: &str) -> Result<(Spec, SocketAddr)> {
    let (admin, webhook) = (free_address()?, free_address()?);
    let spec = Spec::new(name, &bench.programs.operator, bench.run.log().join(format!("{name}.log")))
        .args(["--identity", name, "--admin-address", &admin.to_string()])
        .args(["--webhook-url", &format!("https://{webhook}"), "--webhook-names", "127.0.0.1", "--kubeconfig"])
        .arg(bench.plane.kubeconfig());
    Ok((spec, admin))
}

/// Who holds the lease, once it is somebody that `wanted` takes.
async fn holder(bench: &Bench, wanted: impl Fn(&str) -> bool) -> Result<String> {
    let api: Api<Lease> = Api::namespaced(bench.client.clone(), names::NAMESPACE);
    let only = watcher::Config::default().fields(&format!("metadata.name={}", names::OPERATOR));
    let news = watcher(api, only).default_backoff().applied_objects();
    pin_mut!(news);
    let found = async {
        while let Some(lease) = news.next().await {
            let holder = lease?.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
            if !holder.is_empty() && wanted(&holder) {
                return anyhow::Ok(Some(holder));
            }
        }
        Ok(None)
    };
    let found = tokio::time::timeout(WITHIN, found).await.context("nobody leads")??;
    ensure!(found.is_some(), "the watch of the lease ended");
    found.context("invariant: just looked")
}
