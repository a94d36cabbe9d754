//! What was found, for people and for scripts.

use super::compare::{Between, NodeLook, Outcome, Place, Repair, Values};
use crate::text::{clean, count, lines, table};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Most characters of one value.
const CHARACTERS: usize = 160;
/// Differences of one node that are shown one by one.
const SHOWN: usize = 50;

impl Between {
    const fn as_str(self) -> &'static str {
        match self {
            Self::ApiAndAgent => "API and agent",
            Self::AgentAndKernel => "agent and kernel",
        }
    }
}

/// One object for all.
pub(super) fn json(outcome: &Outcome) -> Value {
    let nodes = outcome.nodes.iter().map(|(node, look)| {
        let repair = outcome.repairs.get(node).map(|(before, done)| {
            let (done, error) = match done {
                Ok(Repair { backend, milliseconds }) => {
                    (Some(json!({"backend": backend, "milliseconds": milliseconds})), None)
                }
                Err(why) => (None, Some(why)),
            };
            json!({"before": differences(before), "done": done, "error": error})
        });
        json!({
            "node": node, "services": look.services, "differences": differences(look),
            "furtherDifferences": look.omitted, "untold": look.untold, "repair": repair,
        })
    });
    json!({"same": outcome.exit() == crate::Exit::Clean, "nodes": nodes.collect::<Vec<_>>()})
}

fn differences(look: &NodeLook) -> Value {
    let one = |(Place { between, service, what }, values): (&Place, &Values)| {
        let (first, second) = values.clone().unzip();
        let values = values.as_ref().map(|_| json!({"api": first, "agent": second}));
        json!({"between": between.as_str(), "service": service, "what": what, "values": values})
    };
    look.differences.iter().map(one).collect()
}

/// A table of differences, and what to do.
pub(super) fn people(outcome: &Outcome, namespace: &str) -> String {
    let mut text = String::new();
    let mut rows = table(["NODE", "SERVICE", "BETWEEN", "DIFFERENCE"]);
    let mut shown = false;
    for (node, look) in &outcome.nodes {
        for (place, values) in look.differences.iter().take(SHOWN) {
            let service = place.service.as_deref().unwrap_or("-");
            rows.add_row([clean(node), clean(service), place.between.as_str().to_owned(), sentence(place, values)]);
            shown = true;
        }
        let more = look.differences.len().saturating_sub(SHOWN) + look.omitted;
        if more > 0 {
            rows.add_row([clean(node), "-".to_owned(), "-".to_owned(), format!("and {more} more")]);
        }
    }
    if shown {
        lines(rows).for_each(|line| _ = writeln!(text, "{line}"));
        text.push('\n');
    }
    for (node, (before, done)) in &outcome.repairs {
        let had = count(before.differences.len() + before.omitted, "difference");
        _ = match done {
            Ok(Repair { backend, milliseconds }) => {
                writeln!(text, "{}: had {had}; made everything anew ({backend}, {milliseconds} ms).", clean(node))
            }
            Err(why) => writeln!(text, "{}: had {had} and was not repaired: {}.", clean(node), clean(why)),
        };
    }
    for (node, look) in &outcome.nodes {
        look.untold.iter().for_each(|why| _ = writeln!(text, "{}: could not be told: {}.", clean(node), clean(why)));
    }
    verdict(&mut text, outcome, namespace);
    text
}

fn verdict(text: &mut String, outcome: &Outcome, namespace: &str) {
    let same = outcome.nodes.values().filter(|look| look.is_clean());
    let services = same.clone().map(|look| look.services).max().unwrap_or(0);
    let (same, all) = (same.count(), outcome.nodes.len());
    let agree =
        format!("API, agent and kernel agree on {same} of {} ({}).", count(all, "node"), count(services, "Service"));
    _ = writeln!(text, "{agree}");
    let has = |between| outcome.nodes.values().flat_map(|look| look.differences.keys()).any(|it| it.between == between);
    if has(Between::AgentAndKernel) {
        _ = writeln!(text, "Agent and kernel: run again with --repair, and the agent makes everything anew.");
    }
    if has(Between::ApiAndAgent) {
        _ = writeln!(
            text,
            "API and agent: see kubectl -n {namespace} logs daemonset/portreeve-agent; an agent that is restarted reads all anew."
        );
    }
}

fn sentence(place: &Place, values: &Values) -> String {
    let Some((api, agent)) = values else { return clean(&place.what) };
    format!("{}: the API says {}, the agent has {}", clean(&place.what), short(api), short(agent))
}

fn short(value: &Value) -> String {
    let text = if value.is_null() { "nothing".to_owned() } else { clean(&value.to_string()) };
    match text.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
