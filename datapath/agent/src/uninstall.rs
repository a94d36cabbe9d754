//! Whether Portreeve is being taken off the cluster. A DaemonSet that goes takes its Pods along, so a SIGTERM after it has
//! gone is the end of Portreeve on this node; any other SIGTERM (an upgrade, a drained node) leaves forwarding in place.

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::core::PartialObjectMeta;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource as _};
use portreeve_crds::names;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;

/// What the watch has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uninstall(Arc<AtomicBool>);

impl Uninstall {
    /// The DaemonSet was there and is gone, or is going.
    pub(crate) fn under_way(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Watches the agent's DaemonSet in `namespace` until `stop` falls.
    pub(crate) async fn watch(self, client: Client, namespace: String, stop: CancellationToken) {
        let api = Api::<PartialObjectMeta<DaemonSet>>::namespaced(client, &namespace);
        let config = watcher::Config::default().fields(&format!("metadata.name={}", names::AGENT));
        let events = watcher(api, config).default_backoff();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow(events.boxed()) => {}
        }
    }

    async fn follow(
        &self,
        mut events: impl Stream<Item = Result<watcher::Event<PartialObjectMeta<DaemonSet>>, watcher::Error>> + Unpin,
    ) {
        let (mut known, mut listed) = (false, false);
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => listed = false,
                Ok(watcher::Event::InitApply(set) | watcher::Event::Apply(set)) => {
                    (known, listed) = (true, true);
                    self.tell(set.meta().deletion_timestamp.is_some());
                }
                Ok(watcher::Event::Delete(_)) => self.tell(true),
                // An agent that somebody runs without a DaemonSet has none to lose.
                Ok(watcher::Event::InitDone) => self.tell(known && !listed),
                // Its rights may have gone with it: what was seen before stays true.
                Err(error) => tracing::debug!(error = %error, "The agent's DaemonSet cannot be watched"),
            }
        }
    }

    fn tell(&self, gone: bool) {
        if self.0.swap(gone, Ordering::Relaxed) != gone && gone {
            tracing::info!("The agent's DaemonSet is gone: this node is cleared when this process is ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use watcher::Event;

    type Set = PartialObjectMeta<DaemonSet>;

    fn set(going: bool) -> Set {
        let time = going.then_some("2026-01-01T00:00:00Z");
        serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "DaemonSet",
            "metadata": {"name": names::AGENT, "namespace": "portreeve-system", "deletionTimestamp": time},
        }))
        .unwrap()
    }

    async fn after(events: impl IntoIterator<Item = Event<Set>>) -> bool {
        let uninstall = Uninstall::default();
        uninstall.follow(futures::stream::iter(events.into_iter().map(Ok).collect::<Vec<_>>())).await;
        uninstall.under_way()
    }

    fn listed(set: Option<Set>) -> Vec<Event<Set>> {
        let found = set.into_iter().map(Event::InitApply);
        [Event::Init].into_iter().chain(found).chain([Event::InitDone]).collect()
    }

    #[tokio::test]
    async fn only_a_daemon_set_that_was_there_can_be_gone() {
        let there = || listed(Some(set(false)));
        assert!(!after(listed(None)).await);
        assert!(!after(there()).await);
        assert!(after([there(), vec![Event::Delete(set(false))]].concat()).await);
        assert!(after([there(), vec![Event::Apply(set(true))]].concat()).await, "a deletion in the foreground");
        assert!(after([there(), listed(None)].concat()).await, "it went while the watch was broken");
        let again = vec![Event::Delete(set(false)), Event::Apply(set(false))];
        assert!(!after([there(), again].concat()).await, "it was made anew");
    }
}
