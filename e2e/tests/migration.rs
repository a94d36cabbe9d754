//! Migration of legacy annotations on real Services: every row of the decision table, from the plan to the way back.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use support::{
    Daemon, Site,
    daemon::free_port,
    eventually, holds,
    kubectl::{Printed, printed, program},
    migration::{ALPHA, ALPHA_PORT, BETA, BETA_PORT, Migration, essence, legacy},
    objects,
};
use tokio::{process::Command, sync::OnceCell};

/// The test binary's one operator. It registers a webhook that nobody runs: writes pass (failurePolicy Ignore).
async fn operated() -> &'static Site {
    static OPERATOR: OnceCell<Daemon> = OnceCell::const_new();
    let site = Site::shared().await;
    let start = async || {
        let operator = site.operator("a", free_port(), &[]);
        operator.ready().await;
        operator
    };
    OPERATOR.get_or_init(start).await;
    site
}

/// Gates and watch that do not hold a test up: one node with a ready Pod, no window.
fn quick() -> Value {
    json!({"verify": {"windowSeconds": 0}})
}

/// One row of the decision table.
struct Row {
    service: &'static str,
    spec: Value,
    annotations: &'static [(&'static str, &'static str)],
    decision: &'static str,
    /// externalTrafficPolicy at the end.
    field: Option<&'static str>,
    /// What the notes say.
    notes: &'static [&'static str],
}

fn row(
    service: &'static str,
    spec: Value,
    annotations: &'static [(&'static str, &'static str)],
    decision: &'static str,
    field: Option<&'static str>,
    notes: &'static [&'static str],
) -> Row {
    Row { service, spec, annotations, decision, field, notes }
}

/// The table of the effective value, the type and the field.
fn table() -> Vec<Row> {
    let (local, cluster) = (Some("Local"), Some("Cluster"));
    let balancer = |field: &str| json!({"type": "LoadBalancer", "externalTrafficPolicy": field});
    let node_port = |field: &str| json!({"type": "NodePort", "externalTrafficPolicy": field});
    let routed =
        |field: &str| json!({"type": "ClusterIP", "externalIPs": ["203.0.113.10"], "externalTrafficPolicy": field});
    let only_local: &[(&str, &str)] = &[(BETA, "OnlyLocal")];
    let global: &[(&str, &str)] = &[(BETA, "Global")];
    vec![
        row("only-local-balancer-local", balancer("Local"), only_local, "Safe", local, &[]),
        row("only-local-node-port-local", node_port("Local"), only_local, "Safe", local, &[]),
        row("only-local-routed-local", routed("Local"), only_local, "Safe", local, &[]),
        row("only-local-balancer-cluster", balancer("Cluster"), only_local, "NeedsApproval", local, &[]),
        row("only-local-node-port-cluster", node_port("Cluster"), only_local, "NeedsApproval", local, &[]),
        row("only-local-routed-cluster", routed("Cluster"), only_local, "NeedsApproval", local, &[]),
        row("global-balancer-cluster", balancer("Cluster"), global, "Safe", cluster, &[]),
        row("global-node-port-cluster", node_port("Cluster"), global, "Safe", cluster, &[]),
        row("global-balancer-local", balancer("Local"), global, "Safe", local, &[]),
        row("global-node-port-local", node_port("Local"), global, "Safe", local, &[]),
        row("only-local-inside", json!({"type": "ClusterIP"}), only_local, "Safe", None, &[]),
        row("global-headless", json!({"clusterIP": "None"}), global, "Safe", None, &[]),
        row(
            "only-local-alias",
            json!({"type": "ExternalName", "externalName": "example.org"}),
            only_local,
            "Safe",
            None,
            &[],
        ),
        row("alpha-only", balancer("Cluster"), &[(ALPHA, "OnlyLocal")], "NeedsApproval", local, &[]),
        row(
            "beta-before-alpha",
            balancer("Cluster"),
            &[(BETA, "Global"), (ALPHA, "OnlyLocal")],
            "Safe",
            cluster,
            &["its alpha form something else; beta is taken"],
        ),
        row("other-value", balancer("Cluster"), &[(BETA, "onlylocal")], "Invalid", cluster, &[]),
        row("empty-value", node_port("Local"), &[(BETA, "")], "Invalid", local, &[]),
        row("other-value-inside", json!({"type": "ClusterIP"}), &[(ALPHA, "Local")], "Invalid", None, &[]),
        row(
            "unreadable-beta",
            balancer("Local"),
            &[(BETA, "local"), (ALPHA, "OnlyLocal")],
            "Invalid",
            local,
            &["its alpha form something else"],
        ),
    ]
}

