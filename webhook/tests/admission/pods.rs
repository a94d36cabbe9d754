//! Reviews of Pods.

use crate::support::{Webhook, World, patched, review, warnings};
use portreeve_crds::names;
use rstest::rstest;
use serde_json::json;

const PATH: &str = "/mutate/pods";

#[tokio::test]
async fn a_pod_behind_a_local_service_is_spread_and_says_why() {
    let (webhook, review) = (Webhook::new(&World::spreading()), review("pod-create-deployment"));
    let response = webhook.decide(PATH, &review).await;
    assert_eq!(response["allowed"], true);
    let pod = patched(&review, &response);
    let term = &pod["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0];
    assert_eq!(term["weight"], 100);
    assert_eq!(term["podAffinityTerm"]["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(term["podAffinityTerm"]["labelSelector"]["matchLabels"], json!({"app": "web"}));
    assert!(pod["metadata"]["annotations"][names::ANNOTATION_INJECTED].as_str().unwrap().contains("ctp/baseline"));
    assert_eq!(pod["spec"]["containers"], review["request"]["object"]["spec"]["containers"]);
    let audit = &response["auditAnnotations"];
    let expected = json!({"decision": "mended", "policy": "ctp/baseline", "services": "web", "spread": "injected"});
    assert_eq!(audit, &expected);
    assert!(webhook.metrics().contains("portreeve_spread_injections_total{result=\"injected\"} 1\n"));
}

#[rstest]
#[case::no_endpoints(&[], true)]
#[case::its_older_revision(&["web-5b8c7d9f-x7k2p", "web-7d9f8b5c4d-k2p4z"], true)]
#[case::another_deployment(&["web-5b8c7d9f-x7k2p", "web-canary-5b8c7d9f-x7k2p"], false)]
#[case::a_stateful_set(&["web-0"], false)]
#[tokio::test]
async fn a_deployments_pods_flee_no_other_revision_unless_other_workloads_serve_too(
    #[case] serving: &[&str],
    #[case] told_apart: bool,
) {
    let mut world = World::spreading();
    let endpoint =
        |pod: &&str| json!({"addresses": ["10.1.0.1"], "targetRef": {"kind": "Pod", "namespace": "shop", "name": pod}});
    // Two slices: the Pods of both count.
    for (slice, pods) in serving.chunks(1).enumerate() {
        world.slices.push(json!({
            "metadata": {"name": format!("web-{slice}"), "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>(),
        }));
    }
    let review = review("pod-create-deployment");
    let pod = patched(&review, &Webhook::new(&world).decide(PATH, &review).await);
    let term = &pod["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0];
    let keys = if told_apart { json!(["pod-template-hash"]) } else { json!(null) };
    assert_eq!(term["podAffinityTerm"]["matchLabelKeys"], keys);
}

#[tokio::test]
async fn a_pod_that_comes_back_spread_is_left_alone() {
    let (webhook, mut review) = (Webhook::new(&World::spreading()), review("pod-create-deployment"));
    review["request"]["object"] = patched(&review, &webhook.decide(PATH, &review).await);
    let again = webhook.decide(PATH, &review).await;
    assert_eq!(again.get("patch"), None);
    assert_eq!(again["auditAnnotations"]["spread"], "already_spreads");
}

#[rstest]
#[case::no_policy(World { services: World::spreading().services, ..World::default() }, "pod-create-deployment", "not_asked")]
#[case::no_service(World::with_defaults(json!({"spread": {"mode": "Inject"}})), "pod-create-deployment", "no_service")]
#[case::daemon_set(World::spreading(), "pod-create-daemonset", "daemon_set")]
#[case::own_constraint(World::spreading(), "pod-create-spread-already", "already_spreads")]
#[tokio::test]
async fn a_pod_that_is_not_to_be_spread_passes_unchanged(
    #[case] world: World,
    #[case] name: &str,
    #[case] reason: &str,
) {
    let webhook = Webhook::new(&world);
    let response = webhook.decide(PATH, &review(name)).await;
    assert_eq!(response["allowed"], true);
    assert_eq!(response.get("patch"), None);
    assert_eq!(warnings(&response), [""; 0]);
    assert_eq!(response["auditAnnotations"]["spread"], reason);
    let line = format!("portreeve_spread_injections_total{{result=\"{reason}\"}} 1\n");
    assert!(webhook.metrics().contains(&line));
}

#[tokio::test]
async fn services_of_other_namespaces_and_without_a_selector_spread_nothing() {
    let mut world = World::spreading();
    world.services[0]["metadata"]["namespace"] = json!("other");
    let mut bare = world.services[0].clone();
    bare["metadata"]["namespace"] = json!("shop");
    bare["spec"]["selector"] = json!({});
    world.services.push(bare);
    let response = Webhook::new(&world).decide(PATH, &review("pod-create-deployment")).await;
    assert_eq!(response["auditAnnotations"]["spread"], "no_service");
}

#[tokio::test]
async fn an_update_of_a_pod_passes_untouched() {
    let response = Webhook::new(&World::spreading()).decide(PATH, &review("pod-update")).await;
    assert_eq!(response["auditAnnotations"], json!({"decision": "untouched", "unexpected": "operation"}));
}
