//! Writes NodeDatapath: the only step with a client that writes. On change only, and not for every Pod of a rollout.

use crate::metrics::AgentMetrics;
use crate::report::Report;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource as _};
use portreeve_crds::names::{GROUP, MANAGER_AGENT, VERSION};
use portreeve_crds::{NodeDatapath, node_datapath::NodeDatapathStatus};
use serde_json::json;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Least time between two writes of anything.
const REST: Duration = Duration::from_secs(1);
/// Least time between two writes that differ in numbers only.
const NUMBERS_REST: Duration = Duration::from_secs(30);
/// How often the object is looked at although nothing is new: someone may have deleted or changed it.
const LOOK: Duration = Duration::from_secs(60);
/// Longest wait after a failure.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// What has been published and when.
#[derive(Debug, Default)]
struct Past {
    published: Option<Report>,
    at: Option<Instant>,
    failures: u32,
}

impl Past {
    /// When `wanted` is to be published.
    fn due(&self, wanted: &Report, now: Instant) -> Instant {
        let Some(at) = self.at else { return now };
        if self.failures > 0 {
            return at + REST.saturating_mul(1 << self.failures.min(6)).min(MAX_BACKOFF);
        }
        match &self.published {
            Some(published) if published == wanted => at + LOOK,
            Some(published) if wanted.differs_in_numbers_only(published) => at + NUMBERS_REST,
            _ => at + REST,
        }
    }
}

/// Publishes the newest of `reports` until `stop` falls.
pub(crate) async fn run(
    client: Client,
    mut reports: watch::Receiver<Option<Report>>,
    metrics: AgentMetrics,
    stop: CancellationToken,
) {
    let api = Api::<NodeDatapath>::all(client);
    let mut past = Past::default();
    loop {
        let wanted = reports.borrow_and_update().clone();
        let due = wanted.as_ref().map(|report| past.due(report, Instant::now()));
        tokio::select! {
            () = stop.cancelled() => return,
            changed = reports.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            () = wait(due) => {}
        }
        let Some(report) = wanted else { continue };
        let outcome = tokio::select! {
            () = stop.cancelled() => return,
            outcome = publish(&api, &report) => outcome,
        };
        past.at = Some(Instant::now());
        match outcome {
            Ok(written) => {
                if written {
                    metrics.wrote(true);
                }
                past.failures = 0;
                past.published = Some(report);
            }
            Err(error) => {
                metrics.wrote(false);
                past.failures += 1;
                tracing::warn!(error = %error, failures = past.failures, "NodeDatapath could not be written");
            }
        }
    }
}

async fn wait(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Makes the object say what `report` says. Tells whether something had to be written.
async fn publish(api: &Api<NodeDatapath>, report: &Report) -> Result<bool, kube::Error> {
    let params = PatchParams::apply(MANAGER_AGENT).force();
    let name = report.node_name();
    let there = api.get_opt(name).await?.filter(|there| report.owns(there));
    let (object, mut written) = match there {
        Some(there) => (there, false),
        None => (api.patch(name, &params, &Patch::Apply(report.object())).await?, true),
    };
    let status = report.status(&object, Timestamp::now());
    if object.status.as_ref() != Some(&status) {
        api.patch_status(name, &params, &Patch::Apply(applied_status(name, &status))).await?;
        written = true;
    }
    Ok(written)
}

fn applied_status(name: &str, status: &NodeDatapathStatus) -> serde_json::Value {
    json!({
        "apiVersion": format!("{GROUP}/{VERSION}"), "kind": NodeDatapath::kind(&()),
        "metadata": {"name": name}, "status": status,
    })
}

#[cfg(test)]
mod tests;