#[tokio::test]
async fn every_row_of_the_table_is_planned_approved_applied_and_taken_back_as_it_says() {
    let migration = Migration::prepare(operated().await, "table").await;
    let rows = table();
    let services: Vec<Value> =
        rows.iter().map(|row| migration.service(row.service, row.spec.clone(), row.annotations)).collect();
    migration.create(&services).await;
    let mut before = Vec::new();
    for row in &rows {
        before.push(migration.live(row.service).await);
    }
    let approved: Vec<&Row> = rows.iter().filter(|row| row.decision == "NeedsApproval").collect();
    let count = |decision: &str| rows.iter().filter(|row| row.decision == decision).count();

    // The plan says what would be done, and does nothing.
    migration.begin("Plan", quick()).await;
    let status = migration.phase("Planned").await;
    for (counted, decision) in [("safe", "Safe"), ("needsApproval", "NeedsApproval"), ("invalid", "Invalid")] {
        assert_eq!(status["counts"][counted], count(decision), "{status}");
    }
    for (row, old) in rows.iter().zip(&before) {
        let item = migration.item(row.service).await;
        assert_eq!(item["spec"]["decision"], row.decision, "{}: {}", row.service, item["spec"]["reason"]);
        let notes = item["spec"]["notes"].as_array().cloned().unwrap_or_default();
        assert_eq!(notes.len(), row.notes.len(), "{}: {notes:?}", row.service);
        for (note, says) in notes.iter().zip(row.notes) {
            assert!(note.as_str().unwrap().contains(says), "{}: {note}", row.service);
        }
        let live = migration.live(row.service).await;
        assert_eq!(live["metadata"]["resourceVersion"], old["metadata"]["resourceVersion"], "{}", row.service);
    }

    // Apply does what is safe; what changes traffic waits, and what means nothing is not touched.
    migration.change(json!({"mode": "Apply"})).await;
    let status = migration.phase("AwaitingApproval").await;
    assert_eq!(status["counts"]["done"], count("Safe"));
    migration.approval("AwaitingApproval").await;
    check(&migration, &rows, &before, |row| row.decision == "Safe").await;

    // Another plan's hash is not heard.
    let wrong = format!("sha256:{}", "0".repeat(64));
    migration.change(json!({"approval": {"planHash": wrong}})).await;
    migration.phase("AwaitingApproval").await;
    migration.approval("HashDiffers").await;
    check(&migration, &rows, &before, |row| row.decision == "Safe").await;

    // The right one is, but without a ready Pod nothing is changed.
    migration.change(json!({"approval": {"planHash": migration.hash().await}})).await;
    for row in &approved {
        let item = migration.state(row.service, "Blocked").await;
        assert_eq!(item["status"]["message"], "Held back: 0 nodes have a ready Pod, 1 are wanted.");
    }
    check(&migration, &rows, &before, |row| row.decision == "Safe").await;
    for row in &approved {
        migration.ready_on(row.service, &["n1"]).await;
    }
    let status = migration.phase("Completed").await;
    assert_eq!(status["counts"]["done"], count("Safe") + count("NeedsApproval"));
    check(&migration, &rows, &before, |row| row.decision != "Invalid").await;

    // And back again, all of it.
    migration.change(json!({"rollback": true})).await;
    let status = migration.phase("RolledBack").await;
    assert_eq!(status["counts"]["rolledBack"], count("Safe") + count("NeedsApproval"));
    for (row, old) in rows.iter().zip(&before) {
        assert_eq!(essence(&migration.live(row.service).await), essence(old), "{}", row.service);
    }
}

