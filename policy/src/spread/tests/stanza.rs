//! What is added, and that nothing is replaced.

use super::{Ask, LOCAL, named, pod};
use crate::facts::ClusterFacts;
use crate::spread::{OwnerFacts, SkipReason};
use crate::testing::strict;
use serde_json::{Value, json};

fn large(spec: &str, zones: u32) -> Ask {
    Ask { cluster: ClusterFacts { nodes: 301, zones }, ..Ask::about(pod(spec)) }
}

fn backed_by(service: &str, stems: &[&str]) -> OwnerFacts {
    let stems = stems.iter().map(|stem| (*stem).to_owned()).collect();
    OwnerFacts { stems: [(service.to_owned(), stems)].into() }
}

fn preferred(pod: &Value) -> &Vec<Value> {
    pod["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"].as_array().unwrap()
}

#[test]
fn anti_affinity_is_preferred_on_the_hostname_with_the_services_selector() {
    let ask = Ask::about(pod("{}"));
    insta::assert_yaml_snapshot!(ask.patched(), @r"
    apiVersion: v1
    kind: Pod
    metadata:
      annotations:
        portreeve.io/spread-injected: tp/shop/strict PodAntiAffinity
      generateName: web-6d4cf56db6-
      labels:
        app: web
        pod-template-hash: 6d4cf56db6
        tier: front
      ownerReferences:
        - apiVersion: apps/v1
          controller: true
          kind: ReplicaSet
          name: web-6d4cf56db6
          uid: u
    spec:
      affinity:
        podAntiAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
            - podAffinityTerm:
                labelSelector:
                  matchLabels:
                    app: web
                matchLabelKeys:
                  - pod-template-hash
                topologyKey: kubernetes.io/hostname
              weight: 100
      containers: []
    ");
}

#[test]
fn topology_spread_comes_as_a_pair_where_there_are_zones() {
    insta::assert_yaml_snapshot!(large("{}", 3).patched()["spec"], @r"
    containers: []
    topologySpreadConstraints:
      - labelSelector:
          matchLabels:
            app: web
        matchLabelKeys:
          - pod-template-hash
        maxSkew: 1
        nodeTaintsPolicy: Honor
        topologyKey: kubernetes.io/hostname
        whenUnsatisfiable: ScheduleAnyway
      - labelSelector:
          matchLabels:
            app: web
        matchLabelKeys:
          - pod-template-hash
        maxSkew: 1
        nodeTaintsPolicy: Honor
        topologyKey: topology.kubernetes.io/zone
        whenUnsatisfiable: ScheduleAnyway
    ");
}

#[test]
fn without_zones_a_zone_constraint_would_switch_off_the_other_one() {
    for zones in [0, 1] {
        let patched = large("{}", zones).patched();
        let constraints = patched["spec"]["topologySpreadConstraints"].as_array().unwrap();
        assert_eq!(constraints.len(), 1, "{zones} zones");
        assert_eq!(constraints[0]["topologyKey"], "kubernetes.io/hostname");
    }
}

#[test]
fn the_weight_is_the_policys() {
    let mut ask = Ask::about(pod("{}"));
    ask.set = strict("spread: {mode: Inject, weight: 40}");
    assert_eq!(preferred(&ask.patched())[0]["weight"], 40);
}

#[test]
fn revisions_are_told_apart_unless_pods_of_another_workload_are_behind_the_service() {
    let keys = |ask: &Ask| preferred(&ask.patched())[0]["podAffinityTerm"]["matchLabelKeys"].clone();
    let told_apart = json!(["pod-template-hash"]);
    let mut ask = Ask::about(pod("{}"));
    assert_eq!(keys(&ask), told_apart, "the first Pods");
    ask.facts = backed_by("web", &["web-6d4cf56db6", "web-5b8c7d9f"]);
    assert_eq!(keys(&ask), told_apart, "two revisions of its own");
    ask.facts = backed_by("web", &["web-6d4cf56db6", "web-canary-5b8c7d9f"]);
    assert_eq!(keys(&ask), Value::Null, "two Deployments");
    ask.facts = backed_by("api", &["api-5b8c7d9f"]);
    assert_eq!(keys(&ask), told_apart, "another Service's Pods");
    let selector = "{app: web, pod-template-hash: 6d4cf56db6}";
    let only_this = named("web", &LOCAL.replace("{app: web}", selector));
    assert_eq!(keys(&Ask { services: vec![only_this], ..ask }), Value::Null, "the selector names the key");
    let mut ask = Ask::about(pod("{}"));
    ask.pod.metadata.labels.as_mut().unwrap().remove("pod-template-hash");
    assert_eq!(keys(&ask), Value::Null, "no Deployment made the Pod");
}

#[test]
fn constraints_tell_revisions_apart_as_terms_do() {
    let ask = large("{}", 3);
    for constraint in ask.patched()["spec"]["topologySpreadConstraints"].as_array().unwrap() {
        assert_eq!(constraint["matchLabelKeys"], json!(["pod-template-hash"]));
    }
}

#[test]
fn what_the_user_wrote_stays_at_every_depth() {
    let other = "{topologyKey: topology.kubernetes.io/zone, labelSelector: {matchLabels: {app: web}}}";
    let term = format!("{{weight: 7, podAffinityTerm: {other}}}");
    for affinity in [
        "{}".to_owned(),
        "{nodeAffinity: {}}".to_owned(),
        "{podAntiAffinity: {}}".to_owned(),
        format!("{{podAntiAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: [{other}]}}}}"),
        "{podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: []}}".to_owned(),
        format!("{{podAntiAffinity: {{preferredDuringSchedulingIgnoredDuringExecution: [{term}]}}}}"),
    ] {
        let ask = Ask::about(pod(&format!("{{affinity: {affinity}}}")));
        let mut patched = ask.patched();
        let ours = preferred(&patched).last().unwrap().clone();
        assert_eq!(ours["podAffinityTerm"]["labelSelector"]["matchLabels"], json!({"app": "web"}), "{affinity}");
        let terms = patched
            .pointer_mut("/spec/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution")
            .unwrap()
            .as_array_mut()
            .unwrap();
        terms.pop();
        let before = serde_json::to_value(&ask.pod).unwrap();
        for (member, value) in before["spec"]["affinity"]["podAntiAffinity"].as_object().into_iter().flatten() {
            assert_eq!(&patched["spec"]["affinity"]["podAntiAffinity"][member], value, "{affinity}");
        }
        let node = |pod: &Value| pod["spec"]["affinity"]["nodeAffinity"].clone();
        assert_eq!(node(&patched), node(&before), "{affinity}");
    }
}

#[test]
fn constraints_of_the_user_stay_and_no_pair_is_doubled() {
    let theirs = "{maxSkew: 5, topologyKey: topology.kubernetes.io/zone, whenUnsatisfiable: ScheduleAnyway}";
    let patched = large(&format!("{{topologySpreadConstraints: [{theirs}]}}"), 3).patched();
    let constraints = patched["spec"]["topologySpreadConstraints"].as_array().unwrap();
    let keys: Vec<&Value> = constraints.iter().map(|constraint| &constraint["topologyKey"]).collect();
    assert_eq!(keys, ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]);
    assert_eq!(constraints[0]["maxSkew"], 5);
}

#[test]
fn a_hostname_constraint_for_other_pods_takes_the_only_place() {
    let theirs = "{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: ScheduleAnyway, \
                  labelSelector: {matchLabels: {app: api}}}";
    let ask = large(&format!("{{topologySpreadConstraints: [{theirs}]}}"), 3);
    assert_eq!(ask.skipped(), Some(SkipReason::ConstraintTaken));
    let hard = theirs.replace("ScheduleAnyway", "DoNotSchedule");
    assert_eq!(large(&format!("{{topologySpreadConstraints: [{hard}]}}"), 3).skipped(), None);
}

#[test]
fn constraints_carry_one_services_selector_since_the_api_allows_one_of_each() {
    let mut ask = large("{}", 3);
    ask.services.push(named("api", &LOCAL.replace("{app: web}", "{tier: front}")));
    let patched = ask.patched();
    let constraints = patched["spec"]["topologySpreadConstraints"].as_array().unwrap();
    assert_eq!(constraints.len(), 2);
    assert!(constraints.iter().all(|one| one["labelSelector"]["matchLabels"] == json!({"tier": "front"})));
}

#[test]
fn the_annotation_joins_those_of_the_user() {
    let mut ask = Ask::about(pod("{}"));
    ask.pod.metadata.annotations = Some(crate::testing::map(&[("example.org/note", "mine")]));
    let annotations = &ask.patched()["metadata"]["annotations"];
    let expected =
        json!({"example.org/note": "mine", "portreeve.io/spread-injected": "tp/shop/strict PodAntiAffinity"});
    assert_eq!(annotations, &expected);
}
