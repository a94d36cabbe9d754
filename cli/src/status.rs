//! `status`: one look at everything.

mod nodes;

use crate::args::{ClusterArgs, Output, StatusArgs};
use crate::cluster::{connect, list};
use crate::exit::{Exit, Failure};
use crate::migrate;
use crate::output::outln;
use crate::text::{clean, print_table, table};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, Client, ResourceExt as _};
use portreeve_crds::condition::READY;
use portreeve_crds::service_traffic::BALANCED;
use portreeve_crds::{ClusterTrafficPolicy, NodeDatapath, ServiceTraffic, TrafficPolicy, names};
use serde_json::{Value, json};

/// Services, and nodes, that are shown one by one; the rest is counted.
const SHOWN: usize = 20;

/// What was found.
struct Overview {
    parts: Vec<(&'static str, i32, i32)>,
    cluster_policies: Vec<ClusterTrafficPolicy>,
    policies: Vec<TrafficPolicy>,
    services: Vec<ServiceTraffic>,
    nodes: Vec<NodeDatapath>,
    migrations: Vec<(String, Option<portreeve_crds::migration::TrafficMigrationStatus>)>,
}

pub(crate) async fn run(args: &StatusArgs, cluster: &ClusterArgs) -> Result<Exit, Failure> {
    let client = connect(cluster).await?;
    let overview = look(&client, &args.system_namespace).await?;
    match args.output {
        Output::Json => outln!("{}", as_json(&overview)),
        Output::Table => people(&overview),
    }
    let healthy = overview.parts.iter().all(|(_, ready, wanted)| wanted > &0 && ready == wanted);
    Ok(if healthy { Exit::Clean } else { Exit::Findings })
}

async fn look(client: &Client, namespace: &str) -> Result<Overview, Failure> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    let daemons: Api<DaemonSet> = Api::namespaced(client.clone(), namespace);
    let mut parts = Vec::new();
    for name in [names::OPERATOR, names::WEBHOOK] {
        let found =
            deployments.get_opt(name).await.map_err(Failure::from_kube(format!("reading Deployment {name}")))?;
        let status = found.and_then(|found| found.status).unwrap_or_default();
        parts.push((name, status.ready_replicas.unwrap_or(0), status.replicas.unwrap_or(0)));
    }
    let agent = daemons.get_opt(names::AGENT).await.map_err(Failure::from_kube("reading the agent's DaemonSet"))?;
    let status = agent.and_then(|found| found.status).unwrap_or_default();
    parts.push((names::AGENT, status.number_ready, status.desired_number_scheduled));
    let mut services: Vec<ServiceTraffic> = list(&Api::all(client.clone()), "ServiceTraffics").await?;
    services.sort_by_key(|service| std::cmp::Reverse(ratio(service)));
    Ok(Overview {
        parts,
        cluster_policies: list(&Api::all(client.clone()), "ClusterTrafficPolicies").await?,
        policies: list(&Api::all(client.clone()), "TrafficPolicies").await?,
        services,
        nodes: list(&Api::all(client.clone()), "NodeDatapaths").await?,
        migrations: migrate::overview(client).await?,
    })
}

fn ratio(service: &ServiceTraffic) -> i32 {
    service.status.as_ref().and_then(|status| status.imbalance.as_ref()).map_or(0, |imbalance| imbalance.ratio_permille)
}

fn as_json(overview: &Overview) -> Value {
    let parts: Vec<Value> = overview
        .parts
        .iter()
        .map(|(name, ready, wanted)| json!({"name": name, "ready": ready, "wanted": wanted}))
        .collect();
    let policy = |kind: &str, namespace: Option<&String>, name: String, status: Value| json!({"kind": kind, "namespace": namespace, "name": name, "status": status});
    let policies: Vec<Value> = overview
        .cluster_policies
        .iter()
        .map(|found| policy("ClusterTrafficPolicy", None, found.name_any(), json!(found.status)))
        .chain(overview.policies.iter().map(|found| {
            policy("TrafficPolicy", found.metadata.namespace.as_ref(), found.name_any(), json!(found.status))
        }))
        .collect();
    let services: Vec<Value> = overview
        .services
        .iter()
        .map(|found| json!({"namespace": found.namespace(), "name": found.name_any(), "status": found.status}))
        .collect();
    let nodes: Vec<Value> =
        overview.nodes.iter().map(|found| json!({"name": found.name_any(), "status": found.status})).collect();
    let migrations: Vec<Value> =
        overview.migrations.iter().map(|(name, status)| json!({"name": name, "status": status})).collect();
    json!({"components": parts, "policies": policies, "services": services, "nodes": nodes, "migrations": migrations})
}