/// Every Service is as its row says when `done`, else as it was.
async fn check(migration: &Migration, rows: &[Row], before: &[Value], done: impl Fn(&Row) -> bool) {
    for (row, old) in rows.iter().zip(before) {
        let live = migration.live(row.service).await;
        if done(row) {
            assert_eq!(legacy(&live), [""; 0], "{}", row.service);
            assert_eq!(live["spec"]["externalTrafficPolicy"].as_str(), row.field, "{}", row.service);
            assert_eq!(live["spec"]["type"], old["spec"]["type"], "{}", row.service);
        } else {
            assert_eq!(live["metadata"]["resourceVersion"], old["metadata"]["resourceVersion"], "{}", row.service);
        }
    }
}

/// `spec.healthCheckNodePort` of a live Service.
async fn port(migration: &Migration, service: &str) -> i64 {
    migration.live(service).await["spec"]["healthCheckNodePort"].as_i64().unwrap_or_default()
}

#[tokio::test]
async fn the_health_check_port_is_kept_asked_for_or_dropped_with_a_word_about_it() {
    let migration = Migration::prepare(operated().await, "ports").await;
    let balancer = json!({"type": "LoadBalancer"});
    let local =
        |port: i64| json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port});
    let node_port = json!({"type": "NodePort", "externalTrafficPolicy": "Local"});
    let holder = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30_013}]});
    let services = [
        migration.service("same", local(30_010), &[(BETA, "OnlyLocal"), (BETA_PORT, "30010")]),
        migration.service("other", local(30_011), &[(BETA, "OnlyLocal"), (BETA_PORT, "30099")]),
        migration.service("asked-for", balancer.clone(), &[(BETA, "OnlyLocal"), (BETA_PORT, "30012")]),
        migration.service("alpha", balancer.clone(), &[(ALPHA, "OnlyLocal"), (ALPHA_PORT, "30014")]),
        migration.service("holder", holder, &[]),
        migration.service("held", balancer.clone(), &[(BETA, "OnlyLocal"), (BETA_PORT, "30013")]),
        migration.service("out-of-range", balancer.clone(), &[(BETA, "OnlyLocal"), (BETA_PORT, "80")]),
        migration.service("unreadable", balancer.clone(), &[(BETA, "OnlyLocal"), (BETA_PORT, "thirty")]),
        migration.service("node-port", node_port, &[(BETA, "OnlyLocal"), (BETA_PORT, "30015")]),
        migration.service("stays-cluster", balancer, &[(BETA, "Global"), (BETA_PORT, "30016")]),
    ];
    migration.create(&services).await;
    for service in ["asked-for", "alpha", "held", "out-of-range", "unreadable"] {
        migration.ready_on(service, &["n1"]).await;
    }
    migration.begin("Plan", quick()).await;
    migration.phase("Planned").await;
    let notes = [
        ("same", vec![]),
        ("other", vec!["health checks are answered on 30011, not on 30099"]),
        ("asked-for", vec![]),
        ("alpha", vec![]),
        ("held", vec!["healthcheck-nodeport 30013 cannot be had: Service", "/holder holds it"]),
        (
            "out-of-range",
            vec!["healthcheck-nodeport 80 cannot be had: it lies outside of the node port range 30000-32767"],
        ),
        ("unreadable", vec!["says \"thirty\", which is no port; it is dropped"]),
        ("node-port", vec!["healthcheck-nodeport 30015 is dropped: a NodePort Service has no health check node port"]),
        ("stays-cluster", vec!["healthcheck-nodeport 30016 is dropped: with Cluster no node answers health checks"]),
    ];
    for (service, says) in notes {
        let told = migration.item(service).await["spec"]["notes"].clone();
        let text = told[0].as_str().unwrap_or_default();
        assert!(says.iter().all(|says| text.contains(says)), "{service}: {told}");
        assert_eq!(told.as_array().map_or(0, Vec::len), usize::from(!says.is_empty()), "{service}: {told}");
    }
    migration.change(json!({"mode": "Apply", "approval": {"planHash": migration.hash().await}})).await;
    migration.phase("Completed").await;
    for (service, wanted) in [("same", 30_010), ("other", 30_011), ("asked-for", 30_012), ("alpha", 30_014)] {
        assert_eq!(port(&migration, service).await, wanted, "{service}");
    }
    for service in ["held", "out-of-range", "unreadable"] {
        let live = migration.live(service).await;
        assert_eq!(live["spec"]["externalTrafficPolicy"], "Local", "{service}");
        let given = port(&migration, service).await;
        assert!((30_000..=32_767).contains(&given) && given != 30_013, "{service}: {given}");
        assert_eq!(migration.item(service).await["status"]["healthCheckNodePort"], given, "{service}");
    }
    for service in ["node-port", "stays-cluster"] {
        assert_eq!(port(&migration, service).await, 0, "{service}");
        assert_eq!(legacy(&migration.live(service).await), [""; 0], "{service}");
    }
    // A rollback gives the numbers back: whoever wants one of them next can have it.
    migration.change(json!({"rollback": true})).await;
    migration.phase("RolledBack").await;
    assert_eq!(port(&migration, "asked-for").await, 0);
    assert_eq!(port(&migration, "same").await, 30_010);
    let next = migration.service("next", json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30_012}]}), &[]);
    migration.create(&[next]).await;
}

