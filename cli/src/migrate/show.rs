//! A migration for people and for scripts.

use crate::args::Output;
use crate::output::outln;
use crate::text::{clean, print_table, table};
use portreeve_crds::migration::{
    Decision, ItemState, MigrationMode, MigrationPhase, PLANNED, ServiceState, TrafficMigrationStatus,
};
use portreeve_crds::{TrafficMigration, TrafficMigrationItem};
use serde_json::{Value, json};

pub(super) fn show(migration: &TrafficMigration, items: &[TrafficMigrationItem], output: Output) {
    match output {
        Output::Json => outln!("{}", as_json(migration, items)),
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
    if !items.is_empty() {
        let mut overview = table(["SERVICE", "DECISION", "STATE", "BEFORE", "WHY"]);
        for item in items {
            overview.add_row([
                place(item),
                format!("{:?}", item.spec.decision),
                state(item).map_or_else(String::new, |state| format!("{state:?}")),
                before(&item.spec.before),
                clean(&item.spec.reason),
            ]);
        }
        print_table(overview);
        for line in items.iter().flat_map(remarks) {
            outln!("  {line}");
        }
        outln!();
    }
    outln!("{}", next_step(migration, items));
}

/// What is to be said of an item beyond its row.
fn remarks(item: &TrafficMigrationItem) -> Vec<String> {
    let status = item.status.as_ref();
    let message = status.and_then(|status| status.message.as_deref()).unwrap_or_default();
    let tells = match state(item) {
        Some(ItemState::Failed | ItemState::Blocked | ItemState::Proposed | ItemState::Invalid | ItemState::Gone) => {
            true
        }
        // What is as it was meant to be needs no words.
        Some(ItemState::Done) => !matches!(message, "Applied; no traffic changed." | "Applied, and stood its watch."),
        Some(ItemState::Planned | ItemState::AwaitingApproval | ItemState::Verifying | ItemState::RolledBack)
        | None => false,
    };
    let message = (tells && !message.is_empty() && message != item.spec.reason).then(|| clean(message));
    let notes = item.spec.notes.iter().map(|note| format!("note: {}", clean(note)));
    message.into_iter().chain(notes).map(|text| format!("{}: {text}", place(item))).collect()
}

fn place(item: &TrafficMigrationItem) -> String {
    format!("{}/{}", item.metadata.namespace.as_deref().unwrap_or_default(), item.spec.service.name)
}

fn state(item: &TrafficMigrationItem) -> Option<ItemState> {
    item.status.as_ref().and_then(|status| status.state)
}

fn before(before: &ServiceState) -> String {
    let kind = before.type_.as_deref().unwrap_or("?");
    before.external_traffic_policy.as_deref().map_or_else(|| kind.to_owned(), |policy| format!("{kind}, {policy}"))
}

/// Where the migration stands, in words that are true of these items, and what the user can do.
fn next_step(migration: &TrafficMigration, items: &[TrafficMigrationItem]) -> String {
    let name = migration.metadata.name.as_deref().unwrap_or_default();
    let command = |step: &str| format!("kubectl portreeve migrate {step} {name}");
    let Some(status) = &migration.status else {
        return "The operator has not looked at this migration yet. Is it running? `kubectl portreeve status` shows it."
            .to_owned();
    };
    let text = match problem(status) {
        Some(problem) => format!("The plan cannot be made: {problem}"),
        None if items.is_empty() => {
            "No Service in scope carries a legacy external-traffic annotation: nothing to migrate.".to_owned()
        }
        None => at_rest(migration, status, items, command),
    };
    if status.observed_generation < migration.metadata.generation {
        return format!(
            "{text}\nThis is how it was before its last change, which the operator has not looked at yet. Is it running? \
             `kubectl portreeve status` shows it."
        );
    }
    text
}

fn problem(status: &TrafficMigrationStatus) -> Option<String> {
    let planned = status.conditions.iter().find(|condition| condition.type_ == PLANNED)?;
    (planned.status == "False").then(|| clean(&planned.message))
}

fn at_rest(
    migration: &TrafficMigration,
    status: &TrafficMigrationStatus,
    items: &[TrafficMigrationItem],
    command: impl Fn(&str) -> String,
) -> String {
    let (apply, rollback, follow) = (command("apply"), command("rollback"), command("status"));
    let approve = format!("{} --hash {}", command("approve"), status.plan_hash.as_deref().unwrap_or_default());
    let number = |wanted: ItemState| items.iter().filter(|item| state(item) == Some(wanted)).count();
    let (done, gone) = (number(ItemState::Done), number(ItemState::Gone));
    match status.phase {
        Some(MigrationPhase::Planned) => planned(items, &apply, &approve),
        Some(MigrationPhase::Proposed) => proposed(migration, items, &apply),
        Some(MigrationPhase::AwaitingApproval) => format!(
            "{}; {} for your word:\n  {approve}",
            sum(items),
            if number(ItemState::AwaitingApproval) == 1 {
                "1 item that changes traffic waits".to_owned()
            } else {
                format!("{} items that change traffic wait", number(ItemState::AwaitingApproval))
            },
        ),
        Some(MigrationPhase::Blocked) => format!(
            "{}. What holds the rest back is told above. For a gate, bring up Pods on more nodes or change spec.gates of \
             the TrafficMigration: the operator looks again by itself at each such change, and goes on.\n\
             Follow it:             {follow}\n\
             Have it try at once:   {apply}{}",
            sum(items),
            if done > 0 { format!("\nUndo what was applied: {rollback}") } else { String::new() },
        ),
        Some(MigrationPhase::Completed) if done > 0 => {
            format!("Completed: {}. Go back at any time: {rollback}", sum(items))
        }
        Some(MigrationPhase::Completed) => format!("Nothing was applied: {}.", sum(items)),
        Some(MigrationPhase::RolledBack) => {
            let undone = match number(ItemState::RolledBack) {
                0 => "Nothing had been applied, so there was nothing to undo.".to_owned(),
                1 => "Rolled back: 1 Service is as it was before.".to_owned(),
                many => format!("Rolled back: {many} Services are as they were before."),
            };
            if gone > 0 { format!("{undone} {} gone.", are(gone)) } else { undone }
        }
        Some(MigrationPhase::Failed) if migration.spec.rollback == Some(true) => format!(
            "The rollback failed: {}. What stands in the way is told above; once it is gone: {rollback}",
            sum(items)
        ),
        Some(MigrationPhase::Failed) => format!(
            "Failed: {}. Nothing more is tried until you ask.\nOnce the cause is gone: {apply}\nUndo what was applied:  \
             {rollback}",
            sum(items)
        ),
        Some(MigrationPhase::Applying | MigrationPhase::RollingBack) | None => {
            let word = if super::approved(status) { "approved, " } else { "" };
            format!("Under way ({word}{}). Follow it: {follow}", sum(items))
        }
    }
}

fn planned(items: &[TrafficMigrationItem], apply: &str, approve: &str) -> String {
    let number = |decision: Decision| items.iter().filter(|item| item.spec.decision == decision).count();
    let (safe, waiting, invalid) = (number(Decision::Safe), number(Decision::NeedsApproval), number(Decision::Invalid));
    let mut text = format!("Nothing was changed. {} no traffic, {} it.", changes(safe), changes(waiting));
    if invalid > 0 {
        text.push_str(&format!(" {UNREADABLE}"));
    }
    let owned =
        items.iter().filter(|item| item.spec.owner.is_some() && item.spec.decision != Decision::Invalid).count();
    if owned > 0 {
        text.push_str(&format!(
            "\n{} from a source that would bring the annotation back: without --include-owned only proposed.",
            if owned == 1 { "1 of them comes".to_owned() } else { format!("{owned} of them come") }
        ));
    }
    if safe > 0 {
        text.push_str(&format!("\nDo the safe ones:       {apply}"));
    }
    if waiting > 0 {
        text.push_str(&format!("\nApprove exactly this:   {approve}"));
    }
    text
}

const UNREADABLE: &str = "What nobody can read is never touched: write OnlyLocal or Global, or remove the annotation.";

fn proposed(migration: &TrafficMigration, items: &[TrafficMigrationItem], apply: &str) -> String {
    let example = items.iter().find(|item| state(item) == Some(ItemState::Proposed)).map(|item| {
        let name = item.metadata.name.as_deref().unwrap_or_default();
        format!("kubectl -n {} get tmi {name} -o yaml", item.metadata.namespace.as_deref().unwrap_or_default())
    });
    let mut text = format!(
        "Nothing was changed: {}. Make the change in the source that the Service is deployed from; once that is deployed, \
         the item goes.\nThe patch of an item:     {}",
        sum(items),
        example.unwrap_or_default()
    );
    if migration.spec.mode == MigrationMode::Apply {
        text.push_str(&format!("\nPatch them all the same:  {apply} --include-owned"));
    } else {
        text.push_str(&format!("\nPatch what has no owner:  {apply}"));
    }
    text
}

/// "2 applied, 1 only proposed": what the items have come to.
fn sum(items: &[TrafficMigrationItem]) -> String {
    let parts = [
        (ItemState::Done, "applied"),
        (ItemState::Verifying, "applied and being watched"),
        (ItemState::RolledBack, "undone"),
        (ItemState::Blocked, "held back"),
        (ItemState::Failed, "failed"),
        (ItemState::Planned, "still to do"),
        (ItemState::Proposed, "only proposed"),
        (ItemState::Invalid, "not readable"),
        (ItemState::Gone, "gone"),
    ];
    let told = parts.iter().filter_map(|(wanted, what)| {
        let number = items.iter().filter(|item| state(item) == Some(*wanted)).count();
        (number > 0).then(|| format!("{number} {what}"))
    });
    let told = told.collect::<Vec<_>>().join(", ");
    if told.is_empty() { "nothing is applied".to_owned() } else { told }
}

fn are(number: usize) -> String {
    if number == 1 { "1 Service is".to_owned() } else { format!("{number} Services are") }
}

fn changes(number: usize) -> String {
    if number == 1 { "1 Service changes".to_owned() } else { format!("{number} Services change") }
}

#[cfg(test)]
mod tests;
