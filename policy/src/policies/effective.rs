//! What holds for one Service, once every level has spoken.

use super::Candidates;
use super::compile::{Policy, Setting};
use super::reference::PolicyRef;
use crate::docs::default_action;
use portreeve_crds::policy::{
    DataPath, DataPathMode, OnNoLocal, RequiredPolicy, ReturnPath, Spread, SpreadMechanism, SpreadMode,
};
use portreeve_crds::{Action, Mode, RuleId, ServiceTrafficSpec};
use std::collections::{BTreeMap, BTreeSet};

/// What holds for one Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Every rule with its action.
    pub rules: BTreeMap<RuleId, EffectiveRule>,
    /// The policy that requires `Local` (ETP006).
    pub required_local: Option<PolicyRef>,
    /// Spreading of the Service's Pods.
    pub spread: EffectiveSpread,
    /// Limit of the predicted imbalance in permille, and the policy that set it (ETP008).
    pub max_ratio_permille: Option<(u32, PolicyRef)>,
    /// What node agents do with the Service's external traffic.
    pub data_path: EffectiveDataPath,
    /// Policies that decide something above, by precedence.
    pub policies: Vec<PolicyRef>,
    /// Policies that cannot be read and might be for this Service.
    pub faults: Vec<Fault>,
}

/// A policy that cannot be read and might be for a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The policy.
    pub policy: PolicyRef,
    /// Why it cannot be read.
    pub problem: String,
}

/// The action of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveRule {
    /// After the cap of the mode and tightening.
    pub action: Action,
    /// The policy that decided; none for the built-in action.
    pub policy: Option<PolicyRef>,
    /// ETP005: the least number of nodes with a ready Pod.
    pub min_nodes: Option<u32>,
    /// Why the deciding policy cannot be read: then it stands here because it fails closed.
    pub fault: Option<String>,
}

/// Spreading of a Service's Pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveSpread {
    /// Off where no policy says anything; Inject only under Enforce.
    pub mode: SpreadMode,
    /// As written; `Auto` is resolved by the cluster's size.
    pub mechanism: SpreadMechanism,
    /// Weight of the preferred term, 1 to 100.
    pub weight: i32,
    /// The policy that decided the mode.
    pub policy: Option<PolicyRef>,
}

/// What node agents do with a Service's external traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EffectiveDataPath {
    /// Off where no policy says anything.
    pub mode: DataPathMode,
    /// Drop where no policy says anything, as kube-proxy does.
    pub on_no_local: OnNoLocal,
    /// Auto where no policy says anything.
    pub return_: ReturnPath,
    /// false where no policy says anything, as in kube-proxy.
    pub source_ranges_on_node_ports: bool,
    /// The policy that decided the mode.
    pub policy: Option<PolicyRef>,
}

impl EffectiveDataPath {
    /// What node agents are told by it: nothing when no policy asks for anything, and of a mode Off that alone.
    #[must_use]
    pub fn directive(&self) -> ServiceTrafficSpec {
        if self.policy.is_none() {
            return ServiceTrafficSpec::default();
        }
        let taken = self.mode != DataPathMode::Off;
        ServiceTrafficSpec {
            mode: Some(self.mode),
            on_no_local: taken.then_some(self.on_no_local),
            return_: taken.then_some(self.return_),
            source_ranges_on_node_ports: taken.then_some(self.source_ranges_on_node_ports),
        }
    }
}

pub(super) fn of(candidates: &Candidates<'_>) -> Effective {
    let mut walk = Walk { candidates, deciders: BTreeSet::new() };
    let rules = RuleId::ALL.into_iter().map(|rule| (rule, walk.rule(rule))).collect();
    let required_local = walk.required_local();
    let max_ratio_permille = walk.max_ratio();
    let spread = walk.spread();
    let data_path = walk.data_path();
    let Walk { deciders, .. } = walk;
    let by_precedence = || candidates.by_precedence();
    Effective {
        rules,
        required_local,
        spread,
        max_ratio_permille,
        data_path,
        policies: by_precedence().map(|p| p.reference.clone()).filter(|p| deciders.contains(p)).collect(),
        faults: by_precedence()
            .filter_map(|p| Some(Fault { policy: p.reference.clone(), problem: p.fault.as_ref()?.to_string() }))
            .collect(),
    }
}

/// One walk over the levels; remembers who decided something.
struct Walk<'a, 'c> {
    candidates: &'c Candidates<'a>,
    deciders: BTreeSet<PolicyRef>,
}

/// What the highest policy of a level says, and which policy that is.
type Said<'a, T> = Option<(T, &'a Policy)>;

