//! Whether the kernel's table is the one that we want: all of it, read back and held against what was written.

use super::super::encode::canonical::{self, At, Base, Content, Declared, Expressions};
use super::super::ruleset::{
    Chain, Datum, HEALTH_CHECKS, Key, Name, Part, Place, Rule, Ruleset, Set, SetKind, Statement,
};
use super::dump::{self, Found, number, text};
use super::{TABLE, get_table};
use crate::message;
use crate::netlink::{Connection, NetlinkError};
use portreeve_table::{Difference, ServiceKey};
use std::collections::BTreeMap;

/// `NFT_TABLE_F_DORMANT`, of `NFTA_TABLE_FLAGS` 2.
const DORMANT: u32 = 1;

/// What is wanted, and whose it is.
struct Wanted<'a> {
    sets: BTreeMap<Name, (Set, Owner<'a>)>,
    chains: BTreeMap<Name, (Chain, Owner<'a>)>,
    elements: BTreeMap<Name, BTreeMap<At, Element<'a>>>,
}

/// The Service that something is there for alone.
type Owner<'a> = Option<&'a ServiceKey>;

struct Element<'a> {
    key: Key,
    datum: Datum,
    content: Vec<u8>,
    owner: Owner<'a>,
}

impl<'a> Wanted<'a> {
    fn of(ruleset: &'a Ruleset) -> Self {
        let mut wanted = Self { sets: BTreeMap::new(), chains: BTreeMap::new(), elements: BTreeMap::new() };
        wanted.add(ruleset.frame().clone(), None);
        for (key, part) in ruleset.parts() {
            wanted.add(part, Some(key));
        }
        wanted
    }

    fn add(&mut self, part: Part, owner: Owner<'a>) {
        let Part { sets, chains, elements } = part;
        self.sets.extend(sets.into_iter().map(|(name, set)| (name, (set, owner))));
        self.chains.extend(chains.into_iter().map(|(name, chain)| (name, (chain, owner))));
        for ((set, key), datum) in elements {
            let in_set = self.elements.entry(set).or_default();
            for (at, content) in canonical::elements(&key, &datum) {
                in_set.insert(at, Element { key: key.clone(), datum: datum.clone(), content, owner });
            }
        }
    }

    /// Whose an element is that should not be there: of the Service that has its frontend.
    fn owner(&self, set: &Name, at: &At) -> Owner<'a> {
        let place = Place::ALL.into_iter().find(|place| place.is_asked_in(set))?;
        self.elements.get(&place.frontends())?.get(at)?.owner
    }
}

/// What was found.
struct Reading {
    sets: BTreeMap<String, Found>,
    chains: BTreeMap<String, (Base, Vec<Found>)>,
    /// Whether no packet comes to the table's chains.
    asleep: bool,
}

impl Reading {
    /// `None` if there is no table. `NFTA_SET_NAME` 2, `NFTA_CHAIN_NAME` 3, `NFTA_RULE_CHAIN` 2, `_EXPRESSIONS` 4.
    fn take(kernel: &Connection) -> Result<Option<Self>, NetlinkError> {
        let (Some(table), Some(sets)) = (get_table(kernel)?, dump::sets(kernel)?) else { return Ok(None) };
        let name = |found: &Found, kind| text(found, kind).map(str::to_owned).ok_or(NetlinkError::Malformed);
        let sets = sets.into_iter().map(|set| Ok((name(&set, 2)?, set))).collect::<Result<_, _>>()?;
        let mut chains = BTreeMap::new();
        for chain in dump::chains(kernel)? {
            chains.insert(name(&chain, 3)?, (Base::read(&chain), Vec::new()));
        }
        for rule in dump::rules(kernel)? {
            // A chain that came meanwhile is told by the next reading.
            if let Some((_, rules)) = chains.get_mut(&name(&rule, 2)?) {
                rules.push(message::find(&rule, 4).unwrap_or_default().to_vec());
            }
        }
        let asleep = number(&table, 2).is_some_and(|flags| flags & DORMANT != 0);
        Ok(Some(Self { sets, chains, asleep }))
    }
}

/// All differences between the kernel's table and `ruleset`; `steering` are the rules that lead health checks, where that is
/// known. Clients that Pods remember, leases and counters are none.
pub(super) fn differences(
    kernel: &Connection,
    ruleset: &Ruleset,
    steering: Option<Vec<Rule>>,
) -> Result<Vec<Difference>, NetlinkError> {
    let Some(found) = Reading::take(kernel)? else {
        return Ok(vec![Difference { service: None, what: format!("there is no table inet {TABLE}") }]);
    };
    let mut wanted = Wanted::of(ruleset);
    let health = wanted.chains.get_mut(&health_checks());
    let known = steering.is_some();
    if let (Some(rules), Some((chain, _))) = (steering, health) {
        chain.rules = rules;
    }
    let mut comparison = Comparison { kernel, wanted: &wanted, found: &found, differences: Vec::new() };
    if found.asleep {
        comparison.tell(None, format!("table inet {TABLE} is dormant: no packet comes to it"));
    }
    comparison.sets()?;
    comparison.chains(known)?;
    Ok(comparison.differences)
}

/// Compares, and collects what differs.
struct Comparison<'a> {
    kernel: &'a Connection,
    wanted: &'a Wanted<'a>,
    found: &'a Reading,
    differences: Vec<Difference>,
}

