//! From one ruleset to the next, in transactions of one table each.

use super::frame::frame;
use super::{Content, Part, Ruleset, hook};
use crate::iptables::lookup::{Key, Leaf, Lookup, Place};
use crate::iptables::rules::{Chains, Name, Table, Verdict};
use portreeve_table::{Family, Goal, Op, PerFamily, Protocol, ServiceKey};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What iptables-restore(8) does to one table in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) table: Table,
    /// Rules of others, or misplaced ones of ours, that lead to our chains, as iptables-save prints them after `-A`.
    pub(crate) strays: Vec<String>,
    /// Chains that come to be or change, with all of their rules.
    pub(crate) put: Chains,
    pub(crate) remove: BTreeSet<Name>,
    /// Whether packets begin (`true`) or cease to come from the built-in chains.
    pub(crate) hook: Option<bool>,
}

impl Section {
    pub(crate) const fn new(table: Table) -> Self {
        Self { table, strays: Vec::new(), put: Chains::new(), remove: BTreeSet::new(), hook: None }
    }

    pub(crate) fn is_empty(&self) -> bool {
        let Self { table: _, strays, put, remove, hook } = self;
        strays.is_empty() && put.is_empty() && remove.is_empty() && hook.is_none()
    }
}

impl fmt::Display for Section {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, strays, put, remove, hook: hooked } = self;
        writeln!(out, "*{}", table.as_str())?;
        // Naming a chain makes it, or takes all of its rules out.
        put.keys().chain(remove).try_for_each(|name| writeln!(out, ":{name} - [0:0]"))?;
        strays.iter().try_for_each(|rule| writeln!(out, "-D {rule}"))?;
        for (name, rules) in put {
            rules.iter().try_for_each(|rule| writeln!(out, "-A {name} {rule}"))?;
        }
        for built_in in table.hooks() {
            match hooked {
                Some(true) => writeln!(out, "-I {built_in} 1 {}", hook())?,
                Some(false) => writeln!(out, "-D {built_in} {}", hook())?,
                None => {}
            }
        }
        remove.iter().try_for_each(|name| writeln!(out, "-X {name}"))?;
        writeln!(out, "COMMIT")
    }
}

impl Ruleset {
    /// Becomes the ruleset of `goal`, and gives for each family what does the same to the kernel's, in this order: new
    /// refusals come, nat changes, old refusals go.
    ///
    /// `steps` lead from the table of this ruleset to the goal's. The cost is theirs, whatever the number of Services,
    /// unless addresses of the node change or one of them comes to hide a node port.
    pub(crate) fn follow(&mut self, goal: Goal<'_>, steps: &[Op]) -> PerFamily<Vec<Section>> {
        let mut touched = BTreeSet::new();
        for step in steps {
            match step {
                Op::Remove(key) | Op::Replace(key, _) | Op::Add(key, _) => touched.insert(key.clone()),
                Op::NodeAddresses(_) | Op::PodRanges(_) | Op::Gone { .. } => continue,
            };
        }
        if self.shared.node_addresses != goal.table.node_addresses || self.hides_others(goal, &touched) {
            touched.extend(self.services.keys().chain(goal.table.services.keys()).cloned());
        }
        self.turn_to(goal, touched)
    }

    /// Whether a frontend on an address of the node comes or goes whose port is a node port of a Service that is not
    /// touched.
    fn hides_others(&self, goal: Goal<'_>, touched: &BTreeSet<ServiceKey>) -> bool {
        let entries = touched.iter().flat_map(|key| [self.services.get(key), goal.table.services.get(key)]).flatten();
        entries.flat_map(|entry| self.shared.on_node(entry)).any(|(protocol, port, address)| {
            let is_node_port = |table| {
                let lookups = self.tables.get(&(Family::of(address), table)).map(|content| &content.lookups);
                let lookup = lookups.and_then(|lookups| lookups.get(&(protocol, Place::NodePort)));
                lookup.is_some_and(|lookup| lookup.has(Key::new(None, port)))
            };
            Table::ALL.into_iter().any(is_node_port)
        })
    }

