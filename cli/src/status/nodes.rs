//! Nodes, those with something wrong first.

use crate::text::{clean, table};
use comfy_table::Table;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt as _;
use portreeve_crds::NodeDatapath;
use portreeve_crds::condition::{PROGRAMMED, READY};

/// Most characters of what is wrong; `kubectl describe nodedatapath` has all of it.
const CHARACTERS: usize = 200;

/// The first `shown` nodes, and how many there are beyond them.
pub(super) fn rows(nodes: &[NodeDatapath], shown: usize) -> (Table, usize) {
    let mut rows: Vec<_> = nodes.iter().map(|node| (wrong(node), node)).collect();
    rows.sort_by_key(|(wrong, node)| (wrong.is_none(), node.name_any()));
    let mut table = table(["NODE", "BACKEND", "PROGRAMMED", "UPLINKS", "CLAIMED", "REFUSED", "READY", "WHAT IS WRONG"]);
    for (wrong, node) in rows.iter().take(shown) {
        let status = node.status.clone().unwrap_or_default();
        let uplinks: Vec<&str> = status.uplinks.iter().map(|uplink| uplink.name.as_str()).collect();
        let count = |of: fn(&portreeve_crds::node_datapath::TableCounts) -> i32| {
            status.services.as_ref().map_or_else(|| "?".to_owned(), |counts| of(counts).to_string())
        };
        let backend = status.backend.as_ref().and_then(|backend| backend.chosen);
        table.add_row([
            clean(&node.name_any()),
            backend.map_or(if status.backend.is_some() { "none" } else { "?" }, |chosen| chosen.as_str()).to_owned(),
            with_reason(&status.conditions, PROGRAMMED),
            if uplinks.is_empty() { "-".to_owned() } else { clean(&uplinks.join(",")) },
            count(|counts| counts.claimed),
            count(|counts| counts.refused),
            super::word(&status.conditions, READY),
            clean(wrong.as_deref().unwrap_or("-")),
        ]);
    }
    (table, nodes.len().saturating_sub(shown))
}

/// A condition's status with its reason, which tells a part from the whole.
fn with_reason(conditions: &[Condition], kind: &str) -> String {
    let found = conditions.iter().find(|one| one.type_ == kind);
    found.map_or_else(|| "?".to_owned(), |one| clean(&format!("{} ({})", one.status, one.reason)))
}

/// What is wrong with a node: what went wrong last, or else the first condition that is not met.
fn wrong(node: &NodeDatapath) -> Option<String> {
    let Some(status) = &node.status else { return Some("its agent has not reported yet".to_owned()) };
    let unmet = |kind: &str| {
        let found = status.conditions.iter().find(|one| one.type_ == kind && one.status != "True")?;
        Some(found.message.clone())
    };
    let text = status.last_error.clone().or_else(|| unmet(READY)).or_else(|| unmet(PROGRAMMED))?;
    let short: String = text.chars().take(CHARACTERS).collect();
    Some(if short.len() == text.len() { short } else { format!("{short}…") })
}

#[cfg(test)]
mod tests {
    use super::rows;
    use portreeve_crds::NodeDatapath;
    use serde_json::{Value, json};

    fn node(name: &str, status: Value) -> NodeDatapath {
        let object = json!({"metadata": {"name": name}, "spec": {"nodeName": name}, "status": status});
        serde_json::from_value(object).unwrap()
    }

    fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
        json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"})
    }

    fn well(name: &str) -> NodeDatapath {
        let conditions = [condition("Ready", "True", "InStep", "-"), condition("Programmed", "True", "InForce", "-")];
        node(
            name,
            json!({
                "backend": {"asked": "Auto", "chosen": "Nftables", "reason": "-"}, "conditions": conditions,
                "uplinks": [{"name": "eth0", "index": 2, "mtu": 1500, "addresses": [], "reason": "-"}],
                "services": {"seen": 9, "claimed": 3, "refused": 0, "frontends": 6, "localBackends": 4},
            }),
        )
    }

    fn shown(nodes: &[NodeDatapath], number: usize) -> (String, usize) {
        let (table, more) = rows(nodes, number);
        (crate::text::lines(table).collect::<Vec<_>>().join("\n"), more)
    }

    #[test]
    fn a_node_says_what_is_wrong_and_comes_first() {
        let mut full = well("d-full");
        if let Some(status) = &mut full.status {
            status.last_error =
                Some(format!("1 Service refused, first shop/web: {}", "it needs 2 frontends ".repeat(20)));
        }
        let unready = [condition("Ready", "False", "NoUplink", "no interface is an uplink")];
        let idle = [
            condition("Ready", "True", "InStep", "-"),
            condition("Programmed", "False", "NotYet", "nothing is programmed yet"),
        ];
        let nodes = [
            well("a"),
            node("b-unready", json!({"conditions": unready})),
            node("c-idle", json!({"conditions": idle})),
            full,
            node("e-silent", Value::Null),
        ];
        insta::assert_snapshot!(shown(&nodes, 20).0);
    }

    #[test]
    fn nodes_beyond_the_first_are_counted() {
        let nodes: Vec<NodeDatapath> = (0..25).map(|number| well(&format!("n{number:02}"))).collect();
        let (text, more) = shown(&nodes, 20);
        assert_eq!((text.lines().count(), more), (21, 5));
        assert!(!text.contains("n20"), "{text}");
    }
}
