//! Every rule through the real API server: operator and webhook as processes, registrations written by the operator.
//!
//! The examples are those that `kubectl portreeve explain` shows, so what users read is what happens.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use portreeve_crds::{Action, RuleId};
use portreeve_policy::rule_docs;
use serde_json::{Value, json};
use support::{
    Answer, Http, Site, eventually, holds, installed,
    objects::{annotated, documents, path, policy, service, within},
};

const LEGACY: &str = "service.beta.kubernetes.io/external-traffic";

/// An example of a rule, in a namespace of its own: the Service, and what else of the cluster the rule looks at.
struct Example {
    service: Value,
    others: Vec<Value>,
}

impl Example {
    fn new(yaml: &str, namespace: &str) -> Self {
        let all = documents(yaml).into_iter().map(|object| within(object, namespace));
        let (services, others): (Vec<_>, Vec<_>) = all.partition(|object| object["kind"] == "Service");
        let [mut service] = <[Value; 1]>::try_from(services).unwrap();
        // An update that changes nothing is not even asked about: this one always does.
        service["metadata"]["labels"] = json!({"updated": "true"});
        Self { service, others }
    }

    /// Makes the others, or brings them to what this example says.
    async fn apply_others(&self, http: &Http) {
        for object in &self.others {
            let created = http.create(object).await;
            if created.status == 409 {
                let version = http.get(&path(object)).await.ok()["metadata"]["resourceVersion"].clone();
                let mut object = object.clone();
                object["metadata"]["resourceVersion"] = version;
                http.replace(&object).await.ok();
            } else {
                created.ok();
            }
        }
    }

    /// The Service as it would look after an update of a stored one without faults.
    async fn update(&self, http: &Http) -> Answer {
        let target = format!("{}?dryRun=All", path(&self.service));
        http.send(http::Method::PUT, &target, "application/json", &self.service).await
    }
}

/// Stores what both examples of a rule are an update of: a Service in which the rule finds nothing. For rules about
/// endpoints that is one with `Cluster`, for the others the good example.
async fn store_without_faults(http: &Http, rule: RuleId, good: &Example) {
    let mut stored = good.service.clone();
    stored["metadata"]["labels"] = json!({});
    if speaks_of_updates_only(rule) {
        stored["spec"]["externalTrafficPolicy"] = json!("Cluster");
    }
    http.create(&stored).await.ok();
}

/// A Service that is new has no endpoints yet, so the rules about them speak of updates only.
fn speaks_of_updates_only(rule: RuleId) -> bool {
    matches!(rule, RuleId::ETP005 | RuleId::ETP008)
}

/// `answer` refuses for exactly this rule, in the words that users are promised.
fn refuses(answer: &Answer, rule: RuleId) -> Result<(), String> {
    holds(answer.denied().contains(&rule.to_string()), answer)?;
    let (field, message) =
        answer.causes().into_iter().find(|(_, message)| message.contains(rule.as_str())).unwrap_or_default();
    holds(answer.status == 422 && answer.body["reason"] == "Invalid", answer)?;
    holds(field.starts_with("spec.") || field.starts_with("metadata.annotations["), &field)?;
    holds(message.starts_with(&format!("[{rule} policy=tp/policy] ")), &message)?;
    holds(message.contains(". Fix: ") && message.ends_with(&format!("See: kubectl portreeve explain {rule}")), &message)
}