fn people(overview: &Overview) {
    let mut parts = table(["COMPONENT", "READY"]);
    for (name, ready, wanted) in &overview.parts {
        let note = if *wanted == 0 { " (not installed)" } else { "" };
        parts.add_row([(*name).to_owned(), format!("{ready}/{wanted}{note}")]);
    }
    print_table(parts);

    let mut policies = table(["POLICY", "MODE", "SERVICES", "VIOLATIONS", "READY"]);
    let numbers = |status: Option<&portreeve_crds::policy::PolicyStatus>| {
        let number = |value: Option<i32>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
        let status = status.cloned().unwrap_or_default();
        (number(status.services), number(status.violations), word(&status.conditions, READY))
    };
    for found in &overview.cluster_policies {
        let (services, violations, ready) = numbers(found.status.as_ref());
        policies.add_row([
            format!("ctp/{}", found.name_any()),
            format!("{:?}", found.spec.enforcement.mode),
            services,
            violations,
            ready,
        ]);
    }
    for found in &overview.policies {
        let (services, violations, ready) = numbers(found.status.as_ref());
        let name = format!("tp/{}/{}", found.namespace().unwrap_or_default(), found.name_any());
        policies.add_row([name, format!("{:?}", found.spec.enforcement.mode), services, violations, ready]);
    }
    section("policies", overview.cluster_policies.len() + overview.policies.len(), policies);

    let mut services = table(["SERVICE", "PODS", "NODES", "LOAD OF THE HOTTEST POD", "BALANCED"]);
    for found in overview.services.iter().take(SHOWN) {
        let status = found.status.clone().unwrap_or_default();
        let number = |value: Option<i32>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
        services.add_row([
            clean(&format!("{}/{}", found.namespace().unwrap_or_default(), found.name_any())),
            number(status.ready_pods),
            number(status.active_nodes),
            bar(ratio(found)),
            word(&status.conditions, BALANCED),
        ]);
    }
    section("Services with externalTrafficPolicy Local", overview.services.len(), services);
    if overview.services.len() > SHOWN {
        outln!("… and {} less imbalanced ones: kubectl get servicetraffics -A", overview.services.len() - SHOWN);
    }

    let (rows, more) = nodes::rows(&overview.nodes, SHOWN);
    section("nodes", overview.nodes.len(), rows);
    if more > 0 {
        outln!("… and {more} more: kubectl get nodedatapaths");
    }

    let mut migrations = table(["MIGRATION", "PHASE", "DONE", "FAILED"]);
    for (name, status) in &overview.migrations {
        let status = status.clone().unwrap_or_default();
        let counts = status.counts.unwrap_or_default();
        let phase = status.phase.map_or_else(|| "?".to_owned(), |phase| format!("{phase:?}"));
        migrations.add_row([name.clone(), phase, counts.done.to_string(), counts.failed.to_string()]);
    }
    section("migrations", overview.migrations.len(), migrations);
}

/// The status of a condition as `kubectl get` shows it: True, False or Unknown; `?` where nobody has said anything.
fn word(conditions: &[Condition], kind: &str) -> String {
    conditions.iter().find(|one| one.type_ == kind).map_or_else(|| "?".to_owned(), |one| clean(&one.status))
}

fn section(what: &str, number: usize, rows: comfy_table::Table) {
    outln!();
    if number == 0 {
        outln!("No {what}.");
    } else {
        print_table(rows);
    }
}

/// A bar in which `█` up to the mean is fair load and `▒` beyond it is what the hottest Pod gets on top: ten cells are
/// the mean, thirty the most that is drawn.
fn bar(permille: i32) -> String {
    if permille == 0 {
        return "no ready Pod".to_owned();
    }
    let cells = usize::try_from((permille / 100).clamp(10, 30)).unwrap_or(10);
    format!("{}{} {}.{:02}× the mean", "█".repeat(10), "▒".repeat(cells - 10), permille / 1000, permille % 1000 / 10)
}

#[cfg(test)]
mod tests {
    use super::{bar, word};
    use portreeve_crds::condition::{Desired, READY, merge};
    use portreeve_crds::service_traffic::BALANCED;

    #[test]
    fn a_condition_has_the_word_that_kubectl_shows() {
        let now = jiff::Timestamp::UNIX_EPOCH;
        for (desired, expected) in [
            (Desired::yes(BALANCED, "WithinLimit", "text"), "True"),
            (Desired::no(BALANCED, "AboveLimit", "text"), "False"),
            (Desired::unknown(BALANCED, "NoLimit", "text"), "Unknown"),
            (Desired::yes(READY, "Reported", "text"), "?"),
        ] {
            assert_eq!(word(&merge(&[], &[desired], Some(1), now), BALANCED), expected);
        }
    }

    #[test]
    fn an_even_service_has_a_bar_of_the_mean_and_no_more() {
        assert_eq!(bar(1000), "██████████ 1.00× the mean");
        assert_eq!(bar(1500), "██████████▒▒▒▒▒ 1.50× the mean");
        assert_eq!(bar(0), "no ready Pod");
    }
}
