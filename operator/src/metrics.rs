//! The operator's own metrics. No label is a name or a text of a cluster.

use crate::policies::tally::Summaries;
use portreeve_crds::migration::{Decision, ItemState};
use portreeve_crds::{Action, RuleId};
use portreeve_runtime::metrics::{Label, Metrics};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Finding {
    rule: Label,
    action: Label,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: Label,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Item {
    decision: Label,
    state: Label,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: Label,
}

/// What the operator counts.
#[derive(Clone, Debug)]
pub(crate) struct OperatorMetrics {
    violations: Family<Finding, Gauge>,
    services: Family<State, Gauge>,
    evaluation_errors: Gauge,
    hottest: Gauge,
    items: Family<Item, Counter>,
    watch_errors: Family<Kind, Counter>,
    /// Events that were not written because too many waited.
    pub(crate) events_dropped: Counter,
}

/// Services by what their report says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceCounts {
    pub(crate) known: usize,
    pub(crate) reported: usize,
    pub(crate) unbalanced: usize,
    pub(crate) without_pods: usize,
    pub(crate) highest_ratio_permille: i32,
}

impl OperatorMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let own = Self {
            violations: Family::default(),
            services: Family::default(),
            evaluation_errors: Gauge::default(),
            hottest: Gauge::default(),
            items: Family::default(),
            watch_errors: Family::default(),
            events_dropped: Counter::default(),
        };
        metrics.register("portreeve_policy_violations", "Findings by rule and action", own.violations.clone());
        metrics.register("portreeve_services", "Services by state", own.services.clone());
        let errors = own.evaluation_errors.clone();
        metrics.register("portreeve_rule_errors", "Rules that could not be evaluated, over all Services", errors);
        let hottest = own.hottest.clone();
        metrics.register("portreeve_imbalance_ratio_max_permille", "Highest predicted imbalance of a Service", hottest);
        metrics.register("portreeve_migration_items", "Items that came to a state", own.items.clone());
        metrics.register("portreeve_watch_errors", "Watches that failed and began anew", own.watch_errors.clone());
        metrics.register("portreeve_events_dropped", "Events dropped for want of room", own.events_dropped.clone());
        own
    }

    /// The state of all Services, after a pass over them.
    pub(crate) fn set_services(&self, summaries: &Summaries, counts: ServiceCounts) {
        let by_rule = summaries.by_rule();
        for rule in RuleId::ALL {
            for action in [Action::Audit, Action::Warn, Action::Fix, Action::Deny] {
                let found = by_rule.get(&(rule, action)).copied().unwrap_or(0);
                let labels = Finding { rule: Label(rule.as_str()), action: Label(action.as_str()) };
                self.violations.get_or_create(&labels).set(i64::from(found));
            }
        }
        let ServiceCounts { known, reported, unbalanced, without_pods, highest_ratio_permille } = counts;
        let states =
            [("known", known), ("reported", reported), ("unbalanced", unbalanced), ("without_pods", without_pods)];
        for (state, count) in states {
            self.services.get_or_create(&State { state: Label(state) }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.evaluation_errors.set(i64::try_from(summaries.errors()).unwrap_or(i64::MAX));
        self.hottest.set(i64::from(highest_ratio_permille));
    }

    pub(crate) fn item(&self, decision: Decision, state: ItemState) {
        let decision = match decision {
            Decision::Safe => "Safe",
            Decision::NeedsApproval => "NeedsApproval",
            Decision::Invalid => "Invalid",
        };
        let state = match state {
            ItemState::Planned => "Planned",
            ItemState::Proposed => "Proposed",
            ItemState::AwaitingApproval => "AwaitingApproval",
            ItemState::Blocked => "Blocked",
            ItemState::Verifying => "Verifying",
            ItemState::Done => "Done",
            ItemState::RolledBack => "RolledBack",
            ItemState::Invalid => "Invalid",
            ItemState::Failed => "Failed",
            ItemState::Gone => "Gone",
        };
        self.items.get_or_create(&Item { decision: Label(decision), state: Label(state) }).inc();
    }

    pub(crate) fn watch_error(&self, kind: &'static str) {
        self.watch_errors.get_or_create(&Kind { kind: Label(kind) }).inc();
    }
}