#[tokio::test]
async fn a_port_taken_after_the_plan_blocks_the_item_until_a_new_number_is_accepted() {
    let migration = Migration::prepare(operated().await, "taken").await;
    let annotations = [(BETA, "OnlyLocal"), (BETA_PORT, "30020")];
    migration.create(&[migration.service("wants", json!({"type": "LoadBalancer"}), &annotations)]).await;
    migration.ready_on("wants", &["n1"]).await;
    migration.begin("Plan", quick()).await;
    migration.phase("Planned").await;
    let hash = migration.hash().await;
    let asks = json!({"op": "add", "path": "/spec/healthCheckNodePort", "value": 30_020});
    assert!(migration.item("wants").await["spec"]["patch"].as_array().unwrap().contains(&asks));

    let thief = json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 30_020}]});
    migration.create(&[migration.service("thief", thief, &[])]).await;
    let before = migration.live("wants").await;
    migration.change(json!({"mode": "Apply", "approval": {"planHash": hash}})).await;
    let item = migration.state("wants", "Blocked").await;
    let message = item["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("The API server does not give health check node port 30020"), "{message}");
    assert_eq!(essence(&migration.live("wants").await), essence(&before), "nothing was changed");

    // Only an approval that accepts another number gets on.
    let accepts = json!({"planHash": migration.hash().await, "acceptNewHealthCheckNodePort": true});
    migration.change(json!({"approval": accepts})).await;
    migration.phase("Completed").await;
    let given = port(&migration, "wants").await;
    assert!(given != 30_020 && given >= 30_000, "{given}");
    let message = migration.item("wants").await["status"]["message"].clone();
    let says = format!("Applied; health check node port 30020 could not be had, it is {given} now.");
    assert_eq!(message, says, "old number and new");
}

