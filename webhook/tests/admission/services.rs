//! Reviews of Services.

use crate::support::{Webhook, World, patched, review, warned_rules, warnings};
use rstest::rstest;
use serde_json::{Value, json};

const MUTATE: &str = "/mutate/services";
const VALIDATE: &str = "/validate/services";

/// What both phases say under the built-in policy: refusing rules and warning rules.
#[rstest]
#[case::clean("service-create-clean", &[], &[])]
#[case::no_external_way_in("service-create-clusterip-local", &["ETP016"], &[])]
#[case::external_ips("service-create-clusterip-externalips-local", &[], &["ETP003", "ETP013"])]
#[case::node_port("service-create-nodeport-local", &[], &["ETP004"])]
#[case::legacy_annotation("service-create-legacy-only-local", &[], &["ETP001", "ETP002"])]
#[case::deprecated_sibling("service-update-local-without-pods", &[], &["ETP015"])]
#[case::terminating("service-update-terminating-externalips", &[], &["ETP013"])]
#[tokio::test]
async fn each_recorded_service_gets_its_built_in_answer(
    #[case] name: &str,
    #[case] denied: &[&str],
    #[case] warned: &[&str],
) {
    let (webhook, review) = (Webhook::new(&World::default()), review(name));
    let mutating = webhook.decide(MUTATE, &review).await;
    assert_eq!(denying_rules(&mutating), denied);
    assert_eq!(warned_rules(&mutating), [""; 0]);
    if denied.is_empty() {
        let validating = webhook.decide(VALIDATE, &review).await;
        assert_eq!(validating["allowed"], true);
        assert_eq!(warned_rules(&validating), warned);
    }
}

#[tokio::test]
async fn a_refusal_carries_what_kubectl_prints_and_what_it_does_not() {
    let webhook = Webhook::new(&World::default());
    let response = webhook.decide(MUTATE, &review("service-create-clusterip-local")).await;
    assert_eq!(response["allowed"], false);
    let status = &response["status"];
    assert_eq!((&status["code"], &status["reason"]), (&json!(422), &json!("Invalid")));
    let details = &status["details"];
    assert_eq!((&details["kind"], &details["name"], &details["group"]), (&json!("Service"), &json!("web"), &json!("")));
    let cause = &details["causes"][0];
    assert_eq!(cause["field"], "spec.externalTrafficPolicy");
    assert_eq!(cause["reason"], "FieldValueInvalid");
    let message = cause["message"].as_str().unwrap();
    assert!(message.starts_with("[ETP016 policy=built-in] "), "{message}");
    assert!(message.contains("Fix: ") && message.ends_with("kubectl portreeve explain ETP016"), "{message}");
    let all = status["message"].as_str().unwrap();
    assert_eq!(all, format!("Service \"web\" is invalid: spec.externalTrafficPolicy: {message}"));
}

#[tokio::test]
async fn every_violation_of_a_service_is_a_cause_of_one_refusal() {
    let deny = |id: &str| json!({"id": id, "action": "Deny"});
    let webhook = Webhook::new(&World::with_defaults(json!({"rules": [deny("ETP003"), deny("ETP013")]})));
    let response = webhook.decide(VALIDATE, &review("service-create-clusterip-externalips-local")).await;
    assert_eq!(denying_rules(&response), ["ETP003", "ETP013"]);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("policy=ctp/baseline") && message.contains("ETP013"), "{message}");
    assert_eq!(response["auditAnnotations"]["rule"], "ETP003=Deny,ETP013=Deny");
    assert_eq!(response["auditAnnotations"]["policy"], "ctp/baseline");
    assert_eq!(response["auditAnnotations"]["decision"], "denied");
}

#[tokio::test]
async fn a_mend_is_a_patch_and_a_warning_of_the_mutating_phase_only() {
    let world = World::with_defaults(json!({"rules": [{"id": "ETP016", "action": "Fix"}]}));
    let (webhook, mut review) = (Webhook::new(&world), review("service-create-clusterip-local"));
    let response = webhook.decide(MUTATE, &review).await;
    assert_eq!(response["allowed"], true);
    assert_eq!(warned_rules(&response), ["ETP016"]);
    assert_eq!(response["auditAnnotations"]["decision"], "mended");
    let object = patched(&review, &response);
    assert_eq!(object["spec"].get("externalTrafficPolicy"), None);
    assert_eq!(object["metadata"]["managedFields"], review["request"]["object"]["metadata"]["managedFields"]);

    review["request"]["object"] = object;
    let again = webhook.decide(MUTATE, &review).await;
    assert_eq!(again.get("patch"), None, "reinvocation must find nothing to mend");
    assert_eq!(warned_rules(&webhook.decide(VALIDATE, &review).await), [""; 0]);
}