    pub(super) fn turn_to(&mut self, goal: Goal<'_>, touched: BTreeSet<ServiceKey>) -> PerFamily<Vec<Section>> {
        let old = self.part(&touched);
        for key in &touched {
            if let Some(entry) = self.services.get(key) {
                for front in self.shared.on_node(entry).collect::<Vec<_>>() {
                    self.shared.on_node.remove(&front);
                }
            }
        }
        self.shared.uplinks.clone_from(goal.uplinks);
        self.shared.node_addresses.clone_from(&goal.table.node_addresses);
        self.shared.pod_ranges.clone_from(&goal.table.pod_ranges);
        for key in &touched {
            match goal.table.services.get(key) {
                Some(entry) => {
                    let fronts: Vec<_> = self.shared.on_node(entry).collect();
                    self.shared.on_node.extend(fronts);
                    self.services.insert(key.clone(), entry.clone());
                }
                None => {
                    self.services.remove(key);
                }
            }
        }
        let new = self.part(&touched);
        let between = old.until(&new);
        PerFamily::from_fn(|family| {
            let [mangle, nat, filter] = Table::ALL;
            let sections = [
                self.step(family, mangle, &old, &between),
                self.step(family, filter, &old, &between),
                self.step(family, nat, &old, &new),
                self.step(family, filter, &between, &new),
                self.step(family, mangle, &between, &new),
            ];
            sections.into_iter().filter(|section| !section.is_empty()).collect()
        })
    }

    fn step(&mut self, family: Family, table: Table, from: &Part, to: &Part) -> Section {
        let content = self.tables.entry((family, table)).or_default();
        let at = (family, table);
        let leaves = differences(from.leaves.get(&at), to.leaves.get(&at));
        let own = differences(from.chains.get(&at), to.chains.get(&at));
        let mut by_lookup: BTreeMap<(Protocol, Place), BTreeSet<Key>> = BTreeMap::new();
        for (protocol, place, key) in leaves.keys() {
            by_lookup.entry((*protocol, *place)).or_default().insert(*key);
        }
        let before = content.around(&by_lookup, own.keys());
        let hooked = !content.frame.is_empty();
        for ((protocol, place, key), leaf) in leaves {
            let lookup = content.lookups.entry((protocol, place));
            lookup.or_insert_with(|| Lookup::new(family, protocol, place)).set(key, leaf);
        }
        content.lookups.retain(|_, lookup| !lookup.is_empty());
        for (name, rules) in &own {
            match rules {
                Some(rules) => content.own.insert(name.clone(), rules.clone()),
                None => content.own.remove(name),
            };
        }
        content.frame = frame(family, table, content, &self.shared);
        let after = content.around(&by_lookup, own.keys());
        let hooks = !content.frame.is_empty();
        Section {
            remove: before.keys().filter(|name| !after.contains_key(*name)).cloned().collect(),
            put: after.into_iter().filter(|(name, rules)| before.get(name) != Some(rules)).collect(),
            hook: (hooks != hooked).then_some(hooks),
            ..Section::new(table)
        }
    }
}

impl Content {
    /// Chains that can differ while nothing but these keys of lookups and these chains does.
    fn around<'a>(
        &self,
        touched: &BTreeMap<(Protocol, Place), BTreeSet<Key>>,
        own: impl Iterator<Item = &'a Name>,
    ) -> Chains {
        let mut chains = self.frame.clone();
        chains.extend(
            own.filter_map(|name| self.own.get_key_value(name)).map(|(name, rules)| (name.clone(), rules.clone())),
        );
        for (of, keys) in touched {
            chains.extend(self.lookups.get(of).map(|lookup| lookup.around(keys)).unwrap_or_default());
        }
        chains
    }
}

impl Part {
    /// What refuses all that either refuses, and nothing that neither does. A frontend that was closed stays so until nat
    /// knows where its flows go.
    fn until(&self, new: &Self) -> Self {
        let mut between = self.clone();
        for (at, leaves) in &new.leaves {
            let both = between.leaves.entry(*at).or_default();
            for (spot, leaf) in leaves {
                let closed = both.get(spot).is_some_and(|old: &Leaf| old.verdict == Verdict::Drop);
                if !closed || leaf.verdict == Verdict::Drop {
                    both.insert(*spot, leaf.clone());
                }
            }
        }
        for (at, chains) in &new.chains {
            between
                .chains
                .entry(*at)
                .or_default()
                .extend(chains.iter().map(|(name, rules)| (name.clone(), rules.clone())));
        }
        between
    }
}

/// What is another in `to`, with its new value, and what it no longer has.
fn differences<K: Ord + Clone, V: PartialEq + Clone>(
    from: Option<&BTreeMap<K, V>>,
    to: Option<&BTreeMap<K, V>>,
) -> BTreeMap<K, Option<V>> {
    let gone = from.into_iter().flatten().filter(|(key, _)| to.is_none_or(|to| !to.contains_key(key)));
    let changed = to.into_iter().flatten().filter(|(key, value)| from.and_then(|from| from.get(key)) != Some(value));
    let changed = changed.map(|(key, value)| (key.clone(), Some(value.clone())));
    gone.map(|(key, _)| (key.clone(), None)).chain(changed).collect()
}