#[tokio::test]
async fn the_bad_example_of_each_rule_is_refused_where_a_policy_says_deny_and_the_good_one_passes_in_silence() {
    let site = &installed().await.site;
    let http = site.http().await;
    for rule in RuleId::ALL {
        let namespace = site.namespace("deny").await;
        let example = rule_docs(rule).example;
        let (bad, good) = (Example::new(example.bad, &namespace), Example::new(example.good, &namespace));
        store_without_faults(&http, rule, &good).await;
        bad.apply_others(&http).await;
        http.create(&policy(&namespace, json!({"rules": [{"id": rule, "action": "Deny"}]}))).await.ok();
        eventually(&format!("{rule}: an update is refused"), async || refuses(&bad.update(&http).await, rule)).await;
        if !speaks_of_updates_only(rule) {
            let mut new = bad.service.clone();
            new["metadata"]["name"] = json!("new");
            refuses(&http.dry_run(&new).await, rule).unwrap_or_else(|seen| panic!("{rule}: {seen}"));
            let answer = http.create(&new).await;
            assert_eq!(answer.status, 422, "{rule}: for real, too");
            assert_eq!(http.get(&path(&new)).await.status, 404, "{rule}: nothing is stored");
        }
        good.apply_others(&http).await;
        eventually(&format!("{rule}: the good example passes in silence"), async || {
            let answer = good.update(&http).await;
            holds(answer.status == 200 && !answer.denied().contains(&rule.to_string()), &answer)?;
            // Other rules may have their say at their own action, this one not.
            holds(!answer.warned().contains(&rule.to_string()), &answer)
        })
        .await;
    }
}

#[tokio::test]
async fn each_rule_does_by_default_what_its_documentation_says() {
    let installed = installed().await;
    let site = &installed.site;
    let http = site.http().await;
    for rule in RuleId::ALL {
        let namespace = site.namespace("default").await;
        let doc = rule_docs(rule);
        let bad = Example::new(doc.example.bad, &namespace);
        store_without_faults(&http, rule, &Example::new(doc.example.good, &namespace)).await;
        bad.apply_others(&http).await;
        let before = audited(installed, rule).await;
        eventually(&format!("{rule} by default"), async || {
            let answer = bad.update(&http).await;
            let (warned, denied) =
                (answer.warned().contains(&rule.to_string()), answer.denied().contains(&rule.to_string()));
            match doc.default_action {
                Action::Warn => holds(warned && answer.status == 200, &answer),
                Action::Deny => holds(denied && answer.status == 422, &answer),
                // Nothing is said to the user, but it is counted.
                Action::Audit => {
                    let counted = audited(installed, rule).await > before;
                    holds(counted && !warned && !denied && answer.status == 200, &answer)
                }
                Action::Off | Action::Fix => Err("no rule has this default".to_owned()),
            }
        })
        .await;
        for warning in bad.update(&http).await.our_warnings() {
            assert!(warning.chars().count() <= 120, "{warning}");
        }
    }
}

async fn audited(installed: &support::Installed, rule: RuleId) -> f64 {
    let labels = [format!("rule=\"{rule}\""), "action=\"Audit\"".to_owned()];
    installed.webhook.metric("portreeve_admission_findings_total", &[&labels[0], &labels[1]]).await
}

/// Fields of the spec that some rule mends.
const MENDED: [&str; 3] = ["externalTrafficPolicy", "loadBalancerSourceRanges", "trafficDistribution"];

#[tokio::test]
async fn a_rule_that_can_mend_does_so_where_a_policy_says_fix_and_finds_nothing_afterwards() {
    let site = &installed().await.site;
    let http = site.http().await;
    let mending: Vec<_> = RuleId::ALL.into_iter().filter(|rule| rule_docs(*rule).mend.is_some()).collect();
    assert_eq!(mending, [RuleId::ETP001, RuleId::ETP003, RuleId::ETP015, RuleId::ETP016]);
    for rule in mending {
        let namespace = site.namespace("fix").await;
        let bad = Example::new(rule_docs(rule).example.bad, &namespace);
        http.create(&policy(&namespace, json!({"rules": [{"id": rule, "action": "Fix"}]}))).await.ok();
        let mended = eventually(&format!("{rule} mends"), async || {
            let answer = http.dry_run(&bad.service).await;
            let says = answer.our_warnings().iter().any(|text| text.starts_with(&format!("[{rule} tp/policy]")));
            let field = |field: &str| (&answer.body["spec"][field], &bad.service["spec"][field]);
            // The API server itself gives a Service that says nothing the policy Cluster.
            let defaulted = |(now, asked): (&Value, &Value)| asked.is_null() && now == "Cluster";
            let changed = answer.body["metadata"]["annotations"] != bad.service["metadata"]["annotations"]
                || MENDED.iter().map(|name| field(name)).any(|pair| pair.0 != pair.1 && !defaulted(pair));
            holds(answer.status == 201 && says && changed, &answer)?;
            Ok(answer.body)
        })
        .await;
        let mut again = bad.service.clone();
        again["metadata"]["annotations"] = mended["metadata"]["annotations"].clone();
        for field in MENDED {
            again["spec"][field] = mended["spec"][field].clone();
        }
        let answer = http.dry_run(&again).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        assert!(!answer.warned().contains(&rule.to_string()), "{rule} is still found after its mend: {answer:?}");
    }
}

