//! A migration goes on after its operator was killed, wherever that was, and does nothing twice.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::{
    Site,
    daemon::free_port,
    eventually, holds,
    migration::{BETA, Migration, essence, legacy},
};

const SERVICES: usize = 15;

/// Every Service as it is now. A second application of the same patch would be seen in the resource version.
async fn versions(migration: &Migration) -> Vec<Value> {
    let mut all = Vec::new();
    for number in 0..SERVICES {
        all.push(migration.live(&name(number)).await);
    }
    all
}

fn name(number: usize) -> String {
    format!("web-{number:02}")
}

#[tokio::test]
async fn an_operator_that_is_killed_in_the_midst_is_followed_by_one_that_goes_on() {
    let site = Site::shared().await;
    let migration = Migration::prepare(site, "killed").await;
    let services: Vec<Value> = (0..SERVICES)
        .map(|number| {
            let meaning = if number % 3 == 0 { "Global" } else { "OnlyLocal" };
            migration.service(&name(number), json!({"type": "LoadBalancer"}), &[(BETA, meaning)])
        })
        .collect();
    migration.create(&services).await;
    for number in 0..SERVICES {
        migration.ready_on(&name(number), &["n1"]).await;
    }
    let before = versions(&migration).await;

    let mut operator = site.operator("first", free_port(), &[]);
    migration.begin("Plan", json!({"verify": {"windowSeconds": 1}})).await;
    migration.phase("Planned").await;
    let hash = migration.hash().await;
    migration.change(json!({"mode": "Apply", "approval": {"planHash": hash}})).await;

    let done = async || migration.states().await.iter().filter(|(_, state, _)| state == "Done").count();
    // One Service in three is safe, and applied at once; the others come one by one, each with its watch.
    for (generation, least) in [("second", 7), ("third", 9)] {
        eventually("some are done", async || {
            let so_far = done().await;
            holds(so_far >= least, so_far)
        })
        .await;
        operator.kill();
        let at_death = versions(&migration).await;
        assert!(done().await < SERVICES, "the migration was over before the {generation} operator came");
        operator = site.operator(generation, free_port(), &[]);
        operator.ready().await;
        // What was done stays as it was done: nobody writes it again.
        for (live, then) in versions(&migration).await.iter().zip(&at_death) {
            if legacy(then).is_empty() {
                assert_eq!(live["metadata"]["resourceVersion"], then["metadata"]["resourceVersion"]);
            }
        }
    }
    let status = migration.phase("Completed").await;
    assert_eq!(status["counts"]["done"], SERVICES);
    assert_eq!(status["planHash"], hash, "it is the plan that was approved");
    let after = versions(&migration).await;
    for (number, live) in after.iter().enumerate() {
        let field = if number % 3 == 0 { "Cluster" } else { "Local" };
        assert_eq!(live["spec"]["externalTrafficPolicy"], field, "{}", name(number));
        assert_eq!(legacy(live), [""; 0]);
    }

    // The way back survives a kill as well.
    migration.change(json!({"rollback": true})).await;
    eventually("some are undone", async || {
        let states = migration.states().await;
        holds(states.iter().any(|(_, state, _)| state == "RolledBack"), states)
    })
    .await;
    operator.kill();
    let _last = site.operator("last", free_port(), &[]);
    let status = migration.phase("RolledBack").await;
    assert_eq!(status["counts"]["rolledBack"], SERVICES);
    for (live, old) in versions(&migration).await.iter().zip(&before) {
        assert_eq!(essence(live), essence(old));
    }
}