/// Actions that make as many rules as possible speak, in every mixture that a policy can ask for.
#[rstest]
#[tokio::test]
async fn no_rule_is_heard_in_both_phases(
    #[values("Audit", "Warn", "Fix", "Deny")] action: &str,
    #[values(
        "service-create-clean",
        "service-create-clusterip-local",
        "service-create-clusterip-externalips-local",
        "service-create-nodeport-local",
        "service-create-legacy-only-local",
        "service-update-legacy-unchanged",
        "service-update-local-without-pods",
        "service-update-terminating-externalips"
    )]
    name: &str,
) {
    let ids = ["ETP001", "ETP002", "ETP003", "ETP004", "ETP005", "ETP006", "ETP008", "ETP013", "ETP015", "ETP016"];
    let rules: Vec<_> = ids.iter().map(|id| json!({"id": id, "action": action})).collect();
    let (webhook, mut review) = (Webhook::new(&World::with_defaults(json!({"rules": rules}))), review(name));
    let mutating = webhook.decide(MUTATE, &review).await;
    if mutating["allowed"] == false {
        return;
    }
    review["request"]["object"] = patched(&review, &mutating);
    let validating = webhook.decide(VALIDATE, &review).await;
    let (first, second) = (spoken(&mutating), spoken(&validating));
    assert!(first.iter().all(|rule| !second.contains(rule)), "{first:?} and {second:?}");
    if action == "Audit" {
        assert_eq!((warnings(&mutating).len(), warnings(&validating).len()), (0, 0));
    }
}

#[tokio::test]
async fn an_update_is_not_refused_for_what_was_there_before() {
    let world = World::with_defaults(json!({"rules": [{"id": "ETP001", "action": "Deny"}]}));
    let (webhook, mut update) = (Webhook::new(&world), review("service-update-legacy-unchanged"));
    let response = webhook.decide(VALIDATE, &update).await;
    assert_eq!(response["allowed"], true);
    assert_eq!(warned_rules(&response), ["ETP001"]);

    update["request"]["oldObject"]["metadata"]["annotations"] = json!({});
    assert_eq!(denying_rules(&webhook.decide(VALIDATE, &update).await), ["ETP001"]);
}

#[tokio::test]
async fn a_terminating_service_is_reviewed_like_any_other() {
    let world = World::with_defaults(json!({"rules": [{"id": "ETP013", "action": "Deny"}]}));
    let webhook = Webhook::new(&world);
    let response = webhook.decide(VALIDATE, &review("service-update-terminating-externalips")).await;
    assert_eq!(denying_rules(&response), ["ETP013"]);
}

#[tokio::test]
async fn endpoints_come_from_the_cache_on_update_and_from_nowhere_on_create() {
    let slice = |ready: bool| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": [],
            "metadata": {"name": "web-x1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{"addresses": ["10.1.0.4"], "nodeName": "node-1", "conditions": {"ready": ready}}],
        })
    };
    for (ready, warns) in [(false, true), (true, false)] {
        let webhook = Webhook::new(&World { slices: vec![slice(ready)], ..World::default() });
        let update = webhook.decide(VALIDATE, &review("service-update-local-without-pods")).await;
        assert_eq!(warned_rules(&update).contains(&"ETP005".to_owned()), warns, "ready: {ready}");
        let create = webhook.decide(VALIDATE, &review("service-create-clean")).await;
        assert_eq!(warned_rules(&create), [""; 0]);
    }
}

#[tokio::test]
async fn a_dry_run_gets_the_same_answer() {
    let webhook = Webhook::new(&World::default());
    let (mut dry, mut real) = (review("service-create-dry-run"), review("service-create-clusterip-local"));
    real["request"]["uid"] = dry["request"]["uid"].clone();
    let answer = webhook.decide(MUTATE, &dry).await;
    assert_eq!(answer, webhook.decide(MUTATE, &real).await);
    dry["request"]["dryRun"] = json!(false);
    assert_eq!(answer, webhook.decide(MUTATE, &dry).await);
}

