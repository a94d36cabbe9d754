//! From one ruleset to the next, in steps that the kernel can take in one transaction.

use super::model::{Chain, ChainKind, Datum, Key, Name, Part, Rule, Set};
use super::{Ruleset, frame, service};
use portreeve_table::{Goal, Op, ServiceEntry};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// One step. Its text is for people and names what it is about, not every element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Makes our table anew and empty, whatever was there.
    ResetTable,
    /// Makes our table, if there is none.
    AddTable,
    /// Removes our table, if there is one.
    RemoveTable,
    /// Takes elements out of a set.
    RemoveElements(Name, Vec<(Key, Datum)>),
    /// Takes all elements out of a set.
    EmptySet(Name),
    /// Takes all rules out of a chain.
    FlushChain(Name),
    /// Removes a chain without rules, to which nothing leads any more.
    RemoveChain(Name),
    /// Removes a set that no rule asks any more.
    RemoveSet(Name),
    /// Makes a set.
    AddSet(Name, Set),
    /// Makes a chain without rules.
    AddChain(Name, ChainKind),
    /// Puts elements into a set.
    AddElements(Name, Vec<(Key, Datum)>),
    /// Puts clients into a set with [`SetKind::Remembered`](super::SetKind::Remembered).
    Remind(Name, Vec<Client>),
    /// Appends a rule to a chain.
    AddRule(Name, Rule),
}

/// A client that a Pod remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address.
    pub address: IpAddr,
    /// How long it is remembered from now on: no longer than the set remembers any.
    pub left: Duration,
}

impl fmt::Display for Command {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ResetTable => out.write_str("reset the table"),
            Self::AddTable => out.write_str("add the table"),
            Self::RemoveTable => out.write_str("remove the table"),
            Self::RemoveElements(set, elements) => write!(out, "remove {} elements from {set}", elements.len()),
            Self::EmptySet(set) => write!(out, "empty set {set}"),
            Self::FlushChain(chain) => write!(out, "flush chain {chain}"),
            Self::RemoveChain(chain) => write!(out, "remove chain {chain}"),
            Self::RemoveSet(set) => write!(out, "remove set {set}"),
            Self::AddSet(set, _) => write!(out, "add set {set}"),
            Self::AddChain(chain, _) => write!(out, "add chain {chain}"),
            Self::AddElements(set, elements) => write!(out, "add {} elements to {set}", elements.len()),
            Self::Remind(set, clients) => write!(out, "put {} clients back into {set}", clients.len()),
            Self::AddRule(chain, rule) => write!(out, "add rule {chain} {rule}"),
        }
    }
}

/// The commands that make `ruleset` from nothing, in the place of whatever table of our name there is.
#[must_use]
pub fn replace(ruleset: &Ruleset) -> Vec<Command> {
    let (mut steps, nothing) = (Steps::default(), Part::default());
    steps.between(&nothing, &ruleset.frame);
    for (key, entry) in &ruleset.services {
        steps.between(&nothing, &service::part(key, entry));
    }
    let mut commands = vec![Command::ResetTable];
    commands.extend(steps.commands());
    commands
}

impl Ruleset {
    /// Becomes the ruleset of `goal`, and gives the commands that do the same to the kernel's; none if it is the same.
    /// `steps` lead from the table of this ruleset to the goal's, and the cost is theirs, whatever the number of Services.
    pub fn follow(&mut self, goal: Goal<'_>, steps: &[Op]) -> Vec<Command> {
        let (mut between, nothing) = (Steps::default(), Part::default());
        for step in steps {
            let (key, new) = match step {
                Op::Remove(key) => (key, None),
                Op::Replace(key, entry) | Op::Add(key, entry) => (key, Some(entry)),
                // Part of the frame; and what becomes of flows under way is not the ruleset's to say.
                Op::NodeAddresses(_) | Op::PodRanges(_) | Op::Gone { .. } => continue,
            };
            let part = |entry: Option<&Arc<ServiceEntry>>| {
                entry.map_or_else(|| nothing.clone(), |entry| service::part(key, entry))
            };
            let old = match new {
                Some(entry) => self.services.insert(key.clone(), Arc::clone(entry)),
                None => self.services.remove(key),
            };
            between.between(&part(old.as_ref()), &part(new));
            self.count_widths(old.as_ref(), new);
        }
        let frame = frame(goal, &self.widths);
        between.between(&self.frame, &frame);
        self.frame = frame;
        between.commands()
    }

