//! What policies found, counted over all Services. Pure.

use crate::assess::Summary;
use crate::key::Key;
use portreeve_crds::{Action, RuleId};
use portreeve_policy::policies::PolicyRef;
use std::collections::{BTreeMap, BTreeSet};

/// What one policy comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Services it matches.
    pub(crate) services: u32,
    /// Findings of action Warn or above that it decided.
    pub(crate) violations: u32,
    /// Services per rule with a finding that it decided.
    pub(crate) by_rule: BTreeMap<RuleId, u32>,
    /// Policies that decided something in its place.
    pub(crate) overridden_by: BTreeSet<PolicyRef>,
}

/// Summaries of all Services.
#[derive(Debug, Default)]
pub(crate) struct Summaries {
    by_service: BTreeMap<Key, Summary>,
}

impl Summaries {
    /// Takes a Service's summary, or forgets the Service. Says whether anything changed.
    pub(crate) fn set(&mut self, key: &Key, summary: Option<Summary>) -> bool {
        match summary {
            Some(summary) => {
                let changed = self.by_service.get(key) != Some(&summary);
                if changed {
                    self.by_service.insert(key.clone(), summary);
                }
                changed
            }
            None => self.by_service.remove(key).is_some(),
        }
    }

    /// A Service's summary.
    pub(crate) fn get(&self, key: &Key) -> Option<&Summary> {
        self.by_service.get(key)
    }

    /// One tally per policy that matches something.
    pub(crate) fn by_policy(&self) -> BTreeMap<PolicyRef, Tally> {
        let mut tallies: BTreeMap<PolicyRef, Tally> = BTreeMap::new();
        for summary in self.by_service.values() {
            for policy in &summary.matched {
                tallies.entry(policy.clone()).or_default().services += 1;
            }
            for (policy, by) in &summary.overridden {
                tallies.entry(policy.clone()).or_default().overridden_by.insert(by.clone());
            }
            let mut seen = BTreeSet::new();
            for (rule, action, policy) in &summary.findings {
                let Some(policy) = policy else { continue };
                let tally = tallies.entry(policy.clone()).or_default();
                if *action >= Action::Warn {
                    tally.violations += 1;
                }
                if seen.insert((*rule, policy)) {
                    *tally.by_rule.entry(*rule).or_default() += 1;
                }
            }
        }
        tallies
    }

    /// Findings by rule and action over all Services, for the metric.
    pub(crate) fn by_rule(&self) -> BTreeMap<(RuleId, Action), u32> {
        let mut counts = BTreeMap::new();
        for (rule, action, _) in self.by_service.values().flat_map(|summary| &summary.findings) {
            *counts.entry((*rule, *action)).or_default() += 1;
        }
        counts
    }

    /// Rules that could not be evaluated, over all Services.
    pub(crate) fn errors(&self) -> usize {
        self.by_service.values().map(|summary| summary.errors).sum()
    }
}
