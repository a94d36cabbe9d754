//! Every difference between what is found and what was written, in sentences.

use super::{Found, InTable};
use crate::iptables::rules::{Chains, Name, Rule, Table};
use crate::iptables::ruleset::Ruleset;
use portreeve_table::{Difference, Family, ServiceKey};
use std::collections::BTreeMap;

/// Whose chains and rules are, in a table of a family.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// Chains that one Service has for itself.
    pub(crate) chains: BTreeMap<Name, ServiceKey>,
    /// What rules for one Service's frontends match, in chains that all share.
    pub(crate) matches: BTreeMap<String, ServiceKey>,
}

impl Owners {
    fn of(&self, rule: &Rule) -> Option<&ServiceKey> {
        self.matches.get(&rule.matched())
    }
}

impl Found {
    /// All that is otherwise in the chains of `ruleset`, or in the way to them.
    pub(in crate::iptables) fn told(&self, ruleset: &Ruleset, family: Family) -> Vec<Difference> {
        let (nothing, mut told) = (InTable::default(), Vec::new());
        for table in Table::ALL {
            let (here, wanted) = (self.0.get(&table).unwrap_or(&nothing), ruleset.chains(family, table));
            let place = format!("in table {} of {family}", table.as_str());
            let mut tell = |service: Option<&ServiceKey>, what: String| {
                told.push(Difference { service: service.cloned(), what: format!("{what} {place}") });
            };
            if here.differs(&wanted).is_some() {
                let owners = ruleset.owners(family, table);
                here.tell_chains(&wanted, &owners, &mut tell);
            }
            if !here.hooked(table, !wanted.is_empty()) {
                tell(
                    None,
                    "what leads to our chains is missing, is not the first rule, or is there more than once,".into(),
                );
            }
        }
        told
    }
}

impl InTable {
    fn tell_chains(&self, wanted: &Chains, owners: &Owners, tell: &mut impl FnMut(Option<&ServiceKey>, String)) {
        for (name, rules) in wanted {
            let owner = owners.chains.get(name);
            match self.chains.get(name) {
                None => tell(owner, format!("chain {name} is missing")),
                Some(found) if owner.is_none() => {
                    for (of, what) in shared(rules, found, owners) {
                        tell(of, format!("chain {name} {what}"));
                    }
                }
                Some(found) if found.len() != rules.len() => {
                    tell(owner, format!("chain {name} has {} rules instead of {}", found.len(), rules.len()));
                }
                Some(found) => {
                    let mut pairs = (1..).zip(rules.iter().zip(found));
                    let other = pairs.find(|(_, (rule, found))| found.as_ref() != Some(rule));
                    if let Some((number, (rule, _))) = other {
                        tell(owner, format!("chain {name} has another rule {number} instead of `{rule}`"));
                    }
                }
            }
        }
        let more = self.chains.keys().filter(|name| !wanted.contains_key(*name)).map(Name::as_str);
        for name in more.chain(self.odd_chains.iter().map(String::as_str)) {
            tell(None, format!("there is a chain {name}, which is not ours,"));
        }
    }
}

/// How the rules of a chain differ that many Services share.
fn shared<'a>(wanted: &[Rule], found: &[Option<Rule>], owners: &'a Owners) -> Vec<(Option<&'a ServiceKey>, String)> {
    let mut told = Vec::new();
    let mut left: Vec<&Option<Rule>> = found.iter().collect();
    for rule in wanted {
        match left.iter().position(|found| found.as_ref() == Some(rule)) {
            Some(at) => drop(left.remove(at)),
            None => told.push((owners.of(rule), format!("lacks the rule `{rule}`"))),
        }
    }
    for rule in left {
        told.push(match rule {
            Some(rule) => (owners.of(rule), format!("has the rule `{rule}`, which is not ours,")),
            None => (None, "has a rule that is not ours".to_owned()),
        });
    }
    if told.is_empty() && !found.iter().map(Option::as_ref).eq(wanted.iter().map(Some)) {
        told.push((None, "has its rules in another order".to_owned()));
    }
    told
}
