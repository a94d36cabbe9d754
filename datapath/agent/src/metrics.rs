//! The agent's own metrics. Labels are enums; no name of an object becomes a series.

use crate::state::State;
use crate::watch::Kind;
use portreeve_runtime::metrics::{Label, Metrics, OWN_BUCKETS};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: Label,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: Label,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: Label,
}

/// Handles of the agent's metrics; clones share the values.
#[derive(Clone, Debug)]
pub(crate) struct AgentMetrics {
    services: Family<ByState, Gauge>,
    frontends: Gauge,
    backends: Gauge,
    compile: Histogram,
    bad_objects: Family<ByKind, Gauge>,
    watch_errors: Family<ByKind, Counter>,
    status_writes: Family<ByResult, Counter>,
}

impl AgentMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let own = Self {
            services: Family::default(),
            frontends: Gauge::default(),
            backends: Gauge::default(),
            compile: Histogram::new(OWN_BUCKETS),
            bad_objects: Family::default(),
            watch_errors: Family::default(),
            status_writes: Family::default(),
        };
        let Self { services, frontends, backends, compile, bad_objects, watch_errors, status_writes } = own.clone();
        metrics.register("portreeve_agent_services", "Services by what this node does with them", services);
        metrics.register("portreeve_agent_frontends", "Frontends of claimed Services", frontends);
        metrics.register("portreeve_agent_local_backends", "Ready local backends of claimed Services", backends);
        metrics.register("portreeve_agent_compile_seconds", "Time to bring the table in step with one event", compile);
        metrics.register("portreeve_agent_bad_objects", "Objects that cannot be read, by kind", bad_objects);
        metrics.register("portreeve_agent_watch_errors", "Failures of watches, by kind", watch_errors);
        metrics.register("portreeve_agent_status_writes", "Writes of NodeDatapath, by result", status_writes);
        for kind in Kind::ALL {
            own.watch_errors.get_or_create_owned(&ByKind { kind: Label(kind.as_str()) });
        }
        own
    }

    /// One event was taken in so many seconds.
    pub(crate) fn compiled(&self, seconds: f64) {
        self.compile.observe(seconds);
    }

    /// A watch failed.
    pub(crate) fn watch_failed(&self, kind: Kind) {
        self.watch_errors.get_or_create(&ByKind { kind: Label(kind.as_str()) }).inc();
    }

    /// A write of the report ended.
    pub(crate) fn wrote(&self, success: bool) {
        let result = Label(if success { "success" } else { "error" });
        self.status_writes.get_or_create(&ByResult { result }).inc();
    }

    /// Sizes, as they are now.
    pub(crate) fn observe(&self, state: &State) {
        let counts = state.compiled().counts;
        let gauge = |state| self.services.get_or_create_owned(&ByState { state: Label(state) });
        gauge("seen").set(number(counts.seen));
        gauge("claimed").set(number(counts.claimed));
        gauge("refused").set(number(counts.refused));
        self.frontends.set(number(counts.frontends));
        self.backends.set(number(counts.ready_backends));
        for kind in Kind::ALL {
            let bad = state.bad().keys().filter(|(of, _)| *of == kind).count();
            self.bad_objects.get_or_create(&ByKind { kind: Label(kind.as_str()) }).set(number(bad));
        }
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
