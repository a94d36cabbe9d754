//! What is said is true of the items that it is said of.

use super::{next_step, remarks};
use portreeve_crds::{TrafficMigration, TrafficMigrationItem};
use serde_json::{Value, json};

fn migration(spec: Value, status: Option<Value>) -> TrafficMigration {
    let mut migration = json!({"metadata": {"name": "edge", "generation": 2}, "spec": {"mode": "Apply"}});
    merge_spec(&mut migration["spec"], spec);
    if let Some(status) = status {
        migration["status"] = status;
    }
    serde_json::from_value(migration).unwrap()
}

fn merge_spec(target: &mut Value, change: Value) {
    for (key, value) in change.as_object().unwrap() {
        target[key] = value.clone();
    }
}

fn at(phase: &str) -> Option<Value> {
    Some(json!({"observedGeneration": 2, "phase": phase, "planHash": "sha256:1"}))
}

fn item(service: &str, decision: &str, state: &str, message: &str) -> TrafficMigrationItem {
    serde_json::from_value(json!({
        "metadata": {"namespace": "shop", "name": format!("edge.{service}")},
        "spec": {"migration": "edge", "service": {"name": service, "uid": "u"}, "decision": decision, "reason": "because",
            "before": {}, "patch": [], "inverse": []},
        "status": {"state": state, "message": message},
    }))
    .unwrap()
}

fn safe(state: &str) -> TrafficMigrationItem {
    item("web", "Safe", state, "")
}

#[test]
fn a_migration_that_nobody_has_looked_at_is_not_called_empty() {
    let text = next_step(&migration(json!({}), None), &[]);
    assert!(text.starts_with("The operator has not looked at this migration yet. Is it running?"), "{text}");
}

#[test]
fn without_items_there_is_nothing_to_migrate_only_once_the_operator_has_looked() {
    let text = next_step(&migration(json!({}), at("Completed")), &[]);
    assert_eq!(text, "No Service in scope carries a legacy external-traffic annotation: nothing to migrate.");
    let status = json!({"observedGeneration": 1, "phase": "Completed"});
    let text = next_step(&migration(json!({}), Some(status)), &[]);
    assert!(text.contains("before its last change, which the operator has not looked at yet"), "{text}");
}

#[test]
fn a_plan_that_cannot_be_made_says_why() {
    let planned = json!({"type": "Planned", "status": "False", "reason": "Invalid", "message": "spec.selector: no",
        "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let status = json!({"observedGeneration": 2, "phase": "Failed", "conditions": [planned]});
    assert_eq!(next_step(&migration(json!({}), Some(status)), &[]), "The plan cannot be made: spec.selector: no");
}

#[test]
fn what_was_only_proposed_is_not_called_completed_and_the_way_on_is_told() {
    let text = next_step(&migration(json!({}), at("Proposed")), &[safe("Proposed")]);
    assert!(text.starts_with("Nothing was changed: 1 only proposed."), "{text}");
    assert!(text.contains("kubectl -n shop get tmi edge.web -o yaml"), "{text}");
    assert!(text.contains("kubectl portreeve migrate apply edge --include-owned"), "{text}");
    assert!(!text.contains("rollback"), "{text}");
}

#[test]
fn completed_counts_what_was_applied_and_what_was_not() {
    let items = [safe("Done"), item("own", "Safe", "Proposed", ""), item("odd", "Invalid", "Invalid", "")];
    let text = next_step(&migration(json!({}), at("Completed")), &items);
    assert!(text.starts_with("Completed: 1 applied, 1 only proposed, 1 not readable. Go back"), "{text}");
    let text = next_step(&migration(json!({}), at("Completed")), &items[2..]);
    assert_eq!(text, "Nothing was applied: 1 not readable.");
}

#[test]
fn a_held_back_item_is_told_with_what_holds_it_and_that_it_goes_on_by_itself() {
    let blocked = item("web", "NeedsApproval", "Blocked", "Held back: 0 nodes have a ready Pod, 1 are wanted.");
    assert_eq!(remarks(&blocked), ["shop/web: Held back: 0 nodes have a ready Pod, 1 are wanted."]);
    let text = next_step(&migration(json!({}), at("Blocked")), &[blocked]);
    assert!(text.starts_with("1 held back. What holds the rest back is told above."), "{text}");
    assert!(text.contains("looks again by itself"), "{text}");
}

#[test]
fn a_rollback_says_what_it_undid() {
    let back = || migration(json!({"rollback": true}), at("RolledBack"));
    assert_eq!(next_step(&back(), &[safe("RolledBack")]), "Rolled back: 1 Service is as it was before.");
    let text = next_step(&back(), &[safe("Planned")]);
    assert_eq!(text, "Nothing had been applied, so there was nothing to undo.");
    let failed = migration(json!({"rollback": true}), at("Failed"));
    let text = next_step(&failed, &[safe("Failed")]);
    assert!(text.starts_with("The rollback failed: 1 failed."), "{text}");
    assert!(text.ends_with("once it is gone: kubectl portreeve migrate rollback edge"), "{text}");
}

#[test]
fn a_plan_offers_only_what_can_be_done() {
    let plan = |items: &[TrafficMigrationItem]| next_step(&migration(json!({"mode": "Plan"}), at("Planned")), items);
    let invalid = item("odd", "Invalid", "Invalid", "");
    let text = plan(std::slice::from_ref(&invalid));
    assert!(!text.contains("migrate apply") && text.contains("never touched"), "{text}");
    let text = plan(&[safe("Planned"), invalid]);
    assert!(text.contains("1 Service changes no traffic, 0 Services change it."), "{text}");
    assert!(text.contains("migrate apply edge") && !text.contains("approve"), "{text}");
}