#[tokio::test]
async fn an_update_is_not_refused_for_a_violation_that_was_there_and_is_refused_for_a_new_one() {
    let site = &installed().await.site;
    let http = site.http().await;
    let namespace = site.namespace("ratchet").await;
    let spec = json!({"type": "ClusterIP", "externalIPs": ["203.0.113.10"], "ports": [{"port": 80}]});
    let old = service(&namespace, "old", spec);
    http.create(&old).await.ok();
    http.create(&policy(&namespace, json!({"rules": [{"id": "ETP013", "action": "Deny"}]}))).await.ok();
    let mut second = old.clone();
    second["metadata"]["name"] = json!("second");
    eventually("the policy is known", async || refuses(&http.dry_run(&second).await, RuleId::ETP013)).await;

    let labelled = http.merge(&path(&old), &json!({"metadata": {"labels": {"team": "blue"}}})).await;
    assert_eq!((labelled.status, labelled.warned()), (200, vec!["ETP013".to_owned()]), "{labelled:?}");
    let fewer_or_other = [
        (json!(["203.0.113.10", "203.0.113.11"]), 422),
        (json!(["203.0.113.11"]), 422),
        (json!(["203.0.113.10"]), 200),
        (json!([]), 200),
    ];
    for (addresses, status) in fewer_or_other {
        let answer = http.merge(&path(&old), &json!({"spec": {"externalIPs": addresses}})).await;
        assert_eq!(answer.status, status, "{addresses}: {answer:?}");
    }
    let back = http.merge(&path(&old), &json!({"spec": {"externalIPs": ["203.0.113.10"]}})).await;
    assert_eq!(back.denied(), ["ETP013"], "what was given up is new when it comes back");
}

#[tokio::test]
async fn a_service_under_deletion_is_reviewed_like_any_other() {
    let site = &installed().await.site;
    let http = site.http().await;
    let namespace = site.namespace("deletion").await;
    let mut held = service(&namespace, "held", json!({"type": "ClusterIP", "ports": [{"port": 80}]}));
    held["metadata"]["finalizers"] = json!(["example.org/held"]);
    http.create(&held).await.ok();
    http.create(&policy(&namespace, json!({"rules": [{"id": "ETP013", "action": "Deny"}]}))).await.ok();
    http.delete(&path(&held)).await.ok();
    assert!(http.get(&path(&held)).await.ok()["metadata"]["deletionTimestamp"].is_string());
    let addresses = json!({"spec": {"externalIPs": ["203.0.113.10"]}});
    eventually("the update is refused", async || {
        let answer = http.merge(&format!("{}?dryRun=All", path(&held)), &addresses).await;
        refuses(&answer, RuleId::ETP013)
    })
    .await;
    http.merge(&path(&held), &json!({"metadata": {"finalizers": null}})).await.ok();
}

