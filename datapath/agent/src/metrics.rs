//! The agent's own metrics. Labels are enums; no name of an object becomes a series.

use crate::state::State;
use crate::watch::Kind;
use http::StatusCode;
use jiff::Timestamp;
use portreeve_runtime::metrics::{Label, Metrics, OWN_BUCKETS};
use portreeve_table::BackendKind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByBackendAndResult {
    backend: Label,
    result: Label,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCode {
    code: Label,
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
    program_seconds: Histogram,
    in_step_seconds: Histogram,
    rounds: Family<ByBackendAndResult, Counter>,
    repairs: Counter,
    repairs_asked: Counter,
    events_dropped: Counter,
    health_checks: Family<ByCode, Counter>,
    health_check_ports: Gauge,
    sync_proxy_rules: Histogram,
    last_sync: Gauge<f64, AtomicU64>,
    network_programming: Histogram,
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
            program_seconds: Histogram::new(OWN_BUCKETS),
            in_step_seconds: Histogram::new(OWN_BUCKETS),
            rounds: Family::default(),
            repairs: Counter::default(),
            repairs_asked: Counter::default(),
            events_dropped: Counter::default(),
            health_checks: Family::default(),
            health_check_ports: Gauge::default(),
            sync_proxy_rules: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            last_sync: Gauge::default(),
            network_programming: Histogram::new(network_programming_buckets()),
        };
        let Self { services, frontends, backends, compile, bad_objects, watch_errors, status_writes, .. } = own.clone();
        let Self { program_seconds, in_step_seconds, rounds, repairs, repairs_asked, .. } = own.clone();
        let Self { sync_proxy_rules, last_sync, network_programming, health_checks, health_check_ports, .. } =
            own.clone();
        metrics.register("portreeve_agent_services", "Services by what this node does with them", services);
        metrics.register("portreeve_agent_frontends", "Frontends of claimed Services", frontends);
        metrics.register("portreeve_agent_local_backends", "Ready local backends of claimed Services", backends);
        metrics.register("portreeve_agent_compile_seconds", "Time to bring the table in step with one event", compile);
        metrics.register("portreeve_agent_bad_objects", "Objects that cannot be read, by kind", bad_objects);
        metrics.register("portreeve_agent_watch_errors", "Failures of watches, by kind", watch_errors);
        metrics.register("portreeve_agent_status_writes", "Writes of NodeDatapath, by result", status_writes);
        metrics.register("portreeve_agent_program_seconds", "Time that one round of programming took", program_seconds);
        metrics.register(
            "portreeve_agent_in_step_seconds",
            "Time from the first of the changes that a round programmed to the end of the round",
            in_step_seconds,
        );
        metrics.register("portreeve_agent_rounds", "Rounds of programming, by backend and result", rounds);
        metrics.register("portreeve_agent_repairs", "Times that others' changes of our rules were found", repairs);
        metrics.register(
            "portreeve_agent_repairs_asked",
            "Times that a person had everything made anew",
            repairs_asked,
        );
        metrics.register("portreeve_agent_health_checks", "Health checks answered, by status code", health_checks);
        metrics.register(
            "portreeve_agent_health_check_ports",
            "Health check node ports that are answered here and not by kube-proxy",
            health_check_ports,
        );
        // kube-proxy's own names, so that its dashboards and objectives go on.
        metrics.register(
            "kubeproxy_sync_proxy_rules_duration_seconds",
            "SyncProxyRules latency in seconds, as kube-proxy counts it",
            sync_proxy_rules,
        );
        metrics.register(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
            "The last time proxy rules were successfully synced, as kube-proxy counts it",
            last_sync,
        );
        metrics.register(
            "kubeproxy_network_programming_duration_seconds",
            "In cluster network programming latency in seconds, as kube-proxy counts it",
            network_programming,
        );
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

    /// A round of programming ended after so long; the oldest change in it was taken so long ago.
    pub(crate) fn programmed(&self, backend: BackendKind, success: bool, took: Duration, waited: Option<Duration>) {
        let backend = Label(match backend {
            BackendKind::Ebpf => "ebpf",
            BackendKind::Nftables => "nftables",
            BackendKind::Iptables => "iptables",
        });
        let result = Label(if success { "success" } else { "error" });
        self.rounds.get_or_create(&ByBackendAndResult { backend, result }).inc();
        self.program_seconds.observe(took.as_secs_f64());
        self.sync_proxy_rules.observe(took.as_secs_f64());
        if success {
            self.last_sync.set(Timestamp::now().as_duration().as_secs_f64());
            if let Some(waited) = waited {
                self.in_step_seconds.observe(waited.as_secs_f64());
            }
        }
    }

    /// An endpoint change became true in the kernel so long after what triggered it.
    pub(crate) fn endpoints_programmed(&self, seconds: f64) {
        self.network_programming.observe(seconds);
    }

    /// Others changed our rules.
    pub(crate) fn repaired(&self) {
        self.repairs.inc();
    }

    /// Somebody had everything made anew.
    pub(crate) fn repair_asked(&self) {
        self.repairs_asked.inc();
    }

    /// An Event found no room on its way.
    pub(crate) fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// A health check was answered.
    pub(crate) fn answered(&self, status: StatusCode) {
        let code = match status {
            StatusCode::OK => "200",
            StatusCode::SERVICE_UNAVAILABLE => "503",
            _ => "404",
        };
        self.health_checks.get_or_create_owned(&ByCode { code: Label(code) }).inc();
    }

    /// So many health check node ports are answered here.
    pub(crate) fn answers_for(&self, ports: usize) {
        self.health_check_ports.set(number(ports));
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

/// kube-proxy's: 0.25 s and 0.5 s, every second to 60, every 5 s to 120, every 60 s to 300.
fn network_programming_buckets() -> impl Iterator<Item = f64> {
    let seconds = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(60));
    [0.25, 0.5].into_iter().chain(seconds.map(f64::from))
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
