//! From a stored policy to one that can be asked: selectors understood, actions capped, order fixed.

use super::reference::{PolicyKind, PolicyRef};
use crate::facts::NamespaceFacts;
use crate::selectors::{Selector, SelectorError};
use crate::subject::Subject;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use portreeve_crds::policy::{DataPath, PolicyBody, RequiredPolicy, RuleSetting, ServiceType, Spread};
use portreeve_crds::{Action, ClusterTrafficPolicy, Mode, RuleId, TrafficPolicy};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Why a policy cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// `match.namespaceSelector` is no selector.
    #[error("match.namespaceSelector is invalid: {0}")]
    NamespaceSelector(SelectorError),
    /// `match.serviceSelector` is no selector.
    #[error("match.serviceSelector is invalid: {0}")]
    ServiceSelector(SelectorError),
    /// The schema's rule is broken; possible only where the API server did not check it, such as in a local file.
    #[error("it must set exactly one of defaults and overrides")]
    Body,
}

/// A policy that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{policy} cannot be read: {error}")]
pub struct PolicyProblem {
    /// The policy.
    pub policy: PolicyRef,
    /// Why. Part of the text, so not a source of its own.
    pub error: PolicyError,
}

/// Where a cluster policy's body stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Override,
    Default,
}

/// Rank within a level: higher priority, then older (a policy that was never stored comes last), then by name.
pub(super) type Order = (Reverse<i32>, Age, PolicyRef);

/// Nanoseconds of the creation time; the derived order puts the unknown last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Age {
    Created(i128),
    NeverStored,
}

/// What one policy says about one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    /// After the cap of the policy's mode.
    pub(super) action: Action,
    pub(super) min_nodes: Option<u32>,
}

/// One policy at one level.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) reference: PolicyRef,
    pub(super) order: Order,
    pub(super) scope: Scope,
    pub(super) mode: Mode,
    pub(super) rules: BTreeMap<RuleId, Setting>,
    pub(super) required: Option<RequiredPolicy>,
    pub(super) max_ratio_permille: Option<u32>,
    pub(super) spread: Option<Spread>,
    pub(super) data_path: Option<DataPath>,
    /// Why the policy cannot be read; then only its Deny rules are left.
    pub(super) fault: Option<PolicyError>,
}

/// Which Services a policy is for.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    namespaces: Part,
    services: Part,
    types: Option<Vec<ServiceType>>,
}

/// One selector of a policy.
#[derive(Clone, Debug)]
enum Part {
    Selector(Selector),
    Unreadable,
}

/// Whether a policy is for a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    /// The readable parts match; the others might.
    Perhaps,
}

impl Scope {
    pub(super) fn matches(&self, namespace: &NamespaceFacts, service: Subject<'_>) -> Match {
        if let Some(types) = &self.types
            && !service.kind().is_some_and(|kind| types.contains(&kind))
        {
            return Match::No;
        }
        let none = BTreeMap::new();
        let labels = service.service().metadata.labels.as_ref().unwrap_or(&none);
        let mut answer = Match::Yes;
        for (part, labels) in [(&self.namespaces, &namespace.labels), (&self.services, labels)] {
            match part {
                Part::Selector(selector) if !selector.matches(labels) => return Match::No,
                Part::Selector(_) => {}
                Part::Unreadable => answer = Match::Perhaps,
            }
        }
        answer
    }
}

pub(super) fn cluster(policy: &ClusterTrafficPolicy) -> (Vec<(Level, Policy)>, Vec<PolicyProblem>) {
    let spec = &policy.spec;
    let matched = spec.match_.clone().unwrap_or_default();
    let mut faults = Vec::new();
    let mut part = |selector: Option<&LabelSelector>, error: fn(SelectorError) -> PolicyError| {
        compile_part(selector).unwrap_or_else(|cause| {
            faults.push(error(cause));
            Part::Unreadable
        })
    };
    let scope = Scope {
        namespaces: part(matched.namespace_selector.as_ref(), PolicyError::NamespaceSelector),
        services: part(matched.service_selector.as_ref(), PolicyError::ServiceSelector),
        types: matched.types,
    };
    if spec.defaults.is_some() == spec.overrides.is_some() {
        faults.push(PolicyError::Body);
    }
    let reference = reference(PolicyKind::Cluster, &policy.metadata);
    let bodies = [(Level::Override, spec.overrides.as_ref()), (Level::Default, spec.defaults.as_ref())];
    let levels = bodies.into_iter().filter_map(|(level, body)| {
        let base = Head {
            reference: &reference,
            metadata: &policy.metadata,
            priority: spec.priority,
            mode: spec.enforcement.mode,
        };
        Some((level, base.policy(body?, scope.clone(), faults.first())))
    });
    (levels.collect(), problems(&reference, &faults))
}