#[tokio::test]
async fn what_a_tool_would_bring_back_is_only_proposed_unless_it_is_asked_for() {
    let migration = Migration::prepare(operated().await, "owners").await;
    let balancer = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
    let plain = |name: &str| migration.service(name, balancer.clone(), &[(BETA, "OnlyLocal")]);
    let labelled = |name: &str, key: &str, value: &str| {
        let mut service = plain(name);
        service["metadata"]["labels"] = json!({ key: value });
        service
    };
    let services = [
        plain("nobodys"),
        labelled("helm-label", "app.kubernetes.io/managed-by", "Helm"),
        objects::annotated(plain("helm-release"), "meta.helm.sh/release-name", "shop"),
        objects::annotated(plain("argo"), "argocd.argoproj.io/tracking-id", "shop:/Service:shop/argo"),
        labelled("flux", "kustomize.toolkit.fluxcd.io/name", "shop"),
        labelled("flux-helm", "helm.toolkit.fluxcd.io/name", "shop"),
    ];
    migration.create(&services).await;
    for (name, more) in [("applied", None), ("applied-by-the-server", Some("--server-side"))] {
        let args: Vec<&str> = ["apply", "-f", "-"].into_iter().chain(more).collect();
        migration.kubectl.run_with(&args, &plain(name).to_string()).await.ok();
    }
    let owners = [
        ("helm-label", "Helm"),
        ("helm-release", "Helm"),
        ("argo", "ArgoCD"),
        ("flux", "Flux"),
        ("flux-helm", "Flux"),
        ("applied", "KubectlApply"),
        ("applied-by-the-server", "KubectlApply"),
    ];
    migration.begin("Apply", quick()).await;
    let status = migration.phase("Completed").await;
    assert_eq!((status["counts"]["done"].clone(), status["counts"]["proposed"].clone()), (json!(1), json!(7)));
    assert_eq!(migration.item("nobodys").await["spec"]["owner"], Value::Null);
    for (service, owner) in owners {
        let item = migration.item(service).await;
        assert_eq!(item["spec"]["owner"], owner, "{service}");
        assert_eq!(item["status"]["state"], "Proposed", "{service}");
        assert!(!item["spec"]["patch"].as_array().unwrap().is_empty(), "{service}: the patch is there to be read");
        assert_eq!(legacy(&migration.live(service).await), [BETA], "{service}: untouched");
    }
    migration.change(json!({"includeOwned": true})).await;
    eventually("all are done", async || {
        let status = migration.status().await;
        holds(status["counts"]["done"] == 8 && status["phase"] == "Completed", status)
    })
    .await;
    for (service, _) in owners {
        assert_eq!(legacy(&migration.live(service).await), [""; 0], "{service}");
    }
}

