//! Least privilege, by the API server's audit log: with exactly the generated roles nothing that a daemon asks for is
//! refused, and every right in the roles is used.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use portreeve_crds::names;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::{
    Daemon, Http, Installed, Site,
    daemon::free_port,
    eventually, holds,
    migration::{BETA, Migration},
    objects::{self, documents},
    site::workspace,
};

/// A right: API group, resource (with its subresource), verb.
type Right = (String, String, String);

/// Rights that the log cannot show, because the API server asks for them on the way of another request.
const UNSHOWN: [(&str, &str, &str); 3] = [
    // Who sets owners on an object must be allowed to delete it (OwnerReferencesPermissionEnforcement, on in these tests).
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations", "delete"),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "delete"),
    // A server-side apply of what is not there yet is a create.
    ("portreeve.io", "nodedatapaths", "create"),
];

/// Applies the generated roles of a component.
async fn grant(site: &Site, component: &str) -> Vec<Value> {
    let file = workspace().join(format!("config/rbac/{component}.yaml"));
    site.kubectl().run(&["apply", "-f", file.to_str().unwrap()]).await.ok();
    documents(&std::fs::read_to_string(file).unwrap())
}

/// A kubeconfig with a token of the ServiceAccount and nothing else.
async fn account(site: &Site, http: &Http, name: &str) -> String {
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{name}/token", names::NAMESPACE);
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let answer = http.send(http::Method::POST, &path, "application/json", &request).await.ok();
    let file = site.kubeconfig_of(name, &json!({"token": answer["status"]["token"]}));
    format!("--kubeconfig={}", file.display())
}

/// What the roles allow.
fn granted(objects: &[Value]) -> BTreeSet<Right> {
    let words = |rule: &Value, member: &str| -> Vec<String> {
        let all = rule[member].as_array().into_iter().flatten();
        all.map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let mut rights = BTreeSet::new();
    for rule in objects.iter().flat_map(|object| object["rules"].as_array().into_iter().flatten()) {
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                for verb in words(rule, "verbs") {
                    rights.insert((group.clone(), resource.clone(), verb));
                }
            }
        }
    }
    rights
}

/// What a ServiceAccount asked for, and what of it was refused.
fn asked(site: &Site, account: &str) -> (BTreeSet<Right>, Vec<String>) {
    let user = format!("system:serviceaccount:{}:{account}", names::NAMESPACE);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (mut rights, mut refused) = (BTreeSet::new(), Vec::new());
    for event in site.audit().iter().filter(|event| event["user"]["username"] == user.as_str()) {
        let reference = &event["objectRef"];
        if event["annotations"]["authorization.k8s.io/decision"] == "forbid" || event["responseStatus"]["code"] == 403 {
            refused.push(format!("{} {}", event["verb"], event["requestURI"]));
        }
        let (resource, sub) = (text(&reference["resource"]), text(&reference["subresource"]));
        let resource = if sub.is_empty() { resource } else { format!("{resource}/{sub}") };
        rights.insert((text(&reference["apiGroup"]), resource, text(&event["verb"])));
    }
    (rights, refused)
}

/// Nothing was refused, and nothing was granted in vain. Ready says that every list was had; the watch that follows it may
/// take a moment more to reach the log.
async fn exact(site: &Site, name: &str, roles: &[Value]) {
    let unshown = UNSHOWN.map(|(group, resource, verb)| (group.to_owned(), resource.to_owned(), verb.to_owned()));
    eventually(&format!("{name} uses every right that it has"), async || {
        let (used, refused) = asked(site, name);
        assert_eq!(refused, [""; 0], "{name} asked for what it may not");
        let idle: Vec<_> = granted(roles).difference(&used).filter(|right| !unshown.contains(right)).cloned().collect();
        holds(idle.is_empty(), &idle)
    })
    .await;
}

#[tokio::test]
async fn operator_and_webhook_use_every_right_they_have_and_want_no_other() {
    let site = Site::audited("rbac").await;
    let http = site.http().await;
    let (operators, webhooks) = (grant(&site, "operator").await, grant(&site, "webhook").await);
    let (operator, webhook) =
        (account(&site, &http, names::OPERATOR).await, account(&site, &http, names::WEBHOOK).await);
    let port = free_port();
    let installed = Installed {
        operator: site.operator("a", port, &[&operator]),
        webhook: site.webhook(port, &[&webhook]),
        site: site.clone(),
        port,
    };
    installed.operator.ready().await;
    installed.webhook.ready().await;
    installed.asked_in_both_phases().await;
    exercise(&site, &http).await;
    settled(&installed.operator).await;
    exact(&site, names::WEBHOOK, &webhooks).await;
    // An orderly end gives the lease back.
    installed.operator.stop();
    exact(&site, names::OPERATOR, &operators).await;
    for daemon in [&installed.operator, &installed.webhook] {
        assert!(!daemon.log().to_lowercase().contains("forbidden"), "{}", daemon.log());
    }
}

