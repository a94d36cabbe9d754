//! The process's metrics under the names that dashboards and alerts for controllers already know.
//!
//! Names follow controller-runtime and client-go, so that existing boards work unchanged; our own start with `portreeve_`.
//! Every label value is an enum or a [`Label`] fixed at compile time: no name or error text of a cluster becomes a series.

mod labels;
mod process;
mod sets;
mod text;

use std::sync::{Arc, RwLock};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry};

pub use labels::{CertificateKind, Code, Label, ReconcileResult, Verb};
pub use sets::{
    CertificateMetrics, ClientMetrics, LeaderMetrics, Name, QueueMetrics, ReconcileMetrics, WebhookMetrics,
};
pub use text::Format;

/// Bounds, in seconds, for what we do ourselves: microseconds for a decision up to seconds for a pass over a cluster.
pub const OWN_BUCKETS: [f64; 22] = [
    0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05,
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// All metrics of one process; clones share the registry.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<RwLock<Registry>>,
    /// `controller_runtime_reconcile_*`, workers.
    pub reconcile: ReconcileMetrics,
    /// `workqueue_*`.
    pub queue: QueueMetrics,
    /// `controller_runtime_webhook_*`.
    pub webhook: WebhookMetrics,
    /// `rest_client_*`.
    pub client: ClientMetrics,
    /// `leader_election_master_status`.
    pub leader: LeaderMetrics,
    /// `certwatcher_*` and `portreeve_certificate_expiry_seconds`.
    pub certificate: CertificateMetrics,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

impl Metrics {
    /// The conventional metrics, those of the process itself, and `portreeve_build_info` with `version`.
    #[must_use]
    pub fn new(version: &'static str) -> Self {
        let mut registry = Registry::default();
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build { version }).set(1);
        registry.register("portreeve_build_info", "Always 1; the version of the program stands in the label", build);
        registry.register_collector(Box::new(process::ProcessCollector::new()));
        Self {
            reconcile: ReconcileMetrics::register(&mut registry),
            queue: QueueMetrics::register(&mut registry),
            webhook: WebhookMetrics::register(&mut registry),
            client: ClientMetrics::register(&mut registry),
            leader: LeaderMetrics::register(&mut registry),
            certificate: CertificateMetrics::register(&mut registry),
            registry: Arc::new(RwLock::new(registry)),
        }
    }

    /// Adds a metric of the caller's own. A counter's `name` comes without `_total`: the encoder appends it.
    pub fn register(&self, name: &'static str, help: &'static str, metric: impl Metric) {
        self.registry.write().unwrap_or_else(std::sync::PoisonError::into_inner).register(name, help, metric);
    }

    /// All metrics as text in the given format.
    ///
    /// # Errors
    /// When a metric cannot be encoded.
    pub fn encode(&self, format: Format) -> Result<String, std::fmt::Error> {
        let registry = self.registry.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        text::encode(&registry, format)
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
