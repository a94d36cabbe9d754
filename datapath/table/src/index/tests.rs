use super::*;
use crate::compile;
use crate::input::{Mode, OnNoLocal, PortInput, ServiceKind};
use crate::key::{PerFamily, Protocol};
use crate::testing::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn ready_index() -> Index {
    let mut index = Index::default();
    index.apply(Event::ThisNode(ThisNode { name: "n1".into(), addresses: vec![ip("10.0.0.1")] }));
    index.apply(Event::Service(web(), service()));
    index.apply(Event::Directive(web(), local()));
    index
}

fn put(index: &mut Index, name: &str, slice: SliceInput) -> Changes {
    index.apply(Event::Slice { service: web(), name: name.into(), slice })
}

#[test]
fn an_event_says_what_it_changed_and_a_repetition_changes_nothing() {
    let mut index = ready_index();
    let changes = put(&mut index, "s", slice([pod("10.1.0.1", "n1")]));
    assert_eq!(changes, Changes { updated: [web()].into(), ..Changes::default() });
    assert!(put(&mut index, "s", slice([pod("10.1.0.1", "n1")])).is_empty());
    let gone = index.apply(Event::DirectiveGone(web()));
    assert_eq!(gone, Changes { removed: [web()].into(), ..Changes::default() });
    let back = index.apply(Event::Directive(web(), local()));
    assert_eq!(back, Changes { added: [web()].into(), ..Changes::default() });
}

#[test]
fn a_pod_of_another_node_does_not_touch_a_table_that_has_local_ones() {
    let mut index = ready_index();
    put(&mut index, "s", slice([pod("10.1.0.1", "n1")]));
    assert!(put(&mut index, "t", slice([pod("10.1.0.2", "n2")])).is_empty());
}

#[test]
fn a_node_or_a_capacity_that_is_as_before_changes_nothing() {
    let mut index = ready_index();
    let (node, capacity) = (index.input().this_node.clone(), index.input().capacity);
    assert!(index.apply(Event::ThisNode(node)).is_empty());
    assert!(index.apply(Event::Capacity(capacity)).is_empty());
}

#[test]
fn new_addresses_of_the_node_and_new_pod_ranges_are_told() {
    let mut index = ready_index();
    let ranges = vec!["10.1.7.0/16".parse().unwrap(), "10.1.0.0/16".parse().unwrap()];
    assert!(index.apply(Event::PodRanges(ranges.clone())).addresses);
    assert!(index.apply(Event::PodRanges(ranges)).is_empty());
    assert_eq!(index.compiled().table.pod_ranges, ["10.1.0.0/16".parse().unwrap()]);
    let node = ThisNode { addresses: vec![ip("10.0.0.2")], ..index.input().this_node.clone() };
    assert_eq!(index.apply(Event::ThisNode(node)), Changes { addresses: true, ..Changes::default() });
}

#[test]
fn a_slice_that_changes_its_service_leaves_the_old_one() {
    let mut index = ready_index();
    put(&mut index, "s", slice([pod("10.1.0.1", "n1")]));
    let other = ServiceKey::new("shop", "other");
    index.apply(Event::Slice { service: other.clone(), name: "s".into(), slice: slice([pod("10.1.0.1", "n1")]) });
    assert_eq!(index.compiled().counts.backends, 0);
    assert!(index.input().slices.contains_key(&other) && !index.input().slices.contains_key(&web()));
    index.apply(Event::SliceGone { namespace: "shop".into(), name: "s".into() });
    assert!(index.input().slices.is_empty());
}

#[test]
fn room_that_becomes_free_lets_a_refused_service_in() {
    let mut index = ready_index();
    let late = ServiceKey::new("shop", "late");
    let port = PortInput { port: 81, ..port("http", Protocol::Tcp, 81, 30081) };
    index.apply(Event::Service(late.clone(), ServiceInput { created: 200, ports: [port].into(), ..service() }));
    index.apply(Event::Directive(late.clone(), local()));
    let changes = index.apply(Event::Capacity(Capacity { frontends: 2, backends: 10 }));
    assert_eq!((&changes.removed, &changes.refused), (&[late.clone()].into(), &[late.clone()].into()));
    let changes = index.apply(Event::ServiceGone(web()));
    assert_eq!(changes, Changes { added: [late].into(), removed: [web()].into(), ..Changes::default() });
}

