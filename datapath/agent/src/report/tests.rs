use super::*;
use crate::uplinks::Link;
use crate::watch::{Kind, Object, ObjectName, Seen};
use k8s_openapi::api::core::v1::{Node, Service};
use kube::core::DeserializeGuard;
use portreeve_crds::ServiceTraffic;
use portreeve_table::{BackendKind, Feature};
use serde_json::json;

fn node() -> Seen {
    let object: Node = serde_json::from_value(json!({
        "metadata": {"name": "n1", "uid": "u1"},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
    }))
    .unwrap();
    Seen::Put(ObjectName::of(&object), Object::Node(Box::new(object)))
}

fn bad_service() -> Seen {
    let object: Service = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop"}, "spec": {"type": "Mystery"},
    }))
    .unwrap();
    Seen::Put(ObjectName::of(&object), Object::Service(Box::new(object)))
}

fn local_service() -> Seen {
    let object: Service = serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"type": "NodePort", "externalTrafficPolicy": "Local", "clusterIP": "10.96.0.1",
                 "ports": [{"port": 80, "nodePort": 30080}]},
    }))
    .unwrap();
    Seen::Put(ObjectName::of(&object), Object::Service(Box::new(object)))
}

fn traffic(mode: &str) -> Seen {
    let object: DeserializeGuard<ServiceTraffic> = serde_json::from_value(json!({
        "apiVersion": "portreeve.io/v1alpha1", "kind": "ServiceTraffic",
        "metadata": {"name": "web", "namespace": "shop"}, "spec": {"mode": mode},
    }))
    .unwrap();
    Seen::Put(ObjectName::of(&object), Object::ServiceTraffic(Box::new(object)))
}

fn synced() -> State {
    let mut state = State::of_node("n1");
    state.take(node());
    for kind in Kind::ALL {
        state.take(Seen::Synced(kind));
    }
    state
}

fn facts() -> Facts {
    let eth0 = Link {
        index: 2,
        name: "eth0".into(),
        mtu: 1500,
        loopback: false,
        addresses: vec![("10.0.0.1".parse().unwrap(), 24)],
    };
    Facts {
        kernel: "6.1.0".into(),
        probes: vec![Probe {
            kind: BackendKind::Ebpf,
            features: vec![Feature::required("tcx", Ok("programs can be linked to interfaces".into()))],
        }],
        links: Ok(Dump { links: vec![eth0], default_routes: [2].into() }),
        health_checks: None,
        lingering: None,
    }
}

const IN_STEP: Standing = Standing::InStep(BackendKind::Nftables);

fn said(state: &State, facts: &Facts, standing: &Standing) -> Vec<String> {
    let report = report(state, facts, standing).expect("the node is known");
    report
        .conditions
        .iter()
        .map(|condition| format!("{}={:?} {}", condition.type_, condition.status, condition.reason))
        .collect()
}

fn there(report: &Report) -> NodeDatapath {
    let mut object = report.object();
    object.metadata.generation = Some(1);
    object
}

const EARLY: Timestamp = Timestamp::constant(1_000, 0);
const LATE: Timestamp = Timestamp::constant(2_000, 0);

#[test]
fn a_node_that_is_in_step_says_all_this() {
    let report = report(&synced(), &facts(), &IN_STEP).unwrap();
    insta::assert_yaml_snapshot!(report.status(&there(&report), EARLY));
}

#[test]
fn without_its_node_the_agent_says_nothing() {
    assert_eq!(report(&State::of_node("n1"), &facts(), &IN_STEP), None);
}

#[test]
fn each_state_has_its_conditions() {
    let mut syncing = State::of_node("n1");
    syncing.take(node());
    let unusable = Facts {
        probes: vec![Probe {
            kind: BackendKind::Ebpf,
            features: vec![Feature::required("tcx", Err("this process lacks CAP_NET_ADMIN".into()))],
        }],
        ..facts()
    };
    let isolated = Facts { links: Ok(Dump::default()), ..facts() };
    let failed = Standing::Failed {
        why: "nftables: no memory".into(),
        failures: 3,
        again: std::time::Instant::now(),
        meanwhile: Meanwhile::Unknown,
    };
    let not_yet = Standing::NotYet;
    let all = [
        said(&syncing, &facts(), &not_yet),
        said(&synced(), &unusable, &not_yet),
        said(&synced(), &isolated, &not_yet),
        said(&synced(), &facts(), &failed),
        said(&synced(), &facts(), &IN_STEP),
    ];
    insta::assert_yaml_snapshot!(all);
}

