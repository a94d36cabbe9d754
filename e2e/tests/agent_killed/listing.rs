//! Our rules as the kernel has them, without what differs between two kernels that have the same: numbers of handles, counts,
//! the order of what has none, and the lease of health checks.

use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

/// One line for each rule, set, chain and element of ours in the calling thread's namespace; none if nothing is there.
pub(crate) fn of(backend: &str) -> Vec<String> {
    let mut lines = if backend == "Nftables" { nftables() } else { iptables() };
    lines.sort();
    lines
}

fn run(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

fn nftables() -> Vec<String> {
    let Some(text) = run("nft", &["-j", "list", "table", "inet", "portreeve"]) else { return Vec::new() };
    let mut all: Value = serde_json::from_str(&text).unwrap();
    let (mut lines, mut rules) = (Vec::new(), BTreeMap::<String, usize>::new());
    for item in all["nftables"].as_array_mut().unwrap().iter_mut().filter(|item| item["metainfo"].is_null()) {
        let (kind, item) = item.as_object_mut().unwrap().iter_mut().next().unwrap();
        let name = item["name"].as_str().unwrap_or_default().to_owned();
        let chain = item["chain"].as_str().unwrap_or_default().to_owned();
        if chain == "health-checks" {
            continue;
        }
        bare(item);
        let elements = item.as_object_mut().unwrap().remove("elem");
        if name != "health-leases" {
            let elements = elements.iter().flat_map(|all| all.as_array().into_iter().flatten());
            lines.extend(elements.map(|element| format!("{kind} {name} has {element}")));
        }
        // Rules of one chain stay in order.
        let number = rules.entry(chain.clone()).or_default();
        *number += 1;
        let place = if kind == "rule" { format!("{chain} {number:05} ") } else { String::new() };
        lines.push(format!("{kind} {place}{item}"));
    }
    lines
}

/// Takes out handles and counts.
fn bare(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for passing in ["handle", "packets", "bytes", "expires"] {
                members.remove(passing);
            }
            members.values_mut().for_each(bare);
        }
        Value::Array(items) => items.iter_mut().for_each(bare),
        _ => {}
    }
}

fn iptables() -> Vec<String> {
    let mut lines = Vec::new();
    for program in ["iptables-save", "ip6tables-save"] {
        let (mut table, mut chain, mut number) = (String::new(), String::new(), 0);
        for line in run(program, &[]).unwrap().lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name.to_owned();
            }
            if !line.contains("PORTREEVE") {
                continue;
            }
            if let Some((declared, _)) = line.split_once(" - [") {
                lines.push(format!("{program} {table} {declared}"));
                continue;
            }
            let of = line.split(' ').nth(1).unwrap_or_default().to_owned();
            number = if chain == of { number + 1 } else { 0 };
            chain = of;
            // Rules of one chain stay in order.
            lines.push(format!("{program} {table} {chain} {number:05} {line}"));
        }
    }
    lines
}

/// What only the one and only the other has, a few of each.
pub(crate) fn difference(ours: &[String], theirs: &[String]) -> String {
    let only = |these: &[String], those: &[String]| -> Vec<String> {
        these.iter().filter(|line| those.binary_search(line).is_err()).take(8).cloned().collect()
    };
    let (ours_alone, theirs_alone) = (only(ours, theirs), only(theirs, ours));
    format!(
        "{} lines here, {} there; only here {ours_alone:#?}, only there {theirs_alone:#?}",
        ours.len(),
        theirs.len()
    )
}