pub(super) fn namespaced(policy: &TrafficPolicy) -> (Policy, Vec<PolicyProblem>) {
    let spec = &policy.spec;
    let matched = spec.match_.clone().unwrap_or_default();
    let mut faults = Vec::new();
    let services = compile_part(matched.service_selector.as_ref()).unwrap_or_else(|cause| {
        faults.push(PolicyError::ServiceSelector(cause));
        Part::Unreadable
    });
    let scope = Scope { namespaces: Part::Selector(Selector::default()), services, types: matched.types };
    let reference = reference(PolicyKind::Namespaced, &policy.metadata);
    let base = Head {
        reference: &reference,
        metadata: &policy.metadata,
        priority: spec.priority,
        mode: spec.enforcement.mode,
    };
    (base.policy(&spec.body(), scope, faults.first()), problems(&reference, &faults))
}

fn reference(kind: PolicyKind, metadata: &ObjectMeta) -> PolicyRef {
    let namespace = match kind {
        PolicyKind::Cluster => None,
        PolicyKind::Namespaced => Some(metadata.namespace.clone().unwrap_or_default()),
    };
    PolicyRef { kind, namespace, name: metadata.name.clone().unwrap_or_default() }
}

fn problems(reference: &PolicyRef, faults: &[PolicyError]) -> Vec<PolicyProblem> {
    faults.iter().map(|error| PolicyProblem { policy: reference.clone(), error: error.clone() }).collect()
}

/// An absent selector selects everything.
fn compile_part(selector: Option<&LabelSelector>) -> Result<Part, SelectorError> {
    selector.map_or_else(|| Ok(Selector::default()), Selector::compile).map(Part::Selector)
}

/// What the two kinds have in common above their bodies.
struct Head<'a> {
    reference: &'a PolicyRef,
    metadata: &'a ObjectMeta,
    priority: Option<i32>,
    mode: Mode,
}

impl Head<'_> {
    fn policy(&self, body: &PolicyBody, scope: Scope, fault: Option<&PolicyError>) -> Policy {
        let PolicyBody { rules, external_traffic_policy, spread, imbalance, data_path } = body;
        let created = self.metadata.creation_timestamp.as_ref();
        let age = created.map_or(Age::NeverStored, |time| Age::Created(time.0.as_nanosecond()));
        let mut policy = Policy {
            reference: self.reference.clone(),
            order: (Reverse(self.priority.unwrap_or(0)), age, self.reference.clone()),
            scope,
            mode: self.mode,
            rules: settings(rules.as_deref().unwrap_or_default(), self.mode),
            required: external_traffic_policy.as_ref().map(|field| field.required),
            max_ratio_permille: imbalance.as_ref().and_then(|limit| u32::try_from(limit.max_ratio_permille).ok()),
            spread: spread.clone(),
            data_path: data_path.clone(),
            fault: fault.cloned(),
        };
        if policy.fault.is_some() {
            policy.keep_only_denials();
        }
        policy
    }
}

impl Policy {
    fn denies(&self, rule: RuleId) -> bool {
        self.rules.get(&rule).is_some_and(|setting| setting.action == Action::Deny)
    }

    /// See the module's rule on policies that cannot be read.
    fn keep_only_denials(&mut self) {
        self.rules.retain(|_, setting| setting.action == Action::Deny);
        self.required = self.required.filter(|_| self.denies(RuleId::ETP006));
        self.max_ratio_permille = self.max_ratio_permille.filter(|_| self.denies(RuleId::ETP008));
        self.spread = None;
        self.data_path = None;
    }
}

/// A rule named twice (the schema forbids it) takes its stricter action.
fn settings(rules: &[RuleSetting], mode: Mode) -> BTreeMap<RuleId, Setting> {
    let mut settings: BTreeMap<RuleId, Setting> = BTreeMap::new();
    for rule in rules {
        let min_nodes = rule.params.as_ref().and_then(|params| params.min_nodes);
        let setting =
            Setting { action: mode.cap(rule.action), min_nodes: min_nodes.and_then(|nodes| u32::try_from(nodes).ok()) };
        let known = settings.entry(rule.id).or_insert(setting);
        known.action = known.action.max(setting.action);
        known.min_nodes = known.min_nodes.max(setting.min_nodes);
    }
    settings
}
