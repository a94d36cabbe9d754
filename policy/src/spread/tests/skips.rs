//! Pods that are left alone.

use super::{Ask, LOCAL, named, pod};
use crate::facts::NamespaceFacts;
use crate::spread::{Injection, SkipReason, decide_injection};
use crate::testing::{map, strict};

#[track_caller]
fn assert_skips(spec: &str, reason: SkipReason) {
    assert_eq!(Ask::about(pod(spec)).skipped(), Some(reason), "{spec}");
}

#[track_caller]
fn assert_injects(spec: &str) {
    assert_eq!(Ask::about(pod(spec)).skipped(), None, "{spec}");
}

fn owned_by(kind: &str, controller: bool) -> Option<SkipReason> {
    let mut ask = Ask::about(pod("{}"));
    let owner = &mut ask.pod.metadata.owner_references.as_mut().unwrap()[0];
    owner.kind = kind.to_owned();
    owner.controller = Some(controller);
    ask.skipped()
}

#[test]
fn a_pod_that_no_service_selects_is_left_alone() {
    let mut ask = Ask::about(pod("{}"));
    ask.services = vec![named("api", &LOCAL.replace("web", "api"))];
    assert_eq!(ask.skipped(), Some(SkipReason::NoService));
    ask.services.clear();
    assert_eq!(ask.skipped(), Some(SkipReason::NoService));
}

#[test]
fn a_pod_without_labels_is_selected_by_nothing() {
    let mut ask = Ask::about(pod("{}"));
    ask.pod.metadata.labels = None;
    ask.services.push(named("all", "{type: LoadBalancer, externalTrafficPolicy: Local, selector: {}}"));
    assert_eq!(ask.skipped(), Some(SkipReason::NoService));
}

#[test]
fn headless_services_and_external_names_do_not_count() {
    for spec in [
        "{clusterIP: None, internalTrafficPolicy: Local, selector: {app: web}}",
        "{type: ExternalName, internalTrafficPolicy: Local, selector: {app: web}}",
    ] {
        let mut ask = Ask::about(pod("{}"));
        ask.services = vec![named("web", spec)];
        assert_eq!(ask.skipped(), Some(SkipReason::NoService), "{spec}");
    }
}

#[test]
fn a_pod_of_services_that_are_cluster_is_left_alone() {
    let mut ask = Ask::about(pod("{}"));
    ask.services = vec![named("web", &LOCAL.replace("Local", "Cluster"))];
    assert_eq!(ask.skipped(), Some(SkipReason::NoLocalService));
}

#[test]
fn only_a_policy_that_says_inject_is_followed() {
    let mut ask = Ask::about(pod("{}"));
    for body in ["spread: {mode: Off}", "imbalance: {maxRatioPermille: 1500}"] {
        ask.set = strict(body);
        assert_eq!(ask.skipped(), Some(SkipReason::NotAsked), "{body}");
    }
    ask.set = crate::policies::PolicySet::empty();
    assert_eq!(ask.skipped(), Some(SkipReason::NotAsked));
}

#[test]
fn a_pod_or_a_namespace_may_opt_out() {
    let mut ask = Ask::about(pod("{}"));
    let ignored = NamespaceFacts { name: "shop".to_owned(), labels: map(&[("portreeve.io/ignore", "true")]) };
    let services: Vec<_> = ask.services.iter().collect();
    let answer = decide_injection(&ask.pod, &services, &ignored, &ask.set, ask.cluster, &ask.facts);
    assert_eq!(answer, Injection::Skip(SkipReason::OptedOut));
    let labels = ask.pod.metadata.labels.as_mut().unwrap();
    labels.insert("portreeve.io/ignore".to_owned(), "true".to_owned());
    assert_eq!(ask.skipped(), Some(SkipReason::OptedOut));
    let labels = ask.pod.metadata.labels.as_mut().unwrap();
    labels.insert("portreeve.io/ignore".to_owned(), "false".to_owned());
    assert_eq!(ask.skipped(), None);
}

#[test]
fn the_kubelets_mirror_of_a_static_pod_is_left_alone() {
    let mut ask = Ask::about(pod("{nodeName: n1}"));
    ask.pod.metadata.annotations = Some(map(&[("kubernetes.io/config.mirror", "a1b2")]));
    assert_eq!(ask.skipped(), Some(SkipReason::MirrorPod));
}

#[test]
fn pods_of_daemonsets_and_jobs_are_left_alone() {
    assert_eq!(owned_by("DaemonSet", true), Some(SkipReason::DaemonSet));
    assert_eq!(owned_by("Job", true), Some(SkipReason::Job));
    for kind in ["ReplicaSet", "StatefulSet", "Rollout"] {
        assert_eq!(owned_by(kind, true), None, "{kind}");
    }
    assert_eq!(owned_by("Job", false), None, "an owner that does not control it");
}

#[test]
fn a_pod_that_the_scheduler_cannot_place_freely_is_left_alone() {
    assert_skips("{hostNetwork: true}", SkipReason::HostNetwork);
    assert_skips("{nodeName: n1}", SkipReason::NodeName);
    assert_skips("{nodeSelector: {kubernetes.io/hostname: n1}}", SkipReason::HostnamePin);
    assert_injects("{hostNetwork: false, nodeName: '', nodeSelector: {kubernetes.io/os: linux}}");
}

#[test]
fn required_node_affinity_pins_only_where_one_host_is_left() {
    let required = |terms: &str| {
        let affinity = "requiredDuringSchedulingIgnoredDuringExecution";
        format!("{{affinity: {{nodeAffinity: {{{affinity}: {{nodeSelectorTerms: [{terms}]}}}}}}}}")
    };
    let host = |values: &str| {
        format!("{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: [{values}]}}]}}")
    };
    let field = "{matchFields: [{key: metadata.name, operator: In, values: [n1]}]}";
    let zone = "{matchExpressions: [{key: topology.kubernetes.io/zone, operator: In, values: [a]}]}";
    for terms in [host("n1"), field.to_owned(), format!("{}, {field}", host("n1"))] {
        assert_skips(&required(&terms), SkipReason::HostnamePin);
    }
    let not_in = host("n1").replace("In,", "NotIn,");
    for terms in [host("n1, n2"), format!("{}, {}", host("n1"), host("n2")), format!("{field}, {zone}"), not_in] {
        assert_injects(&required(&terms));
    }
}

#[test]
fn a_pod_that_wants_company_on_its_host_is_left_alone() {
    let term = |key| format!("{{topologyKey: {key}, labelSelector: {{matchLabels: {{app: cache}}}}}}");
    let required = |key| format!("{{requiredDuringSchedulingIgnoredDuringExecution: [{}]}}", term(key));
    let preferred = |key| {
        format!("{{preferredDuringSchedulingIgnoredDuringExecution: [{{weight: 1, podAffinityTerm: {}}}]}}", term(key))
    };
    for affinity in [required("kubernetes.io/hostname"), preferred("kubernetes.io/hostname")] {
        assert_skips(&format!("{{affinity: {{podAffinity: {affinity}}}}}"), SkipReason::WantsCompany);
    }
    assert_injects(&format!("{{affinity: {{podAffinity: {}}}}}", required("topology.kubernetes.io/zone")));
}
