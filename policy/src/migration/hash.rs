//! One number for what a user approves.

use super::PlannedItem;
use portreeve_crds::migration::Decision;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

/// Hash over the items that need approval, as `sha256:` and 64 hexadecimal digits.
///
/// It covers all that is shown of them, so that approval means exactly what was seen, and nothing of the others, so that
/// a new safe item does not void it. The order of `items` does not matter.
pub fn plan_hash<'a>(items: impl IntoIterator<Item = &'a PlannedItem>) -> String {
    let mut approved: Vec<&PlannedItem> =
        items.into_iter().filter(|item| item.decision == Decision::NeedsApproval).collect();
    approved.sort_by_key(|item| (&item.namespace, &item.name, &item.uid));
    let plan = Value::Array(approved.into_iter().map(canonical_item).collect());
    let digest = Sha256::digest(plan.to_string());
    digest.iter().fold(String::from("sha256:"), |hex, byte| format!("{hex}{byte:02x}"))
}

fn canonical_item(item: &PlannedItem) -> Value {
    // Destructured whole, so that a new member cannot be forgotten.
    let PlannedItem { namespace, name, uid, decision, reason, before, owner, patch, inverse, notes } = item;
    canonical(json!({
        "namespace": namespace, "name": name, "uid": uid, "decision": decision, "reason": reason, "before": before,
        "owner": owner, "patch": patch, "inverse": inverse, "notes": notes,
    }))
}

/// Members in the order of their names, whatever order `serde_json` was built to keep.
fn canonical(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<String, Value> =
                members.into_iter().map(|(name, value)| (name, canonical(value))).collect();
            Value::Object(sorted.into_iter().collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(canonical).collect()),
        scalar => scalar,
    }
}