/// Everything that the operator does, once.
async fn exercise(site: &Site, http: &Http) {
    // Reports: made, brought up to date, removed.
    let namespace = site.namespace("rights").await;
    let spec = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]});
    let service = objects::service(&namespace, "web", spec);
    http.create(&service).await.ok();
    let report = format!("/apis/portreeve.io/v1alpha1/namespaces/{namespace}/servicetraffics/web");
    let reported = async |what: &str, is: fn(&Value) -> bool| {
        eventually(what, async || {
            let answer = http.get(&report).await;
            holds(answer.status == 200 && is(&answer.body), &answer.body)
        })
        .await;
    };
    reported("a report is made", |report| report["status"].is_object()).await;
    // Policies, with their directive for the agents.
    let path = json!({"dataPath": {"mode": "Local"}, "imbalance": {"maxRatioPermille": 1200}});
    http.create(&objects::policy(&namespace, path.clone())).await.ok();
    let enforcement = json!({"mode": "Enforce"});
    let cluster = json!({
        "apiVersion": "portreeve.io/v1alpha1", "kind": "ClusterTrafficPolicy", "metadata": {"name": "rights"},
        "spec": {"enforcement": enforcement, "defaults": {"rules": [{"id": "ETP004", "action": "Warn"}]}},
    });
    http.create(&cluster).await.ok();
    reported("the directive is written", |report| report["spec"]["mode"] == "Local").await;
    http.create(&objects::slice(&namespace, "web", &["n1", "n2", "n2"])).await.ok();
    reported("the report follows the Pods", |report| report["status"]["readyPods"] == 3).await;
    http.merge(&objects::path(&service), &json!({"spec": {"externalTrafficPolicy": "Cluster"}})).await.ok();
    eventually("the report is removed", async || {
        let answer = http.get(&report).await;
        holds(answer.status == 404, answer)
    })
    .await;
    for path in ["clustertrafficpolicies/rights", &format!("namespaces/{namespace}/trafficpolicies/policy")] {
        eventually("the policy has a status", async || {
            let policy = http.get(&format!("/apis/portreeve.io/v1alpha1/{path}")).await.ok();
            holds(policy["status"]["observedGeneration"] == 1, &policy["status"])
        })
        .await;
    }
    // The agents' configuration.
    let config = json!({
        "apiVersion": "portreeve.io/v1alpha1", "kind": "DatapathConfig", "metadata": {"name": "default"}, "spec": {},
    });
    http.create(&config).await.ok();
    eventually("the configuration has a status", async || {
        let config = http.get("/apis/portreeve.io/v1alpha1/datapathconfigs/default").await.ok();
        holds(config["status"]["observedGeneration"] == 1, &config["status"])
    })
    .await;
    // A migration there and back; one plan is made anew, one item is dropped.
    let migration = Migration::prepare(site, "moves").await;
    let service = |name: &str, value: &str| migration.service(name, json!({"type": "NodePort"}), &[(BETA, value)]);
    migration.create(&[service("moves", "OnlyLocal"), service("changes", "Global"), service("goes", "Global")]).await;
    migration.ready_on("moves", &["n1"]).await;
    migration.begin("Plan", json!({"verify": {"windowSeconds": 0}})).await;
    migration.phase("Planned").await;
    let live = |name: &str| format!("/api/v1/namespaces/{}/services/{name}", migration.name);
    http.merge(&live("changes"), &json!({"metadata": {"annotations": {BETA: "OnlyLocal"}}})).await.ok();
    http.merge(&live("goes"), &json!({"metadata": {"annotations": {BETA: null}}})).await.ok();
    migration.ready_on("changes", &["n1"]).await;
    eventually("the plan is made anew", async || {
        let status = migration.status().await;
        holds(status["counts"]["needsApproval"] == 2 && status["counts"]["safe"] == 0, status)
    })
    .await;
    migration.change(json!({"mode": "Apply", "approval": {"planHash": migration.hash().await}})).await;
    migration.phase("Completed").await;
    migration.change(json!({"rollback": true})).await;
    migration.phase("RolledBack").await;
    // Registrations and certificates that somebody spoils.
    let registration = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/portreeve";
    for kind in ["validating", "mutating"] {
        let path = registration.replace("validating", kind);
        http.merge(&path, &json!({"webhooks": null})).await.ok();
        eventually("the registration comes back", async || {
            let webhooks = http.get(&path).await.ok()["webhooks"].clone();
            holds(webhooks.is_array(), webhooks)
        })
        .await;
    }
    for name in [names::SECRET_CA, names::SECRET_TLS] {
        let path = format!("/api/v1/namespaces/{}/secrets/{name}", names::NAMESPACE);
        let spoilt = json!({"data": {"tls.crt": "c3BvaWx0", "ca.crt": "c3BvaWx0"}});
        http.merge(&path, &spoilt).await.ok();
        eventually("the Secret is mended", async || {
            let data = http.get(&path).await.ok()["data"].clone();
            holds(data["ca.crt"] != "c3BvaWx0" && data["tls.crt"] != "c3BvaWx0", "spoilt")
        })
        .await;
    }
}

