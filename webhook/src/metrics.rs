//! What the webhook counts about its decisions. Labels come from closed sets only.

use crate::cache::Cache;
use crate::review::{Decision, Hook, Refusal, Reply, Tally};
use portreeve_runtime::metrics::{Label, Metrics};
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use std::fmt;
use std::sync::Arc;

/// Bounds of the decision's time in seconds: 10 µs to 1 s. The API server's own histogram starts at 5 ms, where ours is
/// long over.
const DECISION_BUCKETS: [f64; 16] = [
    0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0,
];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByFinding {
    rule: Label,
    action: Label,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByDecision {
    webhook: Label,
    decision: Label,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: Label,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    webhook: Label,
    reason: Label,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByWebhook {
    webhook: Label,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByKind {
    kind: Label,
}

/// Counters and times of decisions; clones share them.
#[derive(Clone, Debug)]
pub struct AdmissionMetrics {
    findings: Family<ByFinding, Counter>,
    decisions: Family<ByDecision, Counter>,
    injections: Family<ByResult, Counter>,
    unexpected: Family<ByReason, Counter>,
    failures: Family<ByReason, Counter>,
    seconds: Family<ByWebhook, Histogram, fn() -> Histogram>,
    rule_errors: Counter,
    unknown_namespaces: Counter,
}

impl AdmissionMetrics {
    /// Registers them, and the sizes of `cache` as gauges that are computed when somebody asks.
    #[must_use]
    pub fn register(metrics: &Metrics, cache: Arc<Cache>) -> Self {
        let this = Self {
            findings: Family::default(),
            decisions: Family::default(),
            injections: Family::default(),
            unexpected: Family::default(),
            failures: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(DECISION_BUCKETS)),
            rule_errors: Counter::default(),
            unknown_namespaces: Counter::default(),
        };
        let findings = "Findings that an answer spoke of, by rule and effective action";
        metrics.register("portreeve_admission_findings", findings, this.findings.clone());
        metrics.register("portreeve_admission_decisions", "Reviews by decision", this.decisions.clone());
        metrics.register("portreeve_spread_injections", "New Pods by what was done", this.injections.clone());
        let unexpected = "Reviews let through unseen, because the webhook configuration should not have sent them";
        metrics.register("portreeve_admission_unexpected", unexpected, this.unexpected.clone());
        let failures = "Requests that got no decision, so that the failurePolicy decided";
        metrics.register("portreeve_admission_failures", failures, this.failures.clone());
        let seconds = "Time to decide: from the body read to the answer written";
        metrics.register("portreeve_admission_decision_seconds", seconds, this.seconds.clone());
        let rule_errors = "Policies that could not be read when a Service was reviewed";
        metrics.register("portreeve_admission_rule_errors", rule_errors, this.rule_errors.clone());
        let unknown = "Reviews in a namespace that the cache did not know yet: only the label of its name counted";
        metrics.register("portreeve_admission_unknown_namespaces", unknown, this.unknown_namespaces.clone());
        metrics.register("portreeve_webhook_cache_objects", "Things that decisions are made from", CacheSizes(cache));
        this
    }

    /// A review was answered, or not, after `seconds`.
    pub fn decided(&self, hook: Hook, outcome: &Result<Reply, Refusal>, seconds: f64) {
        let webhook = Label(hook.path());
        self.seconds.get_or_create(&ByWebhook { webhook }).observe(seconds);
        match outcome {
            Ok(Reply { tally, .. }) => self.tally(webhook, tally),
            Err(Refusal::Malformed { .. }) => self.failed(hook, Failure::Malformed),
            Err(Refusal::Panicked { .. }) => self.failed(hook, Failure::Panic),
            Err(Refusal::Unwritable { .. }) => self.failed(hook, Failure::Unwritable),
        }
    }

    /// A request got no decision.
    pub fn failed(&self, hook: Hook, failure: Failure) {
        let labels = ByReason { webhook: Label(hook.path()), reason: Label(failure.as_str()) };
        self.failures.get_or_create(&labels).inc();
    }

    fn tally(&self, webhook: Label, tally: &Tally) {
        let Tally { decision, findings, rule_errors, injection, unexpected, unknown_namespace } = tally;
        let decision: Decision = *decision;
        self.decisions.get_or_create(&ByDecision { webhook, decision: Label(decision.as_str()) }).inc();
        for (rule, action) in findings {
            let labels = ByFinding { rule: Label(rule.as_str()), action: Label(action.as_str()) };
            self.findings.get_or_create(&labels).inc();
        }
        if let Some(result) = injection {
            self.injections.get_or_create(&ByResult { result: Label(result) }).inc();
        }
        if let Some(reason) = unexpected {
            self.unexpected.get_or_create(&ByReason { webhook, reason: Label(reason.as_str()) }).inc();
        }
        self.rule_errors.inc_by(*rule_errors as u64);
        self.unknown_namespaces.inc_by(u64::from(*unknown_namespace));
    }
}

/// Why a request got no decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The body was not read in time.
    BodyTimeout,
    /// The connection broke inside the body.
    BodyBroken,
    /// The body was over the limit.
    BodyTooLarge,
    /// The body was not declared as JSON.
    ContentType,
    /// The body was no review.
    Malformed,
    /// The caches were not filled.
    NotReady,
    /// The engine panicked.
    Panic,
    /// The answer could not be written.
    Unwritable,
}

impl Failure {
    const fn as_str(self) -> &'static str {
        match self {
            Self::BodyTimeout => "body_timeout",
            Self::BodyBroken => "body_broken",
            Self::BodyTooLarge => "body_too_large",
            Self::ContentType => "content_type",
            Self::Malformed => "malformed",
            Self::NotReady => "not_ready",
            Self::Panic => "panic",
            Self::Unwritable => "unwritable",
        }
    }
}

/// The sizes of the latest snapshot, counted at the scrape so that they cannot drift from it.
struct CacheSizes(Arc<Cache>);

impl EncodeMetric for CacheSizes {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let sizes = self.0.load().sizes();
        let gauges = [
            ("namespaces", sizes.namespaces as u64),
            ("nodes", u64::from(sizes.nodes)),
            ("policies", sizes.policies as u64),
            ("policy_problems", sizes.policy_problems as u64),
            ("ready_endpoints", sizes.ready_endpoints),
            ("services", sizes.services as u64),
        ];
        for (kind, size) in gauges {
            encoder.encode_family(&ByKind { kind: Label(kind) })?.encode_gauge(&size)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl fmt::Debug for CacheSizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CacheSizes").field(&self.0.load().sizes()).finish()
    }
}
