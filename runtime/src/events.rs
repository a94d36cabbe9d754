//! Events (`events.k8s.io/v1`) on state changes, each said once.
//!
//! A reason comes from an enum of the caller's, so that what can be said is known at compile time. The same words about the
//! same object within ten minutes are dropped: a reconcile that runs again says nothing new.

mod memory;

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use tokio::time::Instant;

use crate::metrics::Metrics;
use memory::{Memory, Said};

/// Longest note that the API server accepts, in bytes.
const LONGEST_NOTE: usize = 1024;

/// A reason for an event. Implement it for an enum.
pub trait EventReason {
    /// Why: CamelCase, at most 128 characters.
    fn reason(&self) -> &'static str;
    /// What was being done: CamelCase, at most 128 characters.
    fn action(&self) -> &'static str;
    /// Whether a person should look.
    fn warns(&self) -> bool;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fate {
    Published,
    Repeated,
    Failed,
}

impl EncodeLabelValue for Fate {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        std::fmt::Write::write_str(
            encoder,
            match self {
                Self::Published => "published",
                Self::Repeated => "repeated",
                Self::Failed => "failed",
            },
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FateLabel {
    fate: Fate,
}

/// Says what happened, as one component of one process.
pub struct Recorder {
    client: Client,
    controller: &'static str,
    instance: String,
    memory: Mutex<Memory>,
    started: Instant,
    counts: Family<FateLabel, Counter>,
}

impl Recorder {
    /// `controller` is the qualified name ("portreeve.io/operator"), `instance` this process among its replicas. Counts
    /// in `portreeve_events_total{fate}`; make one recorder per process.
    #[must_use]
    pub fn new(client: Client, controller: &'static str, instance: &str, metrics: &Metrics) -> Self {
        let counts = Family::<FateLabel, Counter>::default();
        metrics.register("portreeve_events", "Events by what became of them", counts.clone());
        Self {
            client,
            controller,
            instance: instance.to_owned(),
            memory: Mutex::new(Memory::default()),
            started: Instant::now(),
            counts,
        }
    }

    /// Says `note` about `regarding`, unless the same was said within ten minutes. An event is best effort: a failure is
    /// logged and counted, and the same words may be tried again at once.
    pub async fn say(&self, regarding: &ObjectReference, reason: &impl EventReason, note: &str) {
        let said = Said::new(regarding, reason.reason(), note);
        if !self.memory().is_news(&said, self.started.elapsed()) {
            return self.count(Fate::Repeated);
        }
        // Events about cluster-scoped objects live in `default`: the API server refuses any other namespace for them.
        let namespace = regarding.namespace.as_deref().unwrap_or("default");
        let event = self.event(namespace, regarding, reason, note, Timestamp::now());
        match Api::namespaced(self.client.clone(), namespace).create(&PostParams::default(), &event).await {
            Ok(_) => self.count(Fate::Published),
            Err(error) => {
                self.memory().forget(&said);
                self.count(Fate::Failed);
                tracing::warn!(%error, reason = reason.reason(), "Event could not be published");
            }
        }
    }

    fn event(
        &self,
        namespace: &str,
        regarding: &ObjectReference,
        reason: &impl EventReason,
        note: &str,
        now: Timestamp,
    ) -> Event {
        // Names hold 253 bytes; the object's own name comes first, so that events sort by it.
        let subject = regarding.name.as_deref().unwrap_or("unnamed");
        let subject = &subject[..subject.floor_char_boundary(200)];
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{subject}.{:x}", now.as_nanosecond())),
                namespace: Some(namespace.to_owned()),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(now)),
            type_: Some(if reason.warns() { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(reason.reason().to_owned()),
            action: Some(reason.action().to_owned()),
            note: Some(shortened(note).to_owned()),
            regarding: Some(regarding.clone()),
            reporting_controller: Some(self.controller.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, fate: Fate) {
        self.counts.get_or_create(&FateLabel { fate }).inc();
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").finish_non_exhaustive()
    }
}

/// The longest start of `note` that fits, cut between characters.
fn shortened(note: &str) -> &str {
    &note[..note.floor_char_boundary(LONGEST_NOTE)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_between_characters() {
        let note = "é".repeat(600);
        assert_eq!(shortened(&note).len(), 1024);
        let odd = format!("x{note}");
        assert_eq!(shortened(&odd).len(), 1023);
        assert_eq!(shortened("short"), "short");
    }
}