#[rstest]
#[case::deletion("service-delete", "operation")]
#[case::subresource("service-update-status", "subresource")]
#[case::another_kind("configmap-create", "kind")]
#[case::our_own_namespace("service-create-own-namespace", "namespace")]
#[tokio::test]
async fn what_should_not_have_been_sent_passes_untouched_and_is_counted(#[case] name: &str, #[case] reason: &str) {
    let webhook = Webhook::new(&World::default());
    for path in [MUTATE, VALIDATE] {
        let response = webhook.decide(path, &review(name)).await;
        assert_eq!(response["allowed"], true);
        assert_eq!(response.get("patch"), None);
        assert_eq!(response["auditAnnotations"], json!({"decision": "untouched", "unexpected": reason}));
        let line = format!("portreeve_admission_unexpected_total{{webhook=\"{path}\",reason=\"{reason}\"}} 1\n");
        assert!(webhook.metrics().contains(&line), "{}", webhook.metrics());
    }
}

#[tokio::test]
async fn findings_and_decisions_are_counted_by_rule_and_action() {
    let webhook = Webhook::new(&World::default());
    webhook.decide(MUTATE, &review("service-create-clusterip-local")).await;
    webhook.decide(VALIDATE, &review("service-create-nodeport-local")).await;
    let text = webhook.metrics();
    for line in [
        "portreeve_admission_findings_total{rule=\"ETP016\",action=\"Deny\"} 1\n",
        "portreeve_admission_findings_total{rule=\"ETP004\",action=\"Warn\"} 1\n",
        "portreeve_admission_decisions_total{webhook=\"/mutate/services\",decision=\"denied\"} 1\n",
        "portreeve_admission_decision_seconds_count{webhook=\"/validate/services\"} 1\n",
        "controller_runtime_webhook_requests_total{webhook=\"/mutate/services\",code=\"200\"} 1\n",
        "portreeve_webhook_cache_objects{kind=\"nodes\"} 3\n",
        "portreeve_webhook_cache_objects{kind=\"namespaces\"} 1\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}

#[tokio::test]
async fn a_namespace_that_the_cache_does_not_know_is_selected_by_its_name_and_by_no_other_label() {
    let mut review = review("service-create-clusterip-local");
    review["request"]["namespace"] = json!("new");
    for (selector, denied) in [
        (json!({"matchLabels": {"kubernetes.io/metadata.name": "new"}}), true),
        (json!({"matchLabels": {"kubernetes.io/metadata.name": "shop"}}), false),
        (json!({"matchLabels": {"team": "blue"}}), false),
    ] {
        let mut world = World::with_defaults(json!({"rules": [{"id": "ETP016", "action": "Deny"}]}));
        let mut silent = world.cluster_policies[0].clone();
        silent["metadata"]["name"] = json!("silent");
        silent["spec"]["defaults"]["rules"][0]["action"] = json!("Off");
        world.cluster_policies[0]["spec"]["match"] = json!({"namespaceSelector": selector});
        world.cluster_policies[0]["spec"]["priority"] = json!(1);
        world.cluster_policies.push(silent);
        let webhook = Webhook::new(&world);
        let rules = denying_rules(&webhook.decide(MUTATE, &review).await);
        assert_eq!(rules, if denied { &["ETP016"][..] } else { &[] }, "{selector}");
        assert!(webhook.metrics().contains("portreeve_admission_unknown_namespaces_total 1\n"));
    }
}

#[tokio::test]
async fn a_policy_that_cannot_be_read_denies_where_it_says_deny() {
    let mut world = World::with_defaults(json!({"rules": [{"id": "ETP013", "action": "Deny"}]}));
    let broken = json!({"matchExpressions": [{"key": "app", "operator": "Near", "values": ["web"]}]});
    world.cluster_policies[0]["spec"]["match"] = json!({"serviceSelector": broken});
    let webhook = Webhook::new(&world);
    let response = webhook.decide(VALIDATE, &review("service-create-clusterip-externalips-local")).await;
    assert_eq!(denying_rules(&response), ["ETP013"]);
    assert!(response["auditAnnotations"]["error"].as_str().unwrap().contains("ctp/baseline"));
    assert!(webhook.metrics().contains("portreeve_admission_rule_errors_total 1\n"));
    assert!(webhook.metrics().contains("portreeve_webhook_cache_objects{kind=\"policy_problems\"} 1\n"));
}

fn denying_rules(response: &Value) -> Vec<String> {
    let causes = response["status"]["details"]["causes"].as_array().cloned().unwrap_or_default();
    assert_eq!(response["allowed"] == true, causes.is_empty());
    causes.iter().map(|cause| cause["message"].as_str().unwrap()[1..7].to_owned()).collect()
}

/// Rules that a user hears of: by warning or by cause.
fn spoken(response: &Value) -> Vec<String> {
    [warned_rules(response), denying_rules(response)].concat()
}
