//! `migrate`: the user's side of a TrafficMigration. The operator plans and applies; this shows, asks and waits.

mod show;
mod wait;

use crate::args::{ClusterArgs, MigrateCommand, Output};
use crate::cluster::{connect, list};
use crate::exit::{Exit, Failure};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use portreeve_crds::migration::{APPROVED, MigrationMode, MigrationPhase, PLANNED, TrafficMigrationStatus};
use portreeve_crds::{TrafficMigration, TrafficMigrationItem, TrafficMigrationSpec, names};
use serde_json::{Value, json};

/// Runs one step.
pub(crate) async fn run(command: MigrateCommand, cluster: &ClusterArgs) -> Result<Exit, Failure> {
    let client = connect(cluster).await?;
    match command {
        MigrateCommand::Plan { name, namespaces, output } => plan(&client, &name, namespaces, output).await,
        MigrateCommand::Approve { name, hash, accept_new_health_check_node_port, no_wait } => {
            approve(&client, &name, &hash, accept_new_health_check_node_port, no_wait).await
        }
        MigrateCommand::Apply { name, include_owned, no_wait } => {
            let spec =
                json!({"mode": MigrationMode::Apply, "rollback": null, "includeOwned": include_owned.then_some(true)});
            change(&client, &name, spec, no_wait).await
        }
        MigrateCommand::Rollback { name, no_wait } => {
            change(&client, &name, json!({"mode": MigrationMode::Apply, "rollback": true}), no_wait).await
        }
        MigrateCommand::Status { name, output } => {
            let migration = get(&client, &name).await?;
            show_all(&client, &migration, output).await?;
            Ok(outcome(&migration))
        }
    }
}

async fn plan(client: &Client, name: &str, namespaces: Vec<String>, output: Output) -> Result<Exit, Failure> {
    let api: Api<TrafficMigration> = Api::all(client.clone());
    let existing = find(&api, name).await?;
    if let Some(mode) = existing.as_ref().map(|found| found.spec.mode).filter(|mode| *mode == MigrationMode::Apply) {
        return Err(Failure::Usage(format!(
            "TrafficMigration '{name}' is past planning (mode {mode:?}); see `kubectl portreeve migrate status {name}`, or plan under another name"
        )));
    }
    let spec = TrafficMigrationSpec {
        mode: MigrationMode::Plan,
        namespaces: (!namespaces.is_empty()).then_some(namespaces),
        selector: None,
        approval: None,
        gates: None,
        verify: None,
        include_owned: None,
        rollback: None,
    };
    let mut wanted = TrafficMigration::new(name, spec);
    wanted.metadata.managed_fields = None;
    let written = api
        .patch(name, &PatchParams::apply(names::MANAGER_CLI).force(), &Patch::Apply(&wanted))
        .await
        .map_err(Failure::from_kube("writing the TrafficMigration"))?;
    let planned = wait::until(&api, &written, output == Output::Table, |status| wait::told(status, PLANNED)).await?;
    show_all(client, &planned, output).await?;
    Ok(outcome(&planned))
}

async fn approve(client: &Client, name: &str, hash: &str, accept_new: bool, no_wait: bool) -> Result<Exit, Failure> {
    let shown = get(client, name).await?.status.and_then(|status| status.plan_hash);
    // Refused here as well as by the operator, because here the user can still be told.
    if shown.as_deref() != Some(hash) {
        let shown = shown.unwrap_or_else(|| "not made yet".to_owned());
        return Err(Failure::Usage(format!(
            "the plan of '{name}' is {shown}, not {hash}. Nothing was approved. Look at it again with `kubectl portreeve migrate status {name}`"
        )));
    }
    let approval = json!({"planHash": hash, "acceptNewHealthCheckNodePort": accept_new.then_some(true)});
    change(client, name, json!({"mode": MigrationMode::Apply, "rollback": null, "approval": approval}), no_wait).await
}

