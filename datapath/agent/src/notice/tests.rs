use super::*;
use crate::program::Meanwhile;
use crate::watch::{Kind, Object, ObjectName, Seen};
use kube::core::DeserializeGuard;
use portreeve_runtime::metrics::Metrics;
use portreeve_table::BackendKind;
use serde_json::json;

fn put(state: &mut State, namespace: &str, name: &str, object: Object) -> BTreeSet<ServiceKey> {
    let name = ObjectName { namespace: namespace.into(), name: name.into() };
    state.take(Seen::Put(name, object)).refused
}

/// A node `n1` with room for one frontend and `number` Services that want one each.
fn full(notices: &mut Notices, number: u16) -> State {
    let mut state = State::of_node("n1");
    let node = json!({"metadata": {"name": "n1", "uid": "7"}, "status": {"addresses": []}});
    put(&mut state, "", "n1", Object::Node(Box::new(serde_json::from_value(node).unwrap())));
    let config = json!({"apiVersion": "portreeve.io/v1alpha1", "kind": "DatapathConfig", "metadata": {"name": "default"},
                        "spec": {"capacity": {"frontends": 1}}});
    let config = Object::DatapathConfig(Box::new(DeserializeGuard(Ok(serde_json::from_value(config).unwrap()))));
    put(&mut state, "", "default", config);
    for number in 0..number {
        let name = format!("web-{number}");
        let service = json!({
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"type": "NodePort", "externalTrafficPolicy": "Local", "clusterIP": "10.96.0.1",
                     "ports": [{"port": 80, "nodePort": 30_000 + number}]},
        });
        let traffic = json!({"apiVersion": "portreeve.io/v1alpha1", "kind": "ServiceTraffic",
                             "metadata": {"name": name, "namespace": "shop"}, "spec": {"mode": "Local"}});
        let service = Object::Service(Box::new(serde_json::from_value(service).unwrap()));
        notices.refused(&put(&mut state, "shop", &name, service));
        let traffic = DeserializeGuard(Ok(serde_json::from_value(traffic).unwrap()));
        notices.refused(&put(&mut state, "shop", &name, Object::ServiceTraffic(Box::new(traffic))));
    }
    state
}

fn synced(state: &mut State) {
    Kind::ALL.into_iter().for_each(|kind| _ = state.take(Seen::Synced(kind)));
}

fn notices() -> (Notices, mpsc::Receiver<Notice>) {
    Notices::new(AgentMetrics::register(&Metrics::new("1")))
}

fn said(told: &mut mpsc::Receiver<Notice>) -> Vec<Notice> {
    std::iter::from_fn(|| told.try_recv().ok()).collect()
}

fn reasons(told: &mut mpsc::Receiver<Notice>) -> Vec<Reason> {
    said(told).into_iter().map(|notice| notice.reason).collect()
}

const IN_STEP: Standing = Standing::InStep(BackendKind::Nftables);

#[test]
fn services_that_do_not_fit_are_counted_on_the_node_and_said_one_by_one_and_not_before_all_is_listed() {
    let (mut notices, mut told) = notices();
    let (mut state, now) = (full(&mut notices, 3), Instant::now());
    notices.say(&state, &IN_STEP, now);
    assert_eq!(said(&mut told), []);
    synced(&mut state);
    notices.say(&state, &IN_STEP, now);
    let first = said(&mut told);
    let of: Vec<Reason> = first.iter().map(|notice| notice.reason).collect();
    assert_eq!(of, [Reason::ServicesRefused, Reason::ServiceRefused, Reason::ServiceRefused]);
    assert_eq!(
        first[0].note,
        format!(
            "2 Services are left to kube-proxy, first shop/web-1: it needs 1 frontends and older Services leave room for 0. {REMEDY}"
        )
    );
    assert_eq!(first[1].about, About::Service(ServiceKey::new("shop", "web-1")));
    notices.say(&state, &IN_STEP, now + REST * 2);
    assert_eq!(said(&mut told), [], "nothing is new");
}

#[test]
fn refusals_that_come_one_after_another_are_counted_once_a_minute() {
    let (mut notices, mut told) = notices();
    let (mut state, now) = (full(&mut notices, 2), Instant::now());
    synced(&mut state);
    notices.say(&state, &IN_STEP, now);
    assert_eq!(said(&mut told).len(), 2);
    notices.refused(&[ServiceKey::new("shop", "web-1"), ServiceKey::new("shop", "gone")].into());
    notices.say(&state, &IN_STEP, now + REST / 2);
    assert_eq!(said(&mut told), []);
    notices.say(&state, &IN_STEP, now + REST);
    assert_eq!(reasons(&mut told), [Reason::ServicesRefused, Reason::ServiceRefused], "only of what is refused still");
}

#[test]
fn programming_that_fails_for_more_than_a_moment_is_said_once_and_so_is_its_end() {
    let (mut notices, mut told) = notices();
    let (state, now) = (full(&mut notices, 0), Instant::now());
    let failed = |failures| Standing::Failed {
        why: "no memory".to_owned(),
        failures,
        again: now,
        meanwhile: Meanwhile::Unknown,
    };
    for (standing, expected) in [
        (failed(1), vec![]),
        (IN_STEP, vec![]),
        (failed(FAILURES), vec![Reason::DataPathFailed]),
        (failed(FAILURES + 1), vec![]),
        (IN_STEP, vec![Reason::DataPathRestored]),
        (IN_STEP, vec![]),
    ] {
        notices.say(&state, &standing, now);
        assert_eq!(reasons(&mut told), expected, "{standing:?}");
    }
}

#[test]
fn a_repair_is_said_when_it_is_done() {
    let (mut notices, mut told) = notices();
    let (state, now) = (full(&mut notices, 0), Instant::now());
    notices.disturbed();
    notices.say(
        &state,
        &Standing::Failed { why: String::new(), failures: 1, again: now, meanwhile: Meanwhile::Unknown },
        now,
    );
    assert_eq!(said(&mut told), []);
    notices.say(&state, &IN_STEP, now);
    let About::Node(node) = &said(&mut told)[0].about else { panic!() };
    assert_eq!((node.name.as_deref(), node.uid.as_deref()), (Some("n1"), Some("7")));
}

#[test]
fn of_a_thousand_nodes_three_speak_of_a_service_and_not_always_the_same() {
    let nodes: Vec<String> = (0..1000).map(|number| format!("node-{number:04}")).collect();
    let speakers = |service: &str| -> BTreeSet<&str> {
        let key = ServiceKey::new("shop", service);
        let all = || nodes.iter().map(String::as_str);
        all().filter(|node| speaks(&key, node, all())).collect()
    };
    let of: Vec<BTreeSet<&str>> = (0..20).map(|number| speakers(&format!("web-{number}"))).collect();
    assert!(of.iter().all(|speakers| speakers.len() == SPEAKERS), "{of:?}");
    assert!(of.iter().flatten().collect::<BTreeSet<_>>().len() > 40, "{of:?}");
    assert!(speaks(&ServiceKey::new("shop", "web"), "n1", ["n1"].into_iter()), "the only one");
}