    fn count_widths(&mut self, old: Option<&Arc<ServiceEntry>>, new: Option<&Arc<ServiceEntry>>) {
        for width in new.into_iter().flat_map(service::widths) {
            *self.widths.entry(width).or_default() += 1;
        }
        for width in old.into_iter().flat_map(service::widths) {
            if let Entry::Occupied(mut count) = self.widths.entry(width) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }
}

type Elements = BTreeMap<Name, Vec<(Key, Datum)>>;

/// Steps by kind: the order of the kinds is one in which no step needs a later one, and what two Services exchange is free
/// before it is taken.
#[derive(Default)]
struct Steps {
    remove_elements: Elements,
    flush_chains: Vec<Name>,
    remove_chains: Vec<Name>,
    remove_sets: Vec<Name>,
    add_sets: Vec<(Name, Set)>,
    add_chains: Vec<(Name, ChainKind)>,
    add_elements: Elements,
    add_rules: Vec<(Name, Rule)>,
}

impl Steps {
    fn between(&mut self, old: &Part, new: &Part) {
        for ((set, key), datum) in &old.elements {
            let goes = new.elements.get(&(set.clone(), key.clone())) != Some(datum);
            // The elements of a set that goes go with it.
            if goes && (!old.sets.contains_key(set) || new.sets.contains_key(set)) {
                self.remove_elements.entry(set.clone()).or_default().push((key.clone(), datum.clone()));
            }
        }
        for ((set, key), datum) in &new.elements {
            if old.elements.get(&(set.clone(), key.clone())) != Some(datum) {
                self.add_elements.entry(set.clone()).or_default().push((key.clone(), datum.clone()));
            }
        }
        for (name, chain) in &old.chains {
            match new.chains.get(name) {
                Some(after) if after == chain => {}
                Some(Chain { rules, .. }) => {
                    self.flush_chains.push(name.clone());
                    self.add_rules(name, rules);
                }
                None => {
                    self.flush_chains.push(name.clone());
                    self.remove_chains.push(name.clone());
                }
            }
        }
        for (name, Chain { kind, rules }) in new.chains.iter().filter(|(name, _)| !old.chains.contains_key(*name)) {
            self.add_chains.push((name.clone(), *kind));
            self.add_rules(name, rules);
        }
        self.remove_sets.extend(old.sets.keys().filter(|name| !new.sets.contains_key(*name)).cloned());
        let added = new.sets.iter().filter(|(name, _)| !old.sets.contains_key(*name));
        self.add_sets.extend(added.map(|(name, set)| (name.clone(), set.clone())));
    }

    fn add_rules(&mut self, chain: &Name, rules: &[Rule]) {
        self.add_rules.extend(rules.iter().map(|rule| (chain.clone(), rule.clone())));
    }

    fn commands(self) -> Vec<Command> {
        let Self {
            remove_elements,
            flush_chains,
            remove_chains,
            remove_sets,
            add_sets,
            add_chains,
            add_elements,
            add_rules,
        } = self;
        let mut commands = Vec::new();
        commands.extend(remove_elements.into_iter().map(|(set, keys)| Command::RemoveElements(set, keys)));
        commands.extend(flush_chains.into_iter().map(Command::FlushChain));
        commands.extend(remove_chains.into_iter().map(Command::RemoveChain));
        commands.extend(remove_sets.into_iter().map(Command::RemoveSet));
        commands.extend(add_sets.into_iter().map(|(name, set)| Command::AddSet(name, set)));
        commands.extend(add_chains.into_iter().map(|(name, kind)| Command::AddChain(name, kind)));
        commands.extend(add_elements.into_iter().map(|(set, elements)| Command::AddElements(set, elements)));
        commands.extend(add_rules.into_iter().map(|(chain, rule)| Command::AddRule(chain, rule)));
        commands
    }
}
