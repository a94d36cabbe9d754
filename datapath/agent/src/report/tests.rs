use super::*;
use crate::uplinks::Link;
use crate::watch::{Kind, Object, ObjectName, Seen};
use k8s_openapi::api::core::v1::{Node, Service};
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

fn synced() -> State {
    let mut state = State::default();
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
    }
}

fn said(state: &State, facts: &Facts) -> Vec<String> {
    let report = report(state, facts).expect("the node is known");
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
    let report = report(&synced(), &facts()).unwrap();
    insta::assert_yaml_snapshot!(report.status(&there(&report), EARLY));
}

#[test]
fn without_its_node_the_agent_says_nothing() {
    assert_eq!(report(&State::default(), &facts()), None);
}

#[test]
fn each_state_has_its_conditions() {
    let mut syncing = State::default();
    syncing.take(node());
    let unusable = Facts {
        probes: vec![Probe {
            kind: BackendKind::Ebpf,
            features: vec![Feature::required("tcx", Err("this process lacks CAP_NET_ADMIN".into()))],
        }],
        ..facts()
    };
    let isolated = Facts { links: Ok(Dump::default()), ..facts() };
    let all =
        [said(&syncing, &facts()), said(&synced(), &unusable), said(&synced(), &isolated), said(&synced(), &facts())];
    insta::assert_yaml_snapshot!(all);
}

#[test]
fn what_is_wrong_is_counted_and_named() {
    let mut state = synced();
    state.take(bad_service());
    state.take(Seen::Failed(Kind::ServiceTraffic, kube::runtime::watcher::Error::NoResourceVersion));
    let facts = Facts { links: Err("no rtnetlink socket".into()), ..facts() };
    let error = report(&state, &facts).unwrap().status.last_error.unwrap();
    insta::assert_snapshot!(error);
}

#[test]
fn the_same_report_gives_the_same_status_at_any_time() {
    let report = report(&synced(), &facts()).unwrap();
    let mut object = there(&report);
    object.status = Some(report.status(&object, EARLY));
    assert_eq!(Some(report.status(&object, LATE)), object.status);
}

#[test]
fn a_condition_that_turns_gets_a_new_transition_time_and_the_others_keep_theirs() {
    let mut state = State::default();
    state.take(node());
    let first = report(&state, &facts()).unwrap();
    let mut object = there(&first);
    object.status = Some(first.status(&object, EARLY));
    let second = report(&synced(), &facts()).unwrap().status(&object, LATE);
    let at = |type_: &str| second.conditions.iter().find(|it| it.type_ == type_).unwrap().last_transition_time.0;
    assert_eq!((at(condition::READY), at(condition::PROGRAMMED)), (LATE, EARLY));
}

#[test]
fn an_object_of_an_earlier_node_of_the_same_name_is_not_owned() {
    let report = report(&synced(), &facts()).unwrap();
    let mut object = report.object();
    assert!(report.owns(&object));
    object.metadata.owner_references.as_mut().unwrap()[0].uid = "u0".into();
    assert!(!report.owns(&object));
}

#[test]
fn counts_alone_are_numbers_and_anything_else_is_more() {
    let (calm, mut busy) = (report(&synced(), &facts()).unwrap(), report(&synced(), &facts()).unwrap());
    assert!(!calm.differs_in_numbers_only(&busy), "nothing differs");
    busy.status.services.as_mut().unwrap().local_backends = 7;
    assert!(busy.differs_in_numbers_only(&calm));
    busy.status.uplinks.clear();
    assert!(!busy.differs_in_numbers_only(&calm));
}
