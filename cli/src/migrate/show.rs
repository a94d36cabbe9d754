//! A migration for people and for scripts.

use crate::args::Output;
use crate::text::{clean, count, print_table, table};
use portreeve_crds::migration::{Decision, ItemState, MigrationPhase, ServiceState};
use portreeve_crds::{TrafficMigration, TrafficMigrationItem};
use serde_json::{Value, json};

pub(super) fn show(migration: &TrafficMigration, items: &[TrafficMigrationItem], output: Output) {
    match output {
        Output::Json => println!("{}", as_json(migration, items)),
        Output::Table => people(migration, items),
    }
}

fn as_json(migration: &TrafficMigration, items: &[TrafficMigrationItem]) -> Value {
    let items: Vec<Value> = items
        .iter()
        .map(|item| {
            json!({
                "namespace": item.metadata.namespace, "name": item.spec.service.name, "decision": item.spec.decision,
                "reason": item.spec.reason, "owner": item.spec.owner, "before": item.spec.before, "patch": item.spec.patch,
                "inverse": item.spec.inverse, "notes": item.spec.notes, "status": item.status,
            })
        })
        .collect();
    json!({"name": migration.metadata.name, "spec": migration.spec, "status": migration.status, "items": items})
}

fn people(migration: &TrafficMigration, items: &[TrafficMigrationItem]) {
    let name = migration.metadata.name.as_deref().unwrap_or_default();
    if items.is_empty() {
        println!("No Service carries a legacy external-traffic annotation: nothing to migrate.");
        return;
    }
    let mut overview = table(["SERVICE", "DECISION", "STATE", "BEFORE", "WHY"]);
    for item in items {
        let state =
            item.status.as_ref().and_then(|status| status.state).map_or_else(String::new, |state| format!("{state:?}"));
        overview.add_row([
            format!("{}/{}", item.metadata.namespace.as_deref().unwrap_or_default(), item.spec.service.name),
            format!("{:?}", item.spec.decision),
            state,
            before(&item.spec.before),
            clean(&item.spec.reason),
        ]);
    }
    print_table(overview);
    for item in items {
        let place = format!("{}/{}", item.metadata.namespace.as_deref().unwrap_or_default(), item.spec.service.name);
        let trouble = item.status.as_ref().filter(|status| {
            matches!(
                status.state,
                Some(ItemState::Failed | ItemState::Blocked | ItemState::Proposed | ItemState::Invalid)
            )
        });
        let message = trouble.and_then(|status| status.message.as_deref());
        if let Some(message) = message.filter(|message| *message != item.spec.reason) {
            println!("  {place}: {}", clean(message));
        }
        for note in &item.spec.notes {
            println!("  {place}: note: {}", clean(note));
        }
    }
    println!("\n{}", next_step(migration, items, name));
}

fn before(before: &ServiceState) -> String {
    let kind = before.type_.as_deref().unwrap_or("?");
    before.external_traffic_policy.as_deref().map_or_else(|| kind.to_owned(), |policy| format!("{kind}, {policy}"))
}

fn next_step(migration: &TrafficMigration, items: &[TrafficMigrationItem], name: &str) -> String {
    let status = migration.status.clone().unwrap_or_default();
    let number = |decision: Decision| items.iter().filter(|item| item.spec.decision == decision).count();
    let waiting = number(Decision::NeedsApproval);
    let hash = status.plan_hash.clone().unwrap_or_default();
    match status.phase {
        Some(MigrationPhase::Planned | MigrationPhase::Proposed) => {
            let mut text = format!(
                "Nothing was changed. {} no traffic, {} it.",
                changes(number(Decision::Safe)),
                changes(waiting)
            );
            text.push_str(&format!("\nDo the safe ones:       kubectl portreeve migrate apply {name}"));
            if waiting > 0 {
                text.push_str(&format!(
                    "\nApprove exactly this:   kubectl portreeve migrate approve {name} --hash {hash}"
                ));
            }
            text
        }
        Some(MigrationPhase::AwaitingApproval) => format!(
            "Safe items are done; {} wait for your word:\n  kubectl portreeve migrate approve {name} --hash {hash}",
            count(waiting, "traffic-changing item")
        ),
        Some(MigrationPhase::Completed) => {
            format!("Completed. Go back at any time: kubectl portreeve migrate rollback {name}")
        }
        Some(MigrationPhase::RolledBack) => "Rolled back: every applied item is as it was before.".to_owned(),
        Some(MigrationPhase::Failed) => format!(
            "Failed; nothing more is tried. What was applied can be undone: kubectl portreeve migrate rollback {name}"
        ),
        Some(MigrationPhase::Applying | MigrationPhase::RollingBack) | None => {
            let word = if super::approved(&status) { "approved, " } else { "" };
            format!(
                "Under way ({word}{} done). Follow it: kubectl portreeve migrate status {name}",
                status.counts.map_or(0, |counts| counts.done)
            )
        }
    }
}

fn changes(number: usize) -> String {
    if number == 1 { "1 Service changes".to_owned() } else { format!("{number} Services change") }
}