#[tokio::test]
async fn kubectl_prints_every_violation_of_a_service_with_its_fix() {
    let site = &installed().await.site;
    let (http, kubectl) = (site.http().await, site.kubectl());
    let namespace = site.namespace("kubectl").await;
    let rules = json!({"rules": [{"id": "ETP003", "action": "Deny"}, {"id": "ETP013", "action": "Deny"}]});
    http.create(&policy(&namespace, rules)).await.ok();
    let spec = json!({
        "type": "ClusterIP", "externalTrafficPolicy": "Local", "externalIPs": ["203.0.113.10"], "ports": [{"port": 80}],
    });
    let bad = annotated(service(&namespace, "bad", spec), LEGACY, "Global");
    eventually("the policy is known", async || {
        let answer = http.dry_run(&bad).await;
        holds(answer.denied() == ["ETP003", "ETP013"], answer)
    })
    .await;
    let printed = kubectl.run_with(&["create", "-f", "-"], &bad.to_string()).await.refused();
    let lines = [
        "The Service \"bad\" is invalid",
        "* spec.externalTrafficPolicy: [ETP003 policy=tp/policy] ",
        "* spec.externalIPs: [ETP013 policy=tp/policy] ",
        "Fix: remove spec.externalIPs and set spec.type to LoadBalancer, or use a Gateway.",
        "See: kubectl portreeve explain ETP013",
        "Warning: [ETP001 built-in] ",
        "Warning: [ETP002 built-in] ",
    ];
    for line in lines {
        assert!(printed.contains(line), "{line:?} is not in {printed}");
    }
}

#[tokio::test]
async fn the_field_left_on_a_service_turned_inwards_is_told_at_once_and_refused_next_time_in_our_words() {
    let site = &installed().await.site;
    let kubectl = site.kubectl();
    let namespace = site.namespace("trap").await;
    let manifest = |kind: &str| {
        let spec = json!({"type": kind, "externalTrafficPolicy": "Local", "ports": [{"port": 80}]});
        service(&namespace, "turned", spec).to_string()
    };
    let apply = ["apply", "-f", "-"];
    kubectl.run_with(&apply, &manifest("LoadBalancer")).await.ok();
    let first = kubectl.run_with(&apply, &manifest("ClusterIP")).await;
    assert!(first.stderr.contains("Warning: [ETP016 built-in] "), "{first:?}");
    assert!(first.stderr.contains("the next apply will fail"), "{first:?}");
    first.ok();
    let second = kubectl.run_with(&apply, &manifest("ClusterIP")).await.refused();
    assert!(second.contains("spec.externalTrafficPolicy: [ETP016 policy=built-in] "), "{second}");
    assert!(!second.contains("externally-accessible"), "the API server's own words come second: {second}");
}

#[tokio::test]
async fn what_is_labelled_to_be_ignored_and_the_systems_own_namespaces_are_left_alone() {
    let site = &installed().await.site;
    let http = site.http().await;
    let spec = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]});
    let namespace = site.namespace("ignored").await;
    let mut one = service(&namespace, "one", spec.clone());
    assert_eq!(http.dry_run(&one).await.warned(), ["ETP004"]);
    one["metadata"]["labels"] = json!({"portreeve.io/ignore": "true"});
    assert_eq!(http.dry_run(&one).await.warned(), [""; 0], "a labelled Service");
    one["metadata"]["labels"] = json!({});
    let labels = json!({"metadata": {"labels": {"portreeve.io/ignore": "true"}}});
    http.merge(&format!("/api/v1/namespaces/{namespace}"), &labels).await.ok();
    eventually("a labelled namespace is left alone", async || {
        let answer = http.dry_run(&one).await;
        holds(answer.warned().is_empty() && answer.status == 201, answer)
    })
    .await;
    for system in ["kube-system", "kube-node-lease", "portreeve-system"] {
        let answer = http.dry_run(&service(system, "one", spec.clone())).await;
        assert_eq!((answer.status, answer.warned()), (201, Vec::new()), "{system}: {answer:?}");
    }
}