impl Comparison<'_> {
    fn tell(&mut self, owner: Owner<'_>, what: String) {
        self.differences.push(Difference { service: owner.cloned(), what });
    }

    fn sets(&mut self) -> Result<(), NetlinkError> {
        let (wanted, found) = (self.wanted, self.found);
        for (name, (set, owner)) in &wanted.sets {
            match found.sets.get(name.as_str()) {
                None => self.tell(*owner, format!("set {name} is missing")),
                Some(found) => {
                    if Declared::read(found) != Declared::of(set) {
                        self.tell(*owner, format!("set {name} is declared in another way"));
                    }
                    if !matches!(set.kind, SetKind::Remembered { .. } | SetKind::Leases { .. }) {
                        self.elements(name, set, *owner)?;
                    }
                }
            }
        }
        for (name, found) in &found.sets {
            if !wanted.sets.contains_key(&Name::new(name.as_str())) && !Declared::read(found).is_unnamed() {
                self.tell(None, format!("there is a set {name}, which is not ours"));
            }
        }
        Ok(())
    }

    fn elements(&mut self, name: &Name, set: &Set, owner: Owner<'_>) -> Result<(), NetlinkError> {
        let (none, found) = (BTreeMap::new(), content(self.kernel, name.as_str())?);
        let wanted = self.wanted.elements.get(name).unwrap_or(&none);
        if set.kind == SetKind::Ranges {
            if !found.keys().eq(wanted.keys()) {
                self.tell(owner, format!("set {name} has other ranges than it should"));
            }
            return Ok(());
        }
        for (at, Element { key, datum, content, owner }) in wanted {
            match found.get(at) {
                None => self.tell(*owner, format!("{name} lacks {key}{datum}")),
                Some(found) if found != content => {
                    let instead = leads(set.kind, found);
                    self.tell(*owner, format!("{name} has {key}{instead} instead of {key}{datum}"));
                }
                Some(_) => {}
            }
        }
        for (at, content) in found.iter().filter(|(at, _)| !wanted.contains_key(*at)) {
            let key =
                canonical::key(&set.fields, &at.0).map_or_else(|| format!("{:02x?}", at.0), |key| key.to_string());
            let owner = owner.or_else(|| self.wanted.owner(name, at));
            self.tell(owner, format!("{name} has {key}{}, which is not ours", leads(set.kind, content)));
        }
        Ok(())
    }

    /// `health` says whether the rules are known that lead health checks.
    fn chains(&mut self, health: bool) -> Result<(), NetlinkError> {
        let (wanted, found) = (self.wanted, self.found);
        for (name, (Chain { kind, rules }, owner)) in &wanted.chains {
            let Some((base, in_chain)) = found.chains.get(name.as_str()) else {
                self.tell(*owner, format!("chain {name} is missing"));
                continue;
            };
            if *base != Base::of(*kind) {
                self.tell(*owner, format!("chain {name} is another kind of chain, or at another place"));
            }
            let known = health || *name != health_checks();
            if let Some(what) = if known { self.rules(rules, in_chain)? } else { None } {
                self.tell(*owner, format!("chain {name} {what}"));
            }
        }
        for name in found.chains.keys().filter(|name| !wanted.chains.contains_key(&Name::new(name.as_str()))) {
            self.tell(None, format!("there is a chain {name}, which is not ours"));
        }
        Ok(())
    }

    /// How the rules of a chain differ, if they do.
    fn rules(&self, wanted: &[Rule], found: &[Found]) -> Result<Option<String>, NetlinkError> {
        if wanted.len() != found.len() {
            return Ok(Some(format!("has {} rules instead of {}", found.len(), wanted.len())));
        }
        for (number, (wanted, found)) in (1..).zip(wanted.iter().zip(found)) {
            if Expressions::of(wanted) != Expressions::read(found) || !self.chooses(wanted, found)? {
                return Ok(Some(format!("has another rule {number} instead of `{wanted}`")));
            }
        }
        Ok(None)
    }

    /// Whether a rule that is as wanted otherwise chooses among the same chains.
    fn chooses(&self, wanted: &Rule, found: &Found) -> Result<bool, NetlinkError> {
        let chains = wanted.0.iter().find_map(|statement| match statement {
            Statement::Choose(chains) => Some(chains),
            _ => None,
        });
        let Some(chains) = chains else { return Ok(true) };
        let Some(map) = Expressions::unnamed(found) else { return Ok(false) };
        Ok(content(self.kernel, map)? == canonical::choices(chains))
    }
}

/// What is in a set.
fn content(kernel: &Connection, set: &str) -> Result<Content, NetlinkError> {
    let elements = dump::elements(kernel, set)?;
    elements.iter().map(|element| canonical::read_element(element).ok_or(NetlinkError::Malformed)).collect()
}

/// Where an element leads, in the words of a datum.
fn leads(kind: SetKind, content: &[u8]) -> String {
    let pod = match kind {
        SetKind::Pods(family) => canonical::pod(family, content).map(Datum::Pod),
        _ => None,
    };
    match (pod, content.split_at_checked(4)) {
        (Some(pod), _) => pod.to_string(),
        (None, Some((_, chain))) => format!(" : {}", String::from_utf8_lossy(chain).trim_end_matches('\0')),
        (None, None) => String::new(),
    }
}

fn health_checks() -> Name {
    Name::new(HEALTH_CHECKS)
}
