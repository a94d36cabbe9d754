//! The watches that feed the index: the only part of the cache with a client.

use super::Cache;
use super::index::Index;
use super::kinds::{Cached, Source};
use futures::stream::{BoxStream, SelectAll, StreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use portreeve_crds::{ClusterTrafficPolicy, TrafficPolicy};
use portreeve_runtime::metrics::{Label, Metrics};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// Time in which events are gathered before a snapshot is published: a rolling update of a large namespace must not copy
/// that namespace's lists once per Pod.
const GATHER: Duration = Duration::from_millis(50);

/// Objects per page of a list. Pages are parsed whole before they are trimmed, so their size bounds the peak.
const PAGE: u32 = 200;

/// Failures of the watches.
#[derive(Clone, Debug, Default)]
pub struct WatchMetrics {
    errors: Family<Watched, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Watched {
    kind: Label,
}

impl WatchMetrics {
    /// Registers them.
    #[must_use]
    pub fn register(metrics: &Metrics) -> Self {
        let this = Self::default();
        metrics.register(
            "portreeve_webhook_watch_errors",
            "Watches that failed and were started anew",
            this.errors.clone(),
        );
        this
    }
}

/// One event on its way into the index, or the watch that failed.
type Step = Result<Box<dyn FnOnce(&mut Index) + Send>, (Source, watcher::Error)>;

/// Watches everything and publishes snapshots until `stop` falls.
pub async fn run(client: Client, cache: Arc<Cache>, metrics: WatchMetrics, stop: CancellationToken) {
    let mut steps = SelectAll::new();
    steps.push(watch::<ClusterTrafficPolicy>(&client));
    steps.push(watch::<TrafficPolicy>(&client));
    steps.push(watch::<Service>(&client));
    steps.push(watch::<EndpointSlice>(&client));
    steps.push(watch::<PartialObjectMeta<Namespace>>(&client));
    steps.push(watch::<PartialObjectMeta<Node>>(&client));
    tokio::select! {
        () = stop.cancelled() => {}
        () = feed(steps, &cache, &metrics) => tracing::error!("Every watch ended"),
    }
}

fn watch<K>(client: &Client) -> BoxStream<'static, Step>
where
    K: Cached + Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let events = watcher(Api::<K>::all(client.clone()), watcher::Config::default().page_size(PAGE)).default_backoff();
    let step = |event: watcher::Result<watcher::Event<K>>| -> Step {
        match event {
            Ok(event) => Ok(Box::new(move |index: &mut Index| index.apply(event))),
            Err(error) => Err((K::SOURCE, error)),
        }
    };
    events.map(step).boxed()
}

async fn feed(mut steps: SelectAll<BoxStream<'static, Step>>, cache: &Cache, metrics: &WatchMetrics) {
    let mut index = Index::new();
    while let Some(step) = steps.next().await {
        take(step, &mut index, metrics);
        let publish_at = Instant::now() + GATHER;
        while let Ok(Some(step)) = timeout_at(publish_at, steps.next()).await {
            take(step, &mut index, metrics);
        }
        if index.changed() {
            cache.publish(index.snapshot());
        }
    }
}

fn take(step: Step, index: &mut Index, metrics: &WatchMetrics) {
    match step {
        Ok(apply) => apply(index),
        Err((source, error)) => {
            metrics.errors.get_or_create(&Watched { kind: Label(source.as_str()) }).inc();
            tracing::warn!(kind = source.as_str(), %error, "Watch failed, starting it anew");
        }
    }
}
