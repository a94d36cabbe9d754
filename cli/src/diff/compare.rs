//! The comparison itself: one node's answers beside what the API comes to there.

use crate::agents::Said;
use crate::exit::Exit;
use crate::world::World;
use portreeve_ask::{Answer, FieldDifference, ServiceView, Standing, TablePage, compare};
use portreeve_table::{Compiled, ServiceKey};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What one node was asked, and what it said.
pub(super) struct Asked<'a> {
    /// Only this Service.
    pub(super) service: Option<&'a ServiceKey>,
    pub(super) table: Said,
    pub(super) kernel: Said,
}

/// Between whom there is a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Between {
    /// What the API comes to, and what the agent has compiled.
    ApiAndAgent,
    /// What the agent has put in force, and what the kernel holds.
    AgentAndKernel,
}

/// What differs: the same twice is the same difference, whatever the values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) between: Between,
    /// None if it touches all of them.
    pub(super) service: Option<String>,
    /// The field, or what the agent says of its kernel.
    pub(super) what: String,
}

/// The two values of a field, where there are two.
pub(super) type Values = Option<(Value, Value)>;

/// What one node was found to be.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct NodeLook {
    pub(super) differences: BTreeMap<Place, Values>,
    /// Differences of the kernel beyond those that its agent names.
    pub(super) omitted: usize,
    /// Why something could not be told.
    pub(super) untold: BTreeSet<String>,
    /// Services that were compared.
    pub(super) services: usize,
}

impl NodeLook {
    /// Nothing differs, and all was told.
    pub(super) fn is_clean(&self) -> bool {
        self.differences.is_empty() && self.untold.is_empty()
    }

    /// Of this second look what the first saw too.
    pub(super) fn confirming(mut self, first: &Self) -> Self {
        if first.untold.is_empty() {
            self.differences.retain(|place, _| first.differences.contains_key(place));
        } else if !self.differences.is_empty() && self.untold.is_empty() {
            // Seen once only: an agent that has just come back is on its way.
            self.differences.clear();
            self.untold = first.untold.clone();
        }
        if self.differences.is_empty() {
            self.omitted = 0;
        }
        self
    }

    fn differ(&mut self, between: Between, service: Option<&str>, what: impl Into<String>, values: Values) {
        let place = Place { between, service: service.map(str::to_owned), what: what.into() };
        self.differences.insert(place, values);
    }
}

/// Compares what `node` said with what the API comes to there.
pub(super) fn look(world: &mut World, node: &str, asked: Asked<'_>) -> NodeLook {
    let Asked { service, table, kernel } = asked;
    let mut look = NodeLook::default();
    match merged(table) {
        Ok(table) => {
            match world.sites.iter().find(|site| *site.node.name == *node) {
                Some(site) => {
                    world.input.this_node = site.node.clone();
                    let compiled = portreeve_table::compile(&world.input);
                    tables(&mut look, &compiled, &table, service);
                }
                None => _ = look.untold.insert("the API has no Node of this name".to_owned()),
            }
            in_force(&mut look, &table);
        }
        Err(why) => _ = look.untold.insert(why),
    }
    // An agent that has programmed nothing has nothing to read back.
    let idle = look.differences.keys().any(|place| place.between == Between::AgentAndKernel && place.what == NOT_YET);
    if !idle {
        self::kernel(&mut look, service, kernel);
    }
    look
}

/// All pages as one.
fn merged(said: Said) -> Result<TablePage, String> {
    let mut whole: Option<TablePage> = None;
    for answer in said? {
        let Answer::Table(page) = answer else { return Err(OTHER.to_owned()) };
        match &mut whole {
            None => whole = Some(page),
            Some(whole) => whole.services.extend(page.services),
        }
    }
    whole.ok_or_else(|| OTHER.to_owned())
}

const OTHER: &str = "its agent answered something else; use the plugin of the agent's version";
const NOT_YET: &str = "nothing is programmed yet";