/// Few names and numbers, so that Services collide, slices move and capacity runs out often.
fn event() -> impl Strategy<Value = Event> {
    let key = || (0..2_u8, 0..4_u8).prop_map(|(ns, name)| ServiceKey::new(&format!("ns{ns}"), &format!("s{name}")));
    let slice_name = || (0..5_u8).prop_map(|number| Arc::<str>::from(number.to_string()));
    prop_oneof![
        6 => (key(), any_service()).prop_map(|(key, service)| Event::Service(key, service)),
        2 => key().prop_map(Event::ServiceGone),
        6 => (key(), slice_name(), any_slice()).prop_map(|(service, name, slice)| Event::Slice { service, name, slice }),
        2 => (0..2_u8, slice_name())
            .prop_map(|(ns, name)| Event::SliceGone { namespace: format!("ns{ns}").into(), name }),
        4 => (key(), any_directive()).prop_map(|(key, directive)| Event::Directive(key, directive)),
        1 => key().prop_map(Event::DirectiveGone),
        1 => any::<[bool; 2]>().prop_map(|have| Event::ThisNode(ThisNode {
            name: "n1".into(),
            addresses: ["10.0.0.1", "fd00::1"].iter().zip(have).filter(|(_, have)| *have).map(|(a, _)| ip(a)).collect(),
        })),
        1 => (0..12_usize, 0..12_usize)
            .prop_map(|(frontends, backends)| Event::Capacity(Capacity { frontends, backends })),
    ]
}

fn any_service() -> impl Strategy<Value = ServiceInput> {
    let kind = prop_oneof![
        4 => Just(ServiceKind::LoadBalancer),
        2 => Just(ServiceKind::NodePort),
        1 => Just(ServiceKind::ClusterIp),
        1 => Just(ServiceKind::ExternalName),
    ];
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    let port = (protocol, 80..83_u16, prop::option::of(30080..30083_u16))
        .prop_map(|(protocol, port, node_port)| PortInput { name: port.to_string().into(), protocol, port, node_port });
    let addresses = || prop::collection::vec(prop::sample::select(vec!["192.0.2.1", "192.0.2.2", "2001:db8::1"]), 0..3);
    let range = prop::sample::select(vec!["10.0.0.0/8", "203.0.113.0/24", "0.0.0.0/0", "2001:db8::/32"]);
    (
        (0..4_i64, kind, prop::bool::weighted(0.9), any::<(bool, bool)>()),
        (prop::collection::vec(port, 1..3), addresses(), addresses()),
        (prop::collection::vec(range, 0..2), prop::bool::weighted(0.1), 0..2_u16),
    )
        .prop_map(
            |((created, kind, external_local, (v4, v6)), (ports, vips, external), (ranges, flag, proxied))| {
                let addresses = |texts: Vec<&str>| texts.into_iter().map(ip).collect();
                ServiceInput {
                    created,
                    kind,
                    external_local,
                    ignored: flag,
                    families: PerFamily { v4, v6 },
                    ports: ports.into(),
                    load_balancer: addresses(vips),
                    external_ips: addresses(external),
                    proxied_addresses: proxied,
                    source_ranges: ranges.into_iter().map(|range| range.parse().unwrap()).collect(),
                    ..service()
                }
            },
        )
}