#[test]
fn who_serves_after_a_failure_is_told() {
    let told = |meanwhile| {
        let failed = Standing::Failed {
            why: "iptables: kube-proxy would decide before it".into(),
            failures: 1,
            again: std::time::Instant::now(),
            meanwhile,
        };
        let Desired { status, reason, message, .. } = in_force(&synced(), &failed);
        (status, reason, message)
    };
    let why = || "iptables: kube-proxy would decide before it".to_owned();
    assert_eq!(told(Meanwhile::Unknown), (Some(false), "ProgrammingFailed", why()));
    assert_eq!(told(Meanwhile::Nothing), (Some(false), "LeftToKubeProxy", why()));
    let former = format!("nftables does what the table says until its successor can: {}", why());
    assert_eq!(told(Meanwhile::Former(BackendKind::Nftables)), (Some(true), "InForceByFormer", former));
}

#[test]
fn wishes_beyond_the_engine_are_told() {
    let mut state = synced();
    for seen in [local_service(), traffic("Balance")] {
        state.take(seen);
    }
    let message = |standing| {
        let report = report(&state, &facts(), &standing).unwrap();
        report.conditions.into_iter().find(|it| it.type_ == condition::PROGRAMMED).unwrap().message
    };
    insta::assert_snapshot!(message(Standing::InStep(BackendKind::Nftables)), @"flows of 1 Service should be handed to other nodes, which nftables cannot do: mode Balance works as Local there, and onNoLocal Forward as Passthrough; first shop/web");
    insta::assert_snapshot!(message(Standing::InStep(BackendKind::Ebpf)), @"eBPF does what the table says for every claimed Service");
}

#[test]
fn what_is_wrong_is_counted_and_named() {
    let mut state = synced();
    state.take(bad_service());
    state.take(Seen::Failed(Kind::ServiceTraffic, kube::runtime::watcher::Error::NoResourceVersion));
    let why = Some("nftables: the kernel refuses it".into());
    let facts = Facts { links: Err("no rtnetlink socket".into()), health_checks: why, ..facts() };
    let error = report(&state, &facts, &IN_STEP).unwrap().status.last_error.unwrap();
    insta::assert_snapshot!(error);
}

#[test]
fn the_same_report_gives_the_same_status_at_any_time() {
    let report = report(&synced(), &facts(), &IN_STEP).unwrap();
    let mut object = there(&report);
    object.status = Some(report.status(&object, EARLY));
    assert_eq!(Some(report.status(&object, LATE)), object.status);
}

#[test]
fn a_condition_that_turns_gets_a_new_transition_time_and_the_others_keep_theirs() {
    let mut state = State::of_node("n1");
    state.take(node());
    let first = report(&state, &facts(), &IN_STEP).unwrap();
    let mut object = there(&first);
    object.status = Some(first.status(&object, EARLY));
    let second = report(&synced(), &facts(), &IN_STEP).unwrap().status(&object, LATE);
    let at = |type_: &str| second.conditions.iter().find(|it| it.type_ == type_).unwrap().last_transition_time.0;
    assert_eq!((at(condition::READY), at(condition::PROGRAMMED)), (LATE, EARLY));
}

#[test]
fn an_object_of_an_earlier_node_of_the_same_name_is_not_owned() {
    let report = report(&synced(), &facts(), &IN_STEP).unwrap();
    let mut object = report.object();
    assert!(report.owns(&object));
    object.metadata.owner_references.as_mut().unwrap()[0].uid = "u0".into();
    assert!(!report.owns(&object));
}

#[test]
fn counts_alone_are_numbers_and_anything_else_is_more() {
    let (calm, mut busy) =
        (report(&synced(), &facts(), &IN_STEP).unwrap(), report(&synced(), &facts(), &IN_STEP).unwrap());
    assert!(!calm.differs_in_numbers_only(&busy), "nothing differs");
    busy.status.services.as_mut().unwrap().local_backends = 7;
    assert!(busy.differs_in_numbers_only(&calm));
    busy.status.uplinks.clear();
    assert!(!busy.differs_in_numbers_only(&calm));
}
