//! What iptables-save(8) shows of our chains, and how it differs from what was written.

mod told;

pub(super) use told::Owners;

use super::rules::{Chains, Name, Rule, Table};
use super::ruleset::{Ruleset, Section, hook};
use super::text::parse;
use portreeve_table::Family;
use std::collections::BTreeMap;

/// What the kernel has of ours, in one family.
#[derive(Debug, Default)]
pub(super) struct Found(BTreeMap<Table, InTable>);

#[derive(Debug, Default)]
struct InTable {
    /// Rules of our chains; `None` for one that this engine would not write.
    chains: BTreeMap<Name, Vec<Option<Rule>>>,
    /// Names that begin as ours and that this engine would not give.
    odd_chains: Vec<String>,
    /// Rules elsewhere that lead to our chains, as printed after `-A`.
    leading: Vec<String>,
    /// The first rule of each built-in chain, as printed after `-A`.
    first: BTreeMap<&'static str, String>,
}

/// How what was found differs from what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Difference {
    None,
    /// Our chains are as written, and packets do not come to them first or not at all.
    Hook(Table),
    /// This chain has other rules, is missing or should not be there.
    Chain(Table, String),
}

impl Found {
    pub(super) fn read(text: &str) -> Self {
        let mut found = Self::default();
        let mut table = None;
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = Table::ALL.into_iter().find(|table| table.as_str() == name);
            }
            let Some(table) = table else { continue };
            let here = found.0.entry(table).or_default();
            if let Some(chain) = line.strip_prefix(':') {
                here.chain(chain.split(' ').next().unwrap_or_default());
            } else if let Some(rule) = line.strip_prefix("-A ") {
                here.rule(table, rule);
            }
        }
        found
    }

    pub(super) fn difference(&self, ruleset: &Ruleset, family: Family) -> Difference {
        let nothing = InTable::default();
        let mut moved = Difference::None;
        for table in Table::ALL {
            let (here, wanted) = (self.0.get(&table).unwrap_or(&nothing), ruleset.chains(family, table));
            if let Some(chain) = here.differs(&wanted) {
                return Difference::Chain(table, chain);
            }
            if !here.hooked(table, !wanted.is_empty()) {
                moved = Difference::Hook(table);
            }
        }
        moved
    }

    /// What brings packets to our chains first again.
    pub(super) fn mend(&self, ruleset: &Ruleset, family: Family) -> Vec<Section> {
        let nothing = InTable::default();
        let sections = Table::ALL.into_iter().filter_map(|table| {
            let here = self.0.get(&table).unwrap_or(&nothing);
            let wanted = !ruleset.chains(family, table).is_empty();
            (!here.hooked(table, wanted)).then(|| Section {
                strays: here.leading.clone(),
                hook: wanted.then_some(true),
                ..Section::new(table)
            })
        });
        sections.collect()
    }

    /// What makes the kernel's chains those of `ruleset`, whatever they are, in one transaction for each table: what
    /// refuses first. Without a ruleset nothing of ours stays.
    pub(super) fn replace(&self, ruleset: Option<&Ruleset>, family: Family) -> Vec<Section> {
        let nothing = InTable::default();
        let sections = [Table::Mangle, Table::Filter, Table::Nat].into_iter().filter_map(|table| {
            let here = self.0.get(&table).unwrap_or(&nothing);
            let put = ruleset.map(|ruleset| ruleset.chains(family, table)).unwrap_or_default();
            let left = here.chains.keys().filter(|name| !put.contains_key(*name)).cloned();
            let hook = (!put.is_empty()).then_some(true);
            let section =
                Section { strays: here.leading.clone(), remove: left.collect(), put, hook, ..Section::new(table) };
            (!section.is_empty()).then_some(section)
        });
        sections.collect()
    }
}

impl InTable {
    fn chain(&mut self, name: &str) {
        match Name::new(name) {
            Some(name) => {
                self.chains.entry(name).or_default();
            }
            None if name.starts_with(Name::PREFIX) => self.odd_chains.push(name.to_owned()),
            None => {}
        }
    }

    fn rule(&mut self, table: Table, line: &str) {
        let (chain, rule) = line.split_once(' ').unwrap_or((line, ""));
        if let Some(rules) = Name::new(chain).and_then(|name| self.chains.get_mut(&name)) {
            rules.push(parse(rule));
            return;
        }
        if let Some(built_in) = table.hooks().iter().find(|hook| **hook == chain) {
            self.first.entry(built_in).or_insert_with(|| line.to_owned());
        }
        // A jump to a chain ends a rule; within a comment the last word would end with the quote.
        let mut words = line.rsplit(' ');
        let ours = words.next().is_some_and(|target| target.starts_with(Name::PREFIX) && !target.ends_with('"'));
        if ours && words.next().is_some_and(|word| matches!(word, "-j" | "-g")) {
            self.leading.push(line.to_owned());
        }
    }

    /// The first chain that is not as wanted.
    fn differs(&self, wanted: &Chains) -> Option<String> {
        let same = |name: &Name, rules: &[Rule]| {
            self.chains.get(name).is_some_and(|found| found.iter().map(Option::as_ref).eq(rules.iter().map(Some)))
        };
        let other = wanted.iter().find(|(name, rules)| !same(name, rules)).map(|(name, _)| name);
        let more = || self.chains.keys().find(|name| !wanted.contains_key(*name));
        other.or_else(more).map(ToString::to_string).or_else(|| self.odd_chains.first().cloned())
    }

    /// Whether packets come to our chains first from each built-in chain and from nowhere else, or not at all.
    fn hooked(&self, table: Table, wanted: bool) -> bool {
        if !wanted {
            return self.leading.is_empty();
        }
        let leads =
            |built_in: &&str| self.first.get(built_in).is_some_and(|line| *line == format!("{built_in} {}", hook()));
        self.leading.len() == table.hooks().len() && table.hooks().iter().all(leads)
    }
}

/// Packets that the rules of our chains have counted, in order, in a text with counters.
pub(super) fn counted(text: &str) -> BTreeMap<Name, Vec<u64>> {
    let mut counted: BTreeMap<Name, Vec<u64>> = BTreeMap::new();
    for line in text.lines() {
        let Some((counter, rule)) = line.strip_prefix('[').and_then(|line| line.split_once("] -A ")) else { continue };
        let packets = counter.split_once(':').and_then(|(packets, _)| packets.parse().ok());
        let chain = rule.split(' ').next().and_then(Name::new);
        if let (Some(packets), Some(chain)) = (packets, chain) {
            counted.entry(chain).or_default().push(packets);
        }
    }
    counted
}

#[cfg(test)]
mod tests;
