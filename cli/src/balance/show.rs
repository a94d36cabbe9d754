//! The counts, for people and for scripts.

use super::count::{Balance, Load};
use crate::text::{clean, count, lines, table};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Cells of the longest bar.
const CELLS: u64 = 30;

/// One object.
pub(super) fn json(balance: &Balance) -> Value {
    let load = |load: &Load| {
        json!({
            "flows": load.flows, "countedPermille": load.counted.permille(),
            "expectedPermille": load.expected.permille(), "deviationPermille": load.deviation(),
        })
    };
    let with = |mut value: Value, name: &str, text: &str| {
        value[name] = text.into();
        value
    };
    let pods = balance.pods.iter().map(|((node, pod), it)| with(with(load(it), "pod", pod), "node", node));
    let nodes = balance.nodes.iter().map(|(node, it)| with(load(it), "node", node));
    json!({
        "service": balance.service, "seconds": seconds(balance), "flows": balance.flows,
        "pods": pods.collect::<Vec<_>>(), "nodes": nodes.collect::<Vec<_>>(),
        "unasked": balance.unasked, "notes": balance.notes, "complete": balance.complete(),
    })
}

/// To the tenth.
fn seconds(balance: &Balance) -> f64 {
    (balance.window.as_secs_f64() * 10.0).round() / 10.0
}

/// A table with bars, by node.
pub(super) fn people(balance: &Balance) -> String {
    let mut text = String::new();
    let (service, seconds) = (clean(&balance.service), seconds(balance));
    if balance.flows == 0 {
        _ = writeln!(
            text,
            "No new flow of {service} came to a Pod in {seconds:.1} s: nobody connected from outside, or connections that \
             are open were used again. kubectl portreeve explain svc/NAME --from CLIENT tells where one would go."
        );
    } else {
        _ = writeln!(text, "{service}: {} in {seconds:.1} s\n", count_flows(balance.flows));
        let mut rows = table(["NODE", "POD", "FLOWS", "COUNTED‰", "EXPECTED‰", "DEVIATION‰", ""]);
        let most = balance.pods.values().map(|load| load.counted.permille().max(load.expected.permille())).max();
        for (node, whole) in &balance.nodes {
            let own: Vec<_> = balance.pods.iter().filter(|((on, _), _)| on == node).collect();
            rows.add_row(row(&clean(node), &count(own.len(), "Pod"), whole, String::new()));
            for ((_, pod), load) in own {
                rows.add_row(row("", &clean(pod), load, bar(load, most.unwrap_or(0))));
            }
        }
        lines(rows).for_each(|line| _ = writeln!(text, "{line}"));
        _ = writeln!(text, "\n█ counted, up to what was expected; ▒ beyond it; · short of it");
    }
    balance.unasked.iter().for_each(|(node, why)| _ = writeln!(text, "{}: not counted: {}.", clean(node), clean(why)));
    balance.notes.iter().for_each(|note| _ = writeln!(text, "{}", clean(note)));
    text
}

fn count_flows(flows: u64) -> String {
    if flows == 1 { "1 new flow".to_owned() } else { format!("{flows} new flows") }
}

fn row(node: &str, pod: &str, load: &Load, bar: String) -> [String; 7] {
    let deviation = load.deviation().map_or_else(|| "-".to_owned(), |deviation| format!("{deviation:+}"));
    [
        node.to_owned(),
        pod.to_owned(),
        load.flows.to_string(),
        load.counted.permille().to_string(),
        load.expected.permille().to_string(),
        deviation,
        bar,
    ]
}

/// A bar in which [`CELLS`] are `most` permille.
fn bar(load: &Load, most: u64) -> String {
    let cells = |permille: u64| usize::try_from((permille * CELLS).div_ceil(most.max(1))).unwrap_or(0);
    let (counted, expected) = (cells(load.counted.permille()), cells(load.expected.permille()));
    let within = counted.min(expected);
    format!("{}{}{}", "█".repeat(within), "▒".repeat(counted - within), "·".repeat(expected - within))
}
