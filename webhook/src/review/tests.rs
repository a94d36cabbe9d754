//! Properties that hold for every review, whatever is in it.

use super::objects::{PodInput, ServiceInput};
use super::{Decision, Hook, Reviewer};
use crate::cache::{Cached, Index, Snapshot};
use crate::engine::{Engine as _, PolicyEngine};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::runtime::watcher::Event;
use portreeve_crds::ClusterTrafficPolicy;
use portreeve_policy::spread::OwnerFacts;
use portreeve_policy::{Operation, Phase, Review};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Value, json};

fn config() -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(3), ..ProptestConfig::default() }
}

/// A world in which every rule that can mend mends, and Pods behind `app: web` are spread.
fn world() -> Snapshot {
    let rules: Vec<_> = ["ETP001", "ETP003", "ETP015", "ETP016"].map(|id| json!({"id": id, "action": "Fix"})).into();
    let mut index = Index::new();
    put::<ClusterTrafficPolicy>(
        &mut index,
        json!({
            "apiVersion": "portreeve.io/v1alpha1", "kind": "ClusterTrafficPolicy", "metadata": {"name": "mend"},
            "spec": {"enforcement": {"mode": "Enforce"}, "defaults": {"rules": rules, "spread": {"mode": "Inject"}}},
        }),
    );
    put::<Service>(
        &mut index,
        json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "selector": {"app": "web"}},
        }),
    );
    index.snapshot()
}

fn put<K: Cached + serde::de::DeserializeOwned>(index: &mut Index, object: Value) {
    index.apply(Event::Apply(serde_json::from_value::<K>(object).unwrap()));
}

fn service() -> impl Strategy<Value = Value> {
    let kind = prop_oneof![Just("ClusterIP"), Just("NodePort"), Just("LoadBalancer"), Just("ExternalName")];
    let legacy = prop_oneof![Just("OnlyLocal"), Just("Global"), Just("onlylocal"), Just("")];
    let policy = prop::option::of(prop_oneof![Just("Local"), Just("Cluster")]);
    let headless = any::<bool>();
    let annotations = (prop::option::of(legacy), any::<bool>(), any::<bool>());
    let spec = (any::<bool>(), any::<bool>(), any::<bool>());
    (kind, policy, headless, annotations, spec).prop_map(|(kind, policy, headless, annotations, spec)| {
        let (legacy, ranges, hints) = annotations;
        let (external, close, pinned) = spec;
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "shop", "uid": "1", "annotations": {"team~a/owner": "x"},
                "managedFields": [{"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {"f:ports": {}}}}]},
            "spec": {"type": kind, "selector": {"app": "web"}, "ports": [{"port": 80, "protocol": "TCP"}]},
        });
        let mut set = |pointer: &str, key: &str, value: Value| {
            service.pointer_mut(pointer).unwrap().as_object_mut().unwrap().insert(key.to_owned(), value);
        };
        if let Some(value) = legacy {
            set("/metadata/annotations", "service.beta.kubernetes.io/external-traffic", json!(value));
        }
        if ranges {
            set("/metadata/annotations", "service.beta.kubernetes.io/load-balancer-source-ranges", json!("10.0.0.0/8"));
        }
        if hints {
            set("/metadata/annotations", "service.kubernetes.io/topology-mode", json!("Auto"));
        }
        if let Some(value) = policy {
            set("/spec", "externalTrafficPolicy", json!(value));
        }
        if headless && kind == "ClusterIP" {
            set("/spec", "clusterIP", json!("None"));
        }
        if external {
            set("/spec", "externalIPs", json!(["203.0.113.9"]));
        }
        if close {
            set("/spec", "trafficDistribution", json!("PreferClose"));
        }
        if pinned {
            set("/spec", "loadBalancerIP", json!("203.0.113.20"));
        }
        service
    })
}

/// A Pod with something in each field that placement depends on, and in some that it does not.
fn pod() -> impl Strategy<Value = Value> {
    let owner = prop_oneof![Just("ReplicaSet"), Just("StatefulSet"), Just("DaemonSet"), Just("Job")];
    let terms = prop_oneof![
        Just(json!({})),
        Just(
            json!({"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm":
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}}}]}})
        ),
        Just(json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "web"}}}]}})),
        Just(json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-1"]}]}]}}})),
    ];
    let app = prop_oneof![4 => Just("web"), 1 => Just("db")];
    (owner, terms, app, any::<[bool; 5]>()).prop_map(|(owner, affinity, app, flags)| {
        let [host_network, node_name, selector, constraint, annotated] = flags.map(|flag| flag.then_some(()));
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "generateName": "web-", "labels": {"app": app, "pod-template-hash": "7d9f"},
                "annotations": annotated.map(|()| json!({"kubernetes.io/config.mirror": "x"})),
                "ownerReferences": [{"apiVersion": "apps/v1", "kind": owner, "name": "web", "uid": "1", "controller": true}],
            },
            "spec": {
                "containers": [{"name": "web", "image": "web", "resources": {"requests": {"cpu": "1"}}}],
                "volumes": [{"name": "data", "emptyDir": {}}],
                "affinity": affinity,
                "hostNetwork": host_network.map(|()| true),
                "nodeName": node_name.map(|()| "node-1"),
                "nodeSelector": selector.map(|()| json!({"kubernetes.io/hostname": "node-1"})),
                "topologySpreadConstraints": constraint.map(|()| json!([{"maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway",
                    "topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "other"}}}])),
            },
        })
    })
}