#[tokio::test]
async fn a_namespaces_policy_tightens_what_the_cluster_overrides_and_never_loosens_it() {
    let site = &installed().await.site;
    let http = site.http().await;
    let namespace = site.namespace("levels").await;
    let labels = json!({"metadata": {"labels": {"levels": "here"}}});
    http.merge(&format!("/api/v1/namespaces/{namespace}"), &labels).await.ok();
    let cluster = json!({
        "apiVersion": "portreeve.io/v1alpha1", "kind": "ClusterTrafficPolicy", "metadata": {"name": "levels"},
        "spec": {
            "match": {"namespaceSelector": {"matchLabels": {"levels": "here"}}},
            "enforcement": {"mode": "Enforce"},
            "overrides": {"rules": [{"id": "ETP004", "action": "Warn"}, {"id": "ETP013", "action": "Deny"}]},
        },
    });
    http.create(&cluster).await.ok();
    let spec = json!({
        "type": "NodePort", "externalTrafficPolicy": "Local", "externalIPs": ["203.0.113.10"], "ports": [{"port": 80}],
    });
    let bad = service(&namespace, "bad", spec);
    eventually("the override is known", async || {
        let answer = http.dry_run(&bad).await;
        holds(answer.denied() == ["ETP013"] && answer.message().contains("policy=ctp/levels"), answer)
    })
    .await;
    let own = json!({"rules": [{"id": "ETP004", "action": "Deny"}, {"id": "ETP013", "action": "Off"}]});
    http.create(&policy(&namespace, own)).await.ok();
    eventually("the tighter action is known", async || {
        let answer = http.dry_run(&bad).await;
        holds(answer.denied() == ["ETP004", "ETP013"], answer)
    })
    .await;
    http.delete("/apis/portreeve.io/v1alpha1/clustertrafficpolicies/levels").await.ok();
    eventually("without the override the namespace decides alone", async || {
        let answer = http.dry_run(&bad).await;
        holds(answer.denied() == ["ETP004"], answer)
    })
    .await;
}

#[tokio::test]
async fn a_policy_in_mode_audit_or_warn_refuses_nothing() {
    let site = &installed().await.site;
    let http = site.http().await;
    let namespace = site.namespace("mode").await;
    let spec = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]});
    let bad = service(&namespace, "bad", spec);
    let mut deny = policy(&namespace, json!({"rules": [{"id": "ETP004", "action": "Deny"}]}));
    http.create(&deny).await.ok();
    for (mode, status, warned) in [("Enforce", 422, 0), ("Warn", 201, 1), ("Audit", 201, 0)] {
        deny["spec"]["enforcement"]["mode"] = json!(mode);
        http.merge(&path(&deny), &json!({"spec": {"enforcement": {"mode": mode}}})).await.ok();
        eventually(mode, async || {
            let answer = http.dry_run(&bad).await;
            holds(answer.status == status && answer.warned().len() == warned, answer)
        })
        .await;
    }
}

#[tokio::test]
async fn kubectl_waits_for_a_policy_until_the_operator_has_read_it() {
    let site: &Site = &installed().await.site;
    let (http, kubectl) = (site.http().await, site.kubectl());
    let namespace = site.namespace("wait").await;
    let spec = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]});
    http.create(&service(&namespace, "counted", spec)).await.ok();
    let ours = policy(&namespace, json!({"rules": [{"id": "ETP004", "action": "Warn"}]}));
    assert!(http.create(&ours).await.ok()["status"].is_null());
    let wait = ["wait", "tp/policy", "-n", &namespace, "--for=condition=Ready", "--timeout=60s"];
    assert!(kubectl.run(&wait).await.ok().contains("condition met"));
    eventually("the status counts", async || {
        let status = http.get(&path(&ours)).await.ok()["status"].clone();
        let counted = status["services"] == 1 && status["violations"] == 1;
        let by_rule = status["findings"] == json!([{"id": "ETP004", "count": 1}]);
        holds(counted && by_rule && status["observedGeneration"] == 1, status)
    })
    .await;
    // A new generation is observed anew.
    http.merge(&path(&ours), &json!({"spec": {"priority": 7}})).await.ok();
    let wait =
        ["wait", "tp/policy", "-n", &namespace, "--for=jsonpath={.status.observedGeneration}=2", "--timeout=60s"];
    kubectl.run(&wait).await.ok();
}
