//! The conventional metrics, one struct per prefix. Counter names stand without the `_total` that the encoder appends.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::OWN_BUCKETS;
use super::labels::{CertificateKind, Code, Label, ReconcileResult, Verb};

type Seconds = Gauge<f64, AtomicU64>;
type Times<L> = Family<L, Histogram, fn() -> Histogram>;

fn own_buckets() -> Histogram {
    Histogram::new(OWN_BUCKETS)
}

fn times<L: Clone + std::hash::Hash + Eq>() -> Times<L> {
    Family::new_with_constructor(own_buckets)
}

/// `name`, the one label of queues and leases.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Name {
    /// Which queue or lease.
    pub name: Label,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Controller {
    controller: Label,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconcile {
    controller: Label,
    result: ReconcileResult,
}

/// Reconciles per controller.
#[derive(Clone, Debug)]
pub struct ReconcileMetrics {
    total: Family<Reconcile, Counter>,
    errors: Family<Controller, Counter>,
    time: Times<Controller>,
    active: Family<Controller, Gauge>,
    max: Family<Controller, Gauge>,
}

impl ReconcileMetrics {
    pub(super) fn register(r: &mut Registry) -> Self {
        let s = Self {
            total: Family::default(),
            errors: Family::default(),
            time: times(),
            active: Family::default(),
            max: Family::default(),
        };
        r.register("controller_runtime_reconcile", "Reconciles by controller and result", s.total.clone());
        r.register("controller_runtime_reconcile_errors", "Failed reconciles by controller", s.errors.clone());
        r.register("controller_runtime_reconcile_time_seconds", "Length of a reconcile", s.time.clone());
        r.register("controller_runtime_active_workers", "Reconciles under way", s.active.clone());
        r.register("controller_runtime_max_concurrent_reconciles", "Most reconciles at once", s.max.clone());
        s
    }

    /// Makes the controller's series exist before its first reconcile, so that rates start from zero.
    pub fn declare(&self, controller: Label, max_concurrent: i64) {
        use ReconcileResult::{Error, Requeue, RequeueAfter, Success};
        for result in [Success, Error, Requeue, RequeueAfter] {
            drop(self.total.get_or_create(&Reconcile { controller, result }));
        }
        let key = Controller { controller };
        drop(self.errors.get_or_create(&key));
        drop(self.time.get_or_create(&key));
        drop(self.active.get_or_create(&key));
        self.max.get_or_create(&key).set(max_concurrent);
    }

    /// A reconcile began; the gauge falls again when the guard is dropped, also when the future is cancelled.
    #[must_use = "dropping the guard at once counts a worker that never worked"]
    pub fn begin(&self, controller: Label) -> ActiveGuard {
        let gauge = self.active.get_or_create_owned(&Controller { controller });
        ActiveGuard::new(gauge)
    }

    /// A reconcile ended after `seconds`.
    pub fn end(&self, controller: Label, result: ReconcileResult, seconds: f64) {
        self.total.get_or_create(&Reconcile { controller, result }).inc();
        if result == ReconcileResult::Error {
            self.errors.get_or_create(&Controller { controller }).inc();
        }
        self.time.get_or_create(&Controller { controller }).observe(seconds);
    }
}

/// Counts one more while it lives.
#[derive(Debug)]
pub struct ActiveGuard(Gauge);

impl ActiveGuard {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Work queues by name, in client-go's words.
#[derive(Clone, Debug)]
pub struct QueueMetrics {
    /// Objects that wait.
    pub depth: Family<Name, Gauge>,
    /// Objects put in.
    pub adds: Family<Name, Counter>,
    /// Objects put in again after a failure.
    pub retries: Family<Name, Counter>,
    /// Seconds from put in to taken out.
    pub queue_duration: Times<Name>,
    /// Seconds from taken out to done.
    pub work_duration: Times<Name>,
    /// Seconds of work under way, summed over the workers.
    pub unfinished: Family<Name, Seconds>,
    /// Seconds that the slowest worker has been at it.
    pub longest: Family<Name, Seconds>,
}

impl QueueMetrics {
    pub(super) fn register(r: &mut Registry) -> Self {
        let s = Self {
            depth: Family::default(),
            adds: Family::default(),
            retries: Family::default(),
            queue_duration: times(),
            work_duration: times(),
            unfinished: Family::default(),
            longest: Family::default(),
        };
        r.register("workqueue_depth", "Objects that wait", s.depth.clone());
        r.register("workqueue_adds", "Objects put into the queue", s.adds.clone());
        r.register("workqueue_retries", "Objects put in again after a failure", s.retries.clone());
        r.register("workqueue_queue_duration_seconds", "Time from put in to taken out", s.queue_duration.clone());
        r.register("workqueue_work_duration_seconds", "Time from taken out to done", s.work_duration.clone());
        r.register("workqueue_unfinished_work_seconds", "Time of work under way, summed", s.unfinished.clone());
        r.register("workqueue_longest_running_processor_seconds", "Age of the oldest work", s.longest.clone());
        s
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Webhook {
    webhook: Label,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WebhookCode {
    webhook: Label,
    code: Code,
}

/// Admission requests by webhook path.
#[derive(Clone, Debug)]
pub struct WebhookMetrics {
    requests: Family<WebhookCode, Counter>,
    latency: Times<Webhook>,
    in_flight: Family<Webhook, Gauge>,
}

impl WebhookMetrics {
    pub(super) fn register(r: &mut Registry) -> Self {
        let s = Self { requests: Family::default(), latency: times(), in_flight: Family::default() };
        r.register("controller_runtime_webhook_requests", "Admission requests by HTTP status", s.requests.clone());
        r.register("controller_runtime_webhook_latency_seconds", "Time to answer a request", s.latency.clone());
        r.register("controller_runtime_webhook_requests_in_flight", "Requests under way", s.in_flight.clone());
        s
    }

    /// A request came in.
    #[must_use = "dropping the guard at once counts a request that was never served"]
    pub fn begin(&self, webhook: Label) -> ActiveGuard {
        ActiveGuard::new(self.in_flight.get_or_create_owned(&Webhook { webhook }))
    }

    /// The request was answered after `seconds`.
    pub fn end(&self, webhook: Label, code: impl Into<Code>, seconds: f64) {
        self.requests.get_or_create(&WebhookCode { webhook, code: code.into() }).inc();
        self.latency.get_or_create(&Webhook { webhook }).observe(seconds);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    code: Code,
    method: Verb,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestVerb {
    verb: Verb,
}

/// Our requests to the API server.
#[derive(Clone, Debug)]
pub struct ClientMetrics {
    requests: Family<Request, Counter>,
    duration: Times<RequestVerb>,
}

impl ClientMetrics {
    pub(super) fn register(r: &mut Registry) -> Self {
        let s = Self { requests: Family::default(), duration: times() };
        r.register("rest_client_requests", "Requests to the API server by status and method", s.requests.clone());
        r.register("rest_client_request_duration_seconds", "Time to the head of the answer", s.duration.clone());
        s
    }

    /// One attempt ended after `seconds`.
    pub fn end(&self, method: Verb, code: Code, seconds: f64) {
        self.requests.get_or_create(&Request { code, method }).inc();
        self.duration.get_or_create(&RequestVerb { verb: method }).observe(seconds);
    }
}

/// Who leads.
#[derive(Clone, Debug)]
pub struct LeaderMetrics {
    status: Family<Name, Gauge>,
}

impl LeaderMetrics {
    pub(super) fn register(r: &mut Registry) -> Self {
        let s = Self { status: Family::default() };
        r.register("leader_election_master_status", "1 while this process holds the lease", s.status.clone());
        s
    }

    /// Whether this process leads.
    pub fn set(&self, lease: Label, leads: bool) {
        self.status.get_or_create(&Name { name: lease }).set(i64::from(leads));
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: CertificateKind,
}

/// The certificates that a server lives by.
#[derive(Clone, Debug)]
pub struct CertificateMetrics {
    /// Times a certificate was read.
    pub reads: Counter,
    /// Times it could not be used.
    pub errors: Counter,
    expiry: Family<Kind, Gauge>,
}

impl CertificateMetrics {
    pub(super) fn register(r: &mut Registry) -> Self {
        let s = Self { reads: Counter::default(), errors: Counter::default(), expiry: Family::default() };
        r.register("certwatcher_read_certificate", "Times a certificate was read", s.reads.clone());
        r.register("certwatcher_read_certificate_errors", "Times it could not be used", s.errors.clone());
        r.register("portreeve_certificate_expiry_seconds", "End of validity, Unix time", s.expiry.clone());
        s
    }

    /// The certificate of this kind ends at `not_after`, in Unix seconds.
    pub fn set_expiry(&self, kind: CertificateKind, not_after: i64) {
        self.expiry.get_or_create(&Kind { kind }).set(not_after);
    }
}
