//! Watches: one per kind, each a stream of events into the one channel that the engine reads.

use crate::index::{Delta, Event};
use crate::metrics::OperatorMetrics;
use futures::StreamExt as _;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Resource};
use portreeve_crds::names;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What all watches share.
#[derive(Clone)]
pub(crate) struct Watches {
    pub(crate) client: Client,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) metrics: OperatorMetrics,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Watches {
    /// Starts the watch of every kind that the index holds.
    pub(crate) fn start(&self, namespace: &str) {
        let everything = watcher::Config::default;
        let named = |name: &str| everything().fields(&format!("metadata.name={name}"));
        let cluster = || self.client.clone();
        self.spawn("services", Api::all(cluster()), everything(), Event::Service);
        self.spawn("endpointslices", Api::all(cluster()), everything(), Event::Slice);
        self.spawn("namespaces", Api::all(cluster()), everything(), Event::Namespace);
        self.spawn("nodes", Api::all(cluster()), everything(), Event::Node);
        self.spawn("clustertrafficpolicies", Api::all(cluster()), everything(), Event::ClusterPolicy);
        self.spawn("trafficpolicies", Api::all(cluster()), everything(), Event::Policy);
        self.spawn("servicetraffics", Api::all(cluster()), everything(), Event::Traffic);
        self.spawn("trafficmigrations", Api::all(cluster()), everything(), Event::Migration);
        self.spawn("trafficmigrationitems", Api::all(cluster()), everything(), Event::Item);
        self.spawn("datapathconfigs", Api::all(cluster()), everything(), Event::DatapathConfig);
        self.spawn("nodedatapaths", Api::all(cluster()), everything(), Event::NodeDatapath);
        let secrets = || Api::namespaced(cluster(), namespace);
        self.spawn("secrets", secrets(), named(names::SECRET_CA), Event::CaSecret);
        self.spawn("secrets", secrets(), named(names::SECRET_TLS), Event::TlsSecret);
        let ours = || named(names::WEBHOOK_CONFIGURATION);
        self.spawn("validatingwebhookconfigurations", Api::all(cluster()), ours(), Event::Validating);
        self.spawn("mutatingwebhookconfigurations", Api::all(cluster()), ours(), Event::Mutating);
    }

    fn spawn<K>(&self, kind: &'static str, api: Api<K>, config: watcher::Config, wrap: fn(Delta<K>) -> Event)
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let Self { events, metrics, stop, .. } = self.clone();
        let watch = async move {
            let mut stream = watcher(api, config).default_backoff().boxed();
            while let Some(event) = stream.next().await {
                match event {
                    Ok(event) => {
                        if events.send(wrap(delta(event))).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        metrics.watch_error(kind);
                        tracing::warn!(kind, %error, "Watch failed and begins anew");
                    }
                }
            }
        };
        self.tasks.spawn(async move { stop.run_until_cancelled(watch).await });
    }
}

fn delta<K>(event: watcher::Event<K>) -> Delta<K> {
    match event {
        watcher::Event::Apply(object) => Delta::Applied(object),
        watcher::Event::Delete(object) => Delta::Deleted(object),
        watcher::Event::Init => Delta::Restarted,
        watcher::Event::InitApply(object) => Delta::Listed(object),
        watcher::Event::InitDone => Delta::Synced,
    }
}
