//! A divergence with as little around it as it needs.

use crate::Subject;
use crate::judge::Tally;
use crate::run::{Divergence, run};
use crate::scenario::Scenario;
use crate::site::Site;
use portreeve_table::{ForwardingTable, Interface, ServiceEntry, ServiceKey};
use std::collections::BTreeSet;

/// Most attempts.
const TRIES: usize = 200;

/// The smallest scenario found that diverges, and how.
pub(crate) fn shrink(
    site: &Site,
    subject: &Subject,
    scenario: Scenario,
    divergence: Divergence,
) -> (Scenario, Divergence) {
    let mut search = Search { site, subject, smallest: scenario, divergence, tries: TRIES };
    let last = search.divergence.phase;
    search.attempt(|phases| phases.0.truncate(last + 1));
    search.packets();
    for phase in (0..search.smallest.0.len()).rev() {
        search.attempt(|phases| {
            if phase < phases.0.len() && phases.0.len() > 1 {
                phases.0.remove(phase);
            }
        });
    }
    let services: BTreeSet<ServiceKey> =
        search.smallest.0.iter().flat_map(|phase| phase.table.services.keys().cloned()).collect();
    for service in services {
        search.attempt(|phases| phases.0.iter_mut().for_each(|phase| drop(phase.table.services.remove(&service))));
    }
    search.packets();
    (search.smallest, search.divergence)
}

struct Search<'a> {
    site: &'a Site,
    subject: &'a Subject,
    smallest: Scenario,
    divergence: Divergence,
    tries: usize,
}

impl Search<'_> {
    /// Takes a change over if what is left still diverges.
    fn attempt(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        let mut smaller = self.smallest.clone();
        change(&mut smaller);
        if self.tries == 0 {
            return false;
        }
        self.tries -= 1;
        // Choices among Pods are the kernel's own: what diverges by chance gets another one.
        let found = (0..2).find_map(|_| run(self.site, self.subject, &smaller, &mut Tally::default()).err());
        let Some(divergence) = found else { return false };
        self.smallest = smaller;
        self.divergence = divergence;
        true
    }

    /// Takes packets out: all but those of one flow, of one client, or halves, quarters and so on.
    fn packets(&mut self) {
        let number = self.divergence.number;
        let all = || self.smallest.0.iter().flat_map(|phase| &phase.shots);
        if let Some(shot) = all().find(|shot| shot.number == number).copied() {
            let only = |keep: &dyn Fn(&crate::scenario::Shot) -> bool, phases: &mut Scenario| {
                phases.0.iter_mut().for_each(|phase| phase.shots.retain(keep));
            };
            if self.attempt(|phases| only(&|other| other.number == number, phases)) {
                return;
            }
            if self.attempt(|phases| only(&|other| other.source == shot.source, phases)) {
                return;
            }
            self.attempt(|phases| only(&|other| other.source.ip() == shot.source.ip(), phases));
        }
        let mut width = self.smallest.0.iter().map(|phase| phase.shots.len()).sum::<usize>() / 2;
        while width > 0 && self.tries > 0 {
            let numbers: Vec<u32> =
                self.smallest.0.iter().flat_map(|phase| phase.shots.iter().map(|shot| shot.number)).collect();
            for out in numbers.chunks(width) {
                self.attempt(|phases| {
                    phases.0.iter_mut().for_each(|phase| phase.shots.retain(|shot| !out.contains(&shot.number)));
                });
            }
            width /= 2;
        }
    }
}

/// What a person needs to see it.
pub(crate) fn describe(scenario: &Scenario, divergence: &Divergence) -> String {
    let mut lines = Vec::new();
    for (number, phase) in scenario.0.iter().enumerate() {
        let uplinks: Vec<&str> = phase.uplinks.iter().map(Interface::as_str).collect();
        let how = if phase.anew { ", by a new engine" } else { "" };
        lines.push(format!("Table {number}{how}, uplinks {}:", uplinks.join(", ")));
        lines.extend(table(&phase.table));
        let late = if phase.late { "after a while " } else { "" };
        lines.extend(phase.shots.iter().map(|shot| format!("  {late}{shot:?}")));
    }
    let Divergence { phase, number, what } = divergence;
    lines.push(format!("With table {phase}, packet {number}: {what}"));
    lines.join("\n")
}

fn table(table: &ForwardingTable) -> Vec<String> {
    let ForwardingTable { node_addresses, pod_ranges, services } = table;
    let mut lines = vec![format!("  node {node_addresses:?}, Pods {pod_ranges:?}")];
    for (key, entry) in services {
        let ServiceEntry { mode, on_no_local, sources, affinity_seconds, .. } = entry.as_ref();
        lines.push(format!("  {key} {mode:?}, onNoLocal {on_no_local:?}, affinity {affinity_seconds:?}, {sources:?}"));
        for port in &entry.ports {
            let fronts: Vec<String> = port
                .frontends
                .iter()
                .map(|front| format!("{}{}", front.frontend, if front.guarded { " guarded" } else { "" }))
                .collect();
            let pods: Vec<String> = port.targets.iter().map(|target| target.hop.to_string()).collect();
            let (fronts, pods, kept) = (fronts.join(", "), pods.join(", "), &port.kept);
            lines.push(format!("    {fronts}: {:?}, to {pods}, kept by {kept:?}", port.standing));
        }
    }
    lines
}