fn tables(look: &mut NodeLook, compiled: &Compiled, agent: &TablePage, only: Option<&ServiceKey>) {
    let between = Between::ApiAndAgent;
    let own = &compiled.table;
    if only.is_none() {
        for (what, api, agent) in [
            ("node addresses", serde_json::json!(own.node_addresses), serde_json::json!(agent.node_addresses)),
            ("Pod ranges", serde_json::json!(own.pod_ranges), serde_json::json!(agent.pod_ranges)),
        ] {
            if api != agent {
                look.differ(between, None, what, Some((api, agent)));
            }
        }
    }
    let wanted = own.services.iter().filter(|(key, _)| only.is_none_or(|only| only == *key));
    let wanted: BTreeMap<String, ServiceView> =
        wanted.map(|(key, entry)| (key.to_string(), ServiceView::from(&**entry))).collect();
    for (name, api) in &wanted {
        match agent.services.get(name) {
            Some(agent) => {
                for FieldDifference { field, first, second } in compare(api, agent) {
                    look.differ(between, Some(name), field, Some((first, second)));
                }
            }
            None => {
                let refused = agent.refused.get(name).map(|why| format!(": refused there, {why}"));
                look.differ(between, Some(name), format!("the agent lacks it{}", refused.unwrap_or_default()), None);
            }
        }
    }
    for name in agent.services.keys().filter(|name| !wanted.contains_key(*name)) {
        let why = portreeve_ask::service_key(name).map(|key| compiled.explain_claim(&key)).unwrap_or_default();
        let why = why.lines().next().unwrap_or_default().trim_end_matches('.');
        look.differ(between, Some(name), format!("the agent has it still: by the API {why}"), None);
    }
    look.services = wanted.keys().chain(agent.services.keys()).collect::<BTreeSet<_>>().len();
}

/// What the agent knows of its kernel without asking it.
fn in_force(look: &mut NodeLook, table: &TablePage) {
    match &table.standing {
        Standing::InForce { .. } => {}
        Standing::NotYet if table.services.is_empty() => {}
        Standing::NotYet => look.differ(Between::AgentAndKernel, None, NOT_YET, None),
        Standing::Failed { why } => look.differ(Between::AgentAndKernel, None, format!("not programmed: {why}"), None),
    }
}

fn kernel(look: &mut NodeLook, only: Option<&ServiceKey>, said: Said) {
    let read = said.and_then(|answers| match answers.into_iter().next() {
        Some(Answer::ReadBack(read)) => Ok(read),
        _ => Err(OTHER.to_owned()),
    });
    let read = match read {
        Ok(read) => read,
        Err(why) => {
            look.untold.insert(why);
            return;
        }
    };
    let only = only.map(ToString::to_string);
    for found in read.differences {
        let about = |only: &String| found.service.as_ref().is_none_or(|service| service == only);
        if only.as_ref().is_none_or(about) {
            look.differ(Between::AgentAndKernel, found.service.as_deref(), found.what, None);
        }
    }
    look.omitted = if only.is_none() { read.omitted } else { 0 };
}

/// A repair that was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Repair {
    pub(super) backend: String,
    pub(super) milliseconds: u64,
}

/// What was found on all nodes.
pub(super) struct Outcome {
    pub(super) nodes: BTreeMap<String, NodeLook>,
    /// What there was before a repair, and what became of the repair.
    pub(super) repairs: BTreeMap<String, (NodeLook, Result<Repair, String>)>,
}

impl Outcome {
    pub(super) const fn new(nodes: BTreeMap<String, NodeLook>) -> Self {
        Self { nodes, repairs: BTreeMap::new() }
    }

    /// Nodes with a difference.
    pub(super) fn different(&self) -> BTreeSet<String> {
        let different = self.nodes.iter().filter(|(_, look)| !look.differences.is_empty());
        different.map(|(node, _)| node.clone()).collect()
    }

    /// Takes over what there is after repairs.
    pub(super) fn repaired(&mut self, repairs: BTreeMap<String, Result<Repair, String>>, after: Self) {
        for (node, look) in after.nodes {
            let before = self.nodes.insert(node.clone(), look);
            let done = repairs.get(&node).cloned().unwrap_or_else(|| Err("it was not asked".to_owned()));
            self.repairs.insert(node, (before.unwrap_or_default(), done));
        }
    }

    /// As diff(1): trouble is more than a difference.
    pub(super) fn exit(&self) -> Exit {
        let failed = self.repairs.values().any(|(_, done)| done.is_err());
        if failed || self.nodes.values().any(|look| !look.untold.is_empty()) {
            Exit::Untold
        } else if self.different().is_empty() {
            Exit::Clean
        } else {
            Exit::Findings
        }
    }
}