fn first<'a, T>(level: &[&'a Policy], says: impl Fn(&'a Policy) -> Option<T>) -> Said<'a, T> {
    level.iter().find_map(|policy| Some((says(policy)?, *policy)))
}

impl<'a> Walk<'a, '_> {
    fn decided_by(&mut self, policy: &Policy) -> PolicyRef {
        self.deciders.insert(policy.reference.clone());
        policy.reference.clone()
    }

    /// The level below overrides that speaks first.
    fn lower<T>(&self, says: impl Fn(&'a Policy) -> Option<T>) -> Said<'a, T> {
        first(&self.candidates.namespaced, &says).or_else(|| first(&self.candidates.defaults, &says))
    }

    fn rule(&mut self, rule: RuleId) -> EffectiveRule {
        let says = |policy: &'a Policy| policy.rules.get(&rule).copied();
        let over = first(&self.candidates.overrides, says);
        let own = first(&self.candidates.namespaced, says);
        let decision = match (over, own) {
            (Some(over), Some(own)) => Some(tighter(over, own)),
            (over, own) => over.or(own).or_else(|| first(&self.candidates.defaults, says)),
        };
        match decision {
            Some((setting, policy)) => EffectiveRule {
                action: setting.action,
                policy: Some(self.decided_by(policy)),
                min_nodes: setting.min_nodes,
                fault: policy.fault.as_ref().map(ToString::to_string),
            },
            None => EffectiveRule { action: self.built_in(rule), policy: None, min_nodes: None, fault: None },
        }
    }

    fn built_in(&mut self, rule: RuleId) -> Action {
        if self.candidates.silenced {
            return Action::Off;
        }
        let written = default_action(rule);
        let Some(highest) = self.candidates.by_precedence().find(|policy| policy.fault.is_none()) else {
            return written;
        };
        if highest.mode != Mode::Enforce {
            self.decided_by(highest);
        }
        highest.mode.cap(written)
    }

    fn required_local(&mut self) -> Option<PolicyRef> {
        let says = |policy: &'a Policy| policy.required;
        let over = first(&self.candidates.overrides, says);
        let own = first(&self.candidates.namespaced, says);
        let decision = match (over, own) {
            // A namespace may ask for more than `Any`, never for less than `Local`.
            (Some((RequiredPolicy::Any, _)), Some(own @ (RequiredPolicy::Local, _))) => Some(own),
            (over, own) => over.or(own).or_else(|| first(&self.candidates.defaults, says)),
        };
        let (_, policy) = decision.filter(|(required, _)| *required == RequiredPolicy::Local)?;
        Some(self.decided_by(policy))
    }

    fn max_ratio(&mut self) -> Option<(u32, PolicyRef)> {
        let says = |policy: &'a Policy| policy.max_ratio_permille;
        let over = first(&self.candidates.overrides, says);
        let own = first(&self.candidates.namespaced, says);
        let (limit, policy) = match (over, own) {
            (Some(over), Some(own)) => Some(if own.0 < over.0 { own } else { over }),
            (over, own) => over.or(own).or_else(|| first(&self.candidates.defaults, says)),
        }?;
        Some((limit, self.decided_by(policy)))
    }

    /// The first level that sets a member decides it.
    fn member<T>(&self, says: impl Fn(&'a Policy) -> Option<T>) -> Said<'a, T> {
        first(&self.candidates.overrides, &says).or_else(|| self.lower(&says))
    }

    fn spread(&mut self) -> EffectiveSpread {
        let set = |policy: &'a Policy| policy.spread.as_ref();
        let mode = self.member(|policy| set(policy).map(|Spread { mode, .. }| *mode));
        let mechanism = self.member(|policy| set(policy)?.mechanism);
        let weight = self.member(|policy| set(policy)?.weight);
        EffectiveSpread {
            mode: mode.map_or(SpreadMode::Off, |(mode, policy)| match (mode, policy.mode) {
                (SpreadMode::Inject, Mode::Audit | Mode::Warn) => SpreadMode::Off,
                (mode, _) => mode,
            }),
            mechanism: self.value(mechanism).unwrap_or(SpreadMechanism::Auto),
            weight: self.value(weight).unwrap_or(100),
            policy: mode.map(|(_, policy)| self.decided_by(policy)),
        }
    }

    fn data_path(&mut self) -> EffectiveDataPath {
        let set = |policy: &'a Policy| policy.data_path.as_ref();
        let mode = self.member(|policy| set(policy).map(|DataPath { mode, .. }| *mode));
        let on_no_local = self.member(|policy| set(policy)?.on_no_local);
        let return_ = self.member(|policy| set(policy)?.return_);
        let ranges = self.member(|policy| set(policy)?.source_ranges_on_node_ports);
        EffectiveDataPath {
            mode: mode.map_or(DataPathMode::Off, |(mode, _)| mode),
            on_no_local: self.value(on_no_local).unwrap_or(OnNoLocal::Drop),
            return_: self.value(return_).unwrap_or(ReturnPath::Auto),
            source_ranges_on_node_ports: self.value(ranges).unwrap_or(false),
            policy: mode.map(|(_, policy)| self.decided_by(policy)),
        }
    }

    fn value<T>(&mut self, said: Said<'a, T>) -> Option<T> {
        let (value, policy) = said?;
        self.decided_by(policy);
        Some(value)
    }
}

/// The stricter of an override and the namespace's own setting; a draw is the override's.
fn tighter<'a>(over: (Setting, &'a Policy), own: (Setting, &'a Policy)) -> (Setting, &'a Policy) {
    let min_nodes = over.0.min_nodes.max(own.0.min_nodes);
    let rank = |setting: Setting| (setting.action, setting.min_nodes);
    let (setting, policy) = if rank(own.0) > rank(over.0) { own } else { over };
    (Setting { min_nodes, ..setting }, policy)
}