/// Waits until nothing is queued and nothing under way.
async fn settled(operator: &Daemon) {
    eventually("the operator has nothing to do", async || {
        let metrics = operator.metrics().await;
        let busy: Vec<_> = metrics
            .lines()
            .filter(|line| {
                line.starts_with("workqueue_depth{") || line.starts_with("controller_runtime_active_workers{")
            })
            .filter(|line| !line.ends_with(" 0"))
            .collect();
        holds(busy.is_empty(), busy)
    })
    .await;
}

#[tokio::test]
async fn the_agent_uses_every_right_it_has_and_wants_no_other() {
    let site = Site::audited("rbac-agent").await;
    let http = site.http().await;
    let roles = grant(&site, "agent").await;
    let kubeconfig = account(&site, &http, names::AGENT).await;
    let address = json!({"type": "InternalIP", "address": "127.0.0.1"});
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    http.create(&node).await.ok();
    http.merge("/api/v1/nodes/n1/status", &json!({"status": {"addresses": [address]}})).await.ok();
    // Without an uplink nothing is programmed: this agent runs on the machine itself, whose packets are not ours.
    let config = json!({
        "apiVersion": "portreeve.io/v1alpha1", "kind": "DatapathConfig", "metadata": {"name": "default"},
        "spec": {"uplinks": {"interfaces": ["none-such"]}, "capacity": {"frontends": 1}},
    });
    http.create(&config).await.ok();
    // A Service that does not fit is something to say in an Event.
    let namespace = site.namespace("rights").await;
    let ports = json!([{"name": "one", "port": 80}, {"name": "two", "port": 81}]);
    let spec = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": ports});
    http.create(&objects::service(&namespace, "big", spec)).await.ok();
    let directive = json!({
        "apiVersion": "portreeve.io/v1alpha1", "kind": "ServiceTraffic",
        "metadata": {"name": "big", "namespace": namespace}, "spec": {"mode": "Local"},
    });
    http.create(&directive).await.ok();
    let socket = format!("--admin-socket={}", site.log.join("agent.sock").display());
    let args = [kubeconfig, "--node-name=n1".to_owned(), format!("--namespace={}", names::NAMESPACE), socket];
    let agent = Daemon::start("agent-n1", names::AGENT, site.log.join("agent.log"), &args);
    let report = "/apis/portreeve.io/v1alpha1/nodedatapaths/n1";
    eventually("the agent reports", async || {
        let answer = http.get(report).await;
        holds(answer.status == 200 && answer.body["status"]["agentVersion"].is_string(), (answer, agent.log()))
    })
    .await;
    exact(&site, names::AGENT, &roles).await;
    for (place, reason) in [(namespace.as_str(), "ServiceRefused"), ("default", "ServicesRefused")] {
        eventually("the Service that does not fit is told", async || {
            let events = http.get(&format!("/apis/events.k8s.io/v1/namespaces/{place}/events")).await.ok();
            let mut said = events["items"].as_array().into_iter().flatten().map(|event| &event["reason"]);
            holds(said.any(|said| said == reason), &events)
        })
        .await;
    }
    assert!(!agent.log().to_lowercase().contains("forbidden"), "{}", agent.log());
    agent.stop();
}