fn review(uid: &str, operation: &str, kind: &str, object: &Value, old: &Value) -> Vec<u8> {
    let request = json!({
        "uid": uid, "kind": {"group": "", "version": "v1", "kind": kind}, "name": "web", "namespace": "shop",
        "operation": operation, "object": object, "oldObject": old,
    });
    let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request});
    review.to_string().into_bytes()
}

fn answer(hook: Hook, body: &[u8], world: &Snapshot) -> (Value, Decision) {
    let reply = Reviewer::new(PolicyEngine, "portreeve-system").answer(hook, body, world).unwrap();
    let answer: Value = serde_json::from_slice(&reply.body).unwrap();
    (answer["response"].clone(), reply.tally.decision)
}

/// `object` as the API server leaves it after the answer.
fn patched(object: &Value, response: &Value) -> Value {
    let mut object = object.clone();
    if let Some(patch) = response.get("patch") {
        let patch = STANDARD.decode(patch.as_str().unwrap()).unwrap();
        json_patch::patch(&mut object, &serde_json::from_slice::<json_patch::Patch>(&patch).unwrap()).unwrap();
    }
    object
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_the_api_server_stores_is_what_the_engine_mended(object in service()) {
        let world = world();
        let (response, decision) = answer(Hook::MutateServices, &review("u", "CREATE", "Service", &object, &Value::Null), &world);
        let full: Service = serde_json::from_value(object.clone()).unwrap();
        let outcome = PolicyEngine.evaluate(world.policies(), &Review {
            operation: Operation::Create,
            phase: Phase::Mutating,
            namespace: &world.namespace("shop"),
            service: &full,
            old: None,
            endpoints: None,
            cluster: world.cluster(),
        });
        let mut mended = object.clone();
        json_patch::patch(&mut mended, &outcome.patch).unwrap();
        let stored = patched(&object, &response);
        prop_assert_eq!(&stored, &mended);
        prop_assert_eq!(decision == Decision::Mended, !outcome.patch.0.is_empty());

        let (again, _) = answer(Hook::MutateServices, &review("u", "CREATE", "Service", &stored, &Value::Null), &world);
        prop_assert_eq!(patched(&stored, &again), stored, "a second call must change nothing");
    }

    #[test]
    fn the_uid_comes_back_whatever_the_review_is_about(
        uid in "[a-zA-Z0-9\"\\\\é-]{1,40}",
        operation in prop_oneof![Just("CREATE"), Just("UPDATE"), Just("DELETE"), Just("CONNECT"), Just("?")],
        kind in prop_oneof![Just("Service"), Just("Pod"), Just("Secret")],
        object in prop_oneof![service(), pod(), Just(Value::Null), Just(json!([7]))],
        hook in prop_oneof![Just(Hook::MutateServices), Just(Hook::ValidateServices), Just(Hook::MutatePods)],
    ) {
        let body = review(&uid, operation, kind, &object, &object);
        let reply = Reviewer::new(PolicyEngine, "portreeve-system").answer(hook, &body, &world());
        let body = match &reply {
            Ok(reply) => reply.body.clone(),
            Err(refusal) => refusal.body(),
        };
        let answer: Value = serde_json::from_slice(&body).unwrap();
        prop_assert_eq!(answer["response"]["uid"].as_str(), Some(uid.as_str()));
        prop_assert_eq!(answer["response"]["allowed"].is_boolean(), true);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let refused = Reviewer::new(PolicyEngine, "portreeve-system").answer(Hook::MutatePods, &bytes, &world());
        prop_assert_eq!(refused.unwrap_err().status(), 400);
    }

    #[test]
    fn a_pod_read_in_part_is_decided_as_the_whole(object in pod()) {
        let world = world();
        let whole: Pod = serde_json::from_value(object.clone()).unwrap();
        let PodInput(part) = serde_json::from_value(object.clone()).unwrap();
        let labels = whole.metadata.labels.clone().unwrap();
        let services = world.services_for("shop", &labels);
        let services: Vec<_> = services.iter().collect();
        let decide = |pod: &Pod| {
            let (namespace, owners) = (world.namespace("shop"), OwnerFacts::default());
            PolicyEngine.decide_injection(pod, &services, &namespace, world.policies(), world.cluster(), &owners)
        };
        prop_assert_eq!(decide(&part), decide(&whole));
    }

    #[test]
    fn a_service_read_in_part_lacks_nothing_but_bookkeeping(object in service()) {
        let mut whole: Service = serde_json::from_value(object.clone()).unwrap();
        whole.metadata.managed_fields = None;
        let ServiceInput(part) = serde_json::from_value(object).unwrap();
        prop_assert_eq!(part, whole);
    }
}

#[test]
fn a_pod_is_never_refused() {
    let pod = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}});
    let (response, decision) = answer(Hook::MutatePods, &review("u", "CREATE", "Pod", &pod, &Value::Null), &world());
    assert_eq!((response["allowed"].as_bool(), decision), (Some(true), Decision::Mended));
}