/// Merges `spec` into the migration and follows it to its next resting point.
async fn change(client: &Client, name: &str, spec: Value, no_wait: bool) -> Result<Exit, Failure> {
    let api: Api<TrafficMigration> = Api::all(client.clone());
    get(client, name).await?;
    let params = PatchParams { field_manager: Some(names::MANAGER_CLI.to_owned()), ..PatchParams::default() };
    let written = api
        .patch(name, &params, &Patch::Merge(json!({ "spec": spec })))
        .await
        .map_err(Failure::from_kube(format!("changing TrafficMigration '{name}'")))?;
    let written = if is_stuck(&written) { ask_again(&api, &params, &written).await? } else { written };
    if no_wait {
        return Ok(Exit::Clean);
    }
    let ended = wait::until(&api, &written, true, wait::rests).await?;
    show_all(client, &ended, Output::Table).await?;
    match phase(&ended) {
        Some(MigrationPhase::Failed) => {
            Err(Failure::Migration(format!("migration '{name}' failed; what is told above says where and why")))
        }
        Some(MigrationPhase::Blocked) => {
            Err(Failure::Migration(format!("migration '{name}' is held back; what is told above says by what")))
        }
        _ => Ok(Exit::Clean),
    }
}

/// The operator has seen exactly this spec and will try no more, or not soon: what the user asks for is what the spec says
/// already.
fn is_stuck(migration: &TrafficMigration) -> bool {
    let seen = migration.status.as_ref().and_then(|status| status.observed_generation);
    let stuck = matches!(phase(migration), Some(MigrationPhase::Failed | MigrationPhase::Blocked));
    stuck && seen == migration.metadata.generation
}

/// Asks the operator to try again what it gave up. A new generation is what it takes for that word, so the spec goes to
/// another that means the same or less, and back.
async fn ask_again(
    api: &Api<TrafficMigration>,
    params: &PatchParams,
    migration: &TrafficMigration,
) -> Result<TrafficMigration, Failure> {
    let name = migration.metadata.name.as_deref().unwrap_or_default();
    let owned = migration.spec.include_owned;
    let other = if owned == Some(false) { None } else { Some(false) };
    let mut written = migration.clone();
    for include_owned in [other, owned] {
        let patch = json!({"spec": {"includeOwned": include_owned}});
        written = api
            .patch(name, params, &Patch::Merge(patch))
            .await
            .map_err(Failure::from_kube(format!("changing TrafficMigration '{name}'")))?;
    }
    Ok(written)
}

fn phase(migration: &TrafficMigration) -> Option<MigrationPhase> {
    migration.status.as_ref().and_then(|status| status.phase)
}

fn outcome(migration: &TrafficMigration) -> Exit {
    match phase(migration) {
        Some(MigrationPhase::Failed | MigrationPhase::Blocked) => Exit::Findings,
        _ => Exit::Clean,
    }
}

async fn get(client: &Client, name: &str) -> Result<TrafficMigration, Failure> {
    find(&Api::all(client.clone()), name).await?.ok_or_else(|| {
        Failure::Usage(format!(
            "there is no TrafficMigration '{name}'; make one with `kubectl portreeve migrate plan {name}`"
        ))
    })
}

/// None where there is no migration of that name; where the API server does not know the kind at all, it says so without
/// naming the object.
async fn find(api: &Api<TrafficMigration>, name: &str) -> Result<Option<TrafficMigration>, Failure> {
    match api.get(name).await {
        Ok(found) => Ok(Some(found)),
        Err(kube::Error::Api(status)) if status.code == 404 => {
            if status.details.is_some_and(|details| details.name == name) {
                return Ok(None);
            }
            Err(Failure::Refused {
                doing: "reading the TrafficMigration".to_owned(),
                answer: "it knows no TrafficMigrations; is Portreeve installed? `kubectl portreeve status` shows it"
                    .to_owned(),
            })
        }
        Err(error) => Err(Failure::from_kube("reading the TrafficMigration")(error)),
    }
}

async fn show_all(client: &Client, migration: &TrafficMigration, output: Output) -> Result<(), Failure> {
    let api: Api<TrafficMigrationItem> = Api::all(client.clone());
    let mut items = list(&api, "TrafficMigrationItems").await?;
    items.retain(|item| Some(&item.spec.migration) == migration.metadata.name.as_ref());
    show::show(migration, &items, output);
    Ok(())
}

/// Number of migrations by phase, for `status`.
pub(crate) async fn overview(client: &Client) -> Result<Vec<(String, Option<TrafficMigrationStatus>)>, Failure> {
    let api: Api<TrafficMigration> = Api::all(client.clone());
    let page = api.list(&ListParams::default()).await.map_err(Failure::from_kube("listing TrafficMigrations"))?;
    Ok(page.items.into_iter().map(|found| (found.metadata.name.unwrap_or_default(), found.status)).collect())
}

/// Whether the operator has honoured the approval; used to tell "waits for you" from "waits for the operator".
pub(crate) fn approved(status: &TrafficMigrationStatus) -> bool {
    wait::holds(status, APPROVED)
}