#[tokio::test]
async fn mode_propose_records_patches_and_touches_nothing() {
    let migration = Migration::prepare(operated().await, "propose").await;
    let services = [
        migration.service("safe", json!({"type": "NodePort"}), &[(BETA, "Global")]),
        migration.service("moves", json!({"type": "NodePort"}), &[(BETA, "OnlyLocal")]),
    ];
    migration.create(&services).await;
    migration.ready_on("moves", &["n1"]).await;
    let before = [migration.live("safe").await, migration.live("moves").await];
    migration.begin("Propose", quick()).await;
    let status = migration.phase("Proposed").await;
    assert_eq!(status["counts"]["proposed"], 2);
    for old in &before {
        let name = old["metadata"]["name"].as_str().unwrap();
        assert_eq!(migration.live(name).await, *old);
        // The patch that was recorded is one that the API server takes.
        let patch = migration.item(name).await["spec"]["patch"].clone();
        let target = format!("{}?dryRun=All", objects::path(old));
        let kind = "application/json-patch+json";
        let changed = migration.http.send(http::Method::PATCH, &target, kind, &patch).await.ok();
        assert_eq!(legacy(&changed), [""; 0]);
        let inverse = migration.item(name).await["spec"]["inverse"].clone();
        assert!(!inverse.as_array().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_plan_that_changes_voids_the_approval_of_the_old_one() {
    let migration = Migration::prepare(operated().await, "void").await;
    let moves = |name: &str| migration.service(name, json!({"type": "NodePort"}), &[(BETA, "OnlyLocal")]);
    migration.create(&[moves("first")]).await;
    migration.begin("Apply", quick()).await;
    migration.phase("AwaitingApproval").await;
    let first_plan = migration.hash().await;
    migration.change(json!({"approval": {"planHash": first_plan}})).await;
    migration.state("first", "Blocked").await;
    migration.approval("HashMatches").await;

    migration.create(&[moves("second")]).await;
    migration.approval("HashDiffers").await;
    assert_ne!(migration.hash().await, first_plan);
    for service in ["first", "second"] {
        migration.state(service, "AwaitingApproval").await;
        migration.ready_on(service, &["n1"]).await;
    }
    // A safe item that comes in is no reason to ask again, and shows that the operator has looked.
    let second_plan = migration.hash().await;
    migration.create(&[migration.service("safe", json!({"type": "NodePort"}), &[(BETA, "Global")])]).await;
    migration.state("safe", "Done").await;
    assert_eq!(migration.hash().await, second_plan);
    for service in ["first", "second"] {
        assert_eq!(migration.live(service).await["spec"]["externalTrafficPolicy"], "Cluster", "{service}");
    }
    migration.change(json!({"approval": {"planHash": second_plan}})).await;
    migration.phase("Completed").await;
    for service in ["first", "second"] {
        assert_eq!(migration.live(service).await["spec"]["externalTrafficPolicy"], "Local", "{service}");
    }
}

#[tokio::test]
async fn a_service_that_loses_its_pods_while_it_is_watched_is_set_back() {
    let migration = Migration::prepare(operated().await, "watched").await;
    let annotations = [(BETA, "OnlyLocal"), ("example.org/other", "stays")];
    migration.create(&[migration.service("fragile", json!({"type": "LoadBalancer"}), &annotations)]).await;
    migration.ready_on("fragile", &["n1", "n2"]).await;
    let before = migration.live("fragile").await;
    migration.begin("Apply", json!({"verify": {"windowSeconds": 600}, "gates": {"minNodes": 2}})).await;
    migration.phase("AwaitingApproval").await;
    migration.change(json!({"approval": {"planHash": migration.hash().await}})).await;
    migration.state("fragile", "Verifying").await;
    assert_eq!(migration.status().await["phase"], "Applying");
    assert_eq!(migration.live("fragile").await["spec"]["externalTrafficPolicy"], "Local");

    migration.http.delete(&objects::path(&objects::slice(&migration.name, "fragile", &[]))).await.ok();
    let item = migration.state("fragile", "RolledBack").await;
    let message = item["status"]["message"].as_str().unwrap();
    assert_eq!(message, "The Service did not stand the change: 0 nodes have a ready Pod, 2 are wanted.");
    migration.phase("Failed").await;
    assert_eq!(essence(&migration.live("fragile").await), essence(&before));
    let events = ["get", "events", "-n", &migration.name, "-o", "jsonpath={.items[*].reason}"];
    eventually("Events tell the story", async || {
        let told = migration.kubectl.run(&events).await.ok();
        holds(told.contains("MigrationItemApplied") && told.contains("MigrationItemRolledBack"), told)
    })
    .await;
}

#[tokio::test]
async fn gates_hold_back_what_would_be_too_uneven() {
    let migration = Migration::prepare(operated().await, "gates").await;
    migration.create(&[migration.service("uneven", json!({"type": "NodePort"}), &[(BETA, "OnlyLocal")])]).await;
    migration.ready_on("uneven", &["n1", "n2", "n2"]).await;
    let gates = json!({"gates": {"minNodes": 2, "maxRatioPermille": 1200}, "verify": {"windowSeconds": 0}});
    migration.begin("Apply", gates).await;
    migration.phase("AwaitingApproval").await;
    migration.change(json!({"approval": {"planHash": migration.hash().await}})).await;
    let item = migration.state("uneven", "Blocked").await;
    let message = "Held back: the hottest Pod would get 1500 permille of the mean, 1200 are allowed.";
    assert_eq!(item["status"]["message"], message);
    migration.change(json!({"gates": {"maxRatioPermille": 1500}})).await;
    migration.phase("Completed").await;
    assert_eq!(migration.live("uneven").await["spec"]["externalTrafficPolicy"], "Local");
}

#[tokio::test]
async fn a_service_that_others_write_to_meanwhile_is_planned_anew_and_never_overwritten() {
    let migration = Migration::prepare(operated().await, "conflict").await;
    migration.begin("Apply", quick()).await;
    // A write between the look and the patch cannot be staged, only provoked: until a conflict was met.
    for round in 0..40 {
        let name = format!("busy-{round}");
        let path = format!("/api/v1/namespaces/{}/services/{name}", migration.name);
        migration.create(&[migration.service(&name, json!({"type": "NodePort"}), &[])]).await;
        let legacy_again = json!({"metadata": {"annotations": {BETA: "Global"}}});
        migration.http.merge(&path, &legacy_again).await.ok();
        let mut writes = 0;
        let item = loop {
            writes += 1;
            migration.http.merge(&path, &json!({"metadata": {"labels": {"writes": writes.to_string()}}})).await.ok();
            let states = migration.states().await;
            if let Some((_, state, _)) = states.iter().find(|(service, ..)| *service == name)
                && ["Done", "Failed"].contains(&state.as_str())
            {
                break migration.item(&name).await;
            }
        };
        let live = migration.live(&name).await;
        assert_eq!(live["metadata"]["labels"]["writes"], writes.to_string(), "the others' last write stands");
        let conflicts = item["status"]["conflicts"].as_i64().unwrap_or(0);
        if item["status"]["state"] == "Failed" {
            assert_eq!(conflicts, 5, "{item}");
            assert_eq!(legacy(&live), [BETA], "given up, not forced");
            return;
        }
        assert_eq!(legacy(&live), [""; 0]);
        if conflicts > 0 {
            return;
        }
    }
    panic!("no conflict was met in 40 rounds");
}

#[tokio::test]
async fn the_command_line_plans_shows_approves_and_takes_back() {
    let site = operated().await;
    let migration = Migration::prepare(site, "cli").await;
    migration.create(&[migration.service("moves", json!({"type": "NodePort"}), &[(BETA, "OnlyLocal")])]).await;
    migration.ready_on("moves", &["n1"]).await;
    let kubeconfig = site.kubeconfig.to_str().unwrap();
    let migrate = async |args: &[&str]| -> Printed {
        let mut command = Command::new(program("kubectl-portreeve"));
        command.args(["--kubeconfig", kubeconfig, "migrate"]).args(args);
        printed(&mut command, "").await
    };
    let name = migration.name.as_str();
    assert_eq!(migrate(&["status", name]).await.code, Some(2), "there is none yet");
    let planned = migrate(&["plan", name, "-n", name]).await.ok();
    let hash = migration.hash().await;
    assert!(planned.contains(&hash) && planned.contains("moves") && planned.contains("NeedsApproval"), "{planned}");
    let wrong = format!("sha256:{}", "0".repeat(64));
    let refused = migrate(&["approve", name, "--hash", &wrong]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("Nothing was approved"), "{refused:?}");
    assert_eq!(migration.live("moves").await["spec"]["externalTrafficPolicy"], "Cluster");

    migration.change(json!({"verify": {"windowSeconds": 0}})).await;
    let approved = migrate(&["approve", name, "--hash", &hash]).await.ok();
    assert!(approved.contains("Done"), "{approved}");
    assert_eq!(migration.live("moves").await["spec"]["externalTrafficPolicy"], "Local");
    let shown: Value = serde_json::from_str(&migrate(&["status", name, "-o", "json"]).await.ok()).unwrap();
    assert!(shown.to_string().contains("Completed"), "{shown}");
    migrate(&["rollback", name]).await.ok();
    assert_eq!(migration.live("moves").await["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(legacy(&migration.live("moves").await), [BETA]);
}