fn any_slice() -> impl Strategy<Value = SliceInput> {
    let endpoint = (
        prop::sample::select(vec!["10.1.0.1", "10.1.0.2", "fd01::1"]),
        prop::sample::select(vec![Some("n1"), Some("n2"), None]),
        any::<(bool, bool, bool)>(),
    )
        .prop_map(|(address, node, (ready, serving, terminating))| crate::input::EndpointInput {
            node: node.map(Into::into),
            ready,
            serving,
            terminating,
            ..pod(address, "n1")
        });
    let port = (80..83_u16, prop::sample::select(vec![Protocol::Tcp, Protocol::Udp])).prop_map(|(port, protocol)| {
        crate::input::SlicePort { name: port.to_string().into(), protocol, port: port + 8000 }
    });
    (prop::collection::vec(port, 1..3), prop::collection::vec(endpoint, 0..4))
        .prop_map(|(ports, endpoints)| SliceInput { ports: ports.into(), endpoints: endpoints.into() })
}

fn any_directive() -> impl Strategy<Value = Directive> {
    let mode = prop::sample::select(vec![Mode::Off, Mode::Observe, Mode::Local, Mode::Local, Mode::Balance]);
    (mode, any::<bool>(), any::<bool>()).prop_map(|(mode, reject, source_ranges_on_node_ports)| Directive {
        mode,
        on_no_local: if reject { OnNoLocal::Reject } else { OnNoLocal::Drop },
        source_ranges_on_node_ports,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, rng_seed: RngSeed::Fixed(3), ..ProptestConfig::default() })]

    #[test]
    fn step_by_step_equals_from_scratch_and_changes_tell_the_difference(events in prop::collection::vec(event(), 0..60)) {
        let mut index = Index::default();
        for event in events {
            let before = index.compiled().clone();
            let changes = index.apply(event);
            let now = index.compiled();
            prop_assert_eq!(now, &compile(index.input()));
            let (old, new) = (&before.table.services, &now.table.services);
            for key in old.keys().chain(new.keys()) {
                let (was, is) = (old.get(key), new.get(key));
                prop_assert_eq!(changes.added.contains(key), was.is_none() && is.is_some());
                prop_assert_eq!(changes.removed.contains(key), was.is_some() && is.is_none());
                prop_assert_eq!(changes.updated.contains(key), was.is_some() && is.is_some() && was != is);
            }
        }
    }

    #[test]
    fn the_order_of_events_about_different_objects_does_not_matter(
        services in prop::collection::btree_map(0..6_u8, (any_service(), any_directive(), any_slice()), 1..6),
        shuffled in any::<prop::sample::Index>(),
    ) {
        let mut events = vec![Event::ThisNode(ThisNode { name: "n1".into(), addresses: vec![ip("10.0.0.1")] })];
        for (number, (service, directive, slice)) in services {
            let key = ServiceKey::new("ns", &number.to_string());
            events.push(Event::Service(key.clone(), service));
            events.push(Event::Directive(key.clone(), directive));
            events.push(Event::Slice { service: key, name: number.to_string().into(), slice });
        }
        let mut straight = Index::default();
        let mut turned = Index::default();
        let start = shuffled.index(events.len());
        for event in &events {
            straight.apply(event.clone());
        }
        for event in events[start..].iter().rev().chain(&events[..start]) {
            turned.apply(event.clone());
        }
        prop_assert_eq!(straight.compiled(), turned.compiled());
    }

    #[test]
    fn newer_services_never_decide_whether_an_older_one_is_admitted(
        services in prop::collection::vec(any_service(), 2..8),
        frontends in 0..12_usize,
        backends in 0..4_usize,
    ) {
        let mut index = Index::default();
        index.apply(Event::ThisNode(ThisNode { name: "n1".into(), addresses: Vec::new() }));
        index.apply(Event::Capacity(Capacity { frontends, backends }));
        let mut known = BTreeMap::new();
        for (age, service) in (0_i64..).zip(services) {
            let key = ServiceKey::new("ns", &age.to_string());
            index.apply(Event::Directive(key.clone(), local()));
            index.apply(Event::Service(key.clone(), ServiceInput { created: age, ..service }));
            for (key, admitted) in &known {
                prop_assert_eq!(index.compiled().table.services.contains_key(key), *admitted);
            }
            known.insert(key.clone(), index.compiled().table.services.contains_key(&key));
        }
    }
}
