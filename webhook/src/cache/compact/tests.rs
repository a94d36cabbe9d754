use super::{CompactFacts, CompactSlice, Interner};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};
use portreeve_policy::EndpointFacts;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

fn endpoint() -> impl Strategy<Value = Endpoint> {
    let few = |prefix: &'static str| (0..4_u8).prop_map(move |n| format!("{prefix}{n}"));
    let conditions = any::<[Option<bool>; 3]>().prop_map(|[ready, serving, terminating]| EndpointConditions {
        ready,
        serving,
        terminating,
    });
    let target = (prop_oneof![Just("Pod"), Just("Node")], prop::option::of(few("ns")), prop::option::of(few("pod")));
    let target = target.prop_map(|(kind, namespace, name)| ObjectReference {
        kind: Some(kind.to_owned()),
        namespace,
        name,
        uid: Some("u".to_owned()),
        ..ObjectReference::default()
    });
    let parts = (
        prop::collection::vec(few("10.1.0."), 0..3),
        prop::option::of(conditions),
        prop::option::of(few("node-")),
        prop::option::of(target),
    );
    parts.prop_map(|(addresses, conditions, node_name, target_ref)| Endpoint {
        addresses,
        conditions,
        node_name,
        target_ref,
        zone: Some("z".to_owned()),
        ..Endpoint::default()
    })
}

fn slice() -> impl Strategy<Value = EndpointSlice> {
    let family = prop_oneof![Just("IPv4"), Just("IPv6"), Just("FQDN")];
    (family, prop::option::of(prop::collection::vec(endpoint(), 0..6))).prop_map(|(family, endpoints)| EndpointSlice {
        address_type: family.to_owned(),
        endpoints,
        ..EndpointSlice::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_is_counted_as_the_original(slices in prop::collection::vec(slice(), 0..4)) {
        let mut names = Interner::default();
        let kept: Vec<_> = slices.iter().map(|slice| CompactSlice::new(slice, &mut names).expand()).collect();
        let facts = EndpointFacts::from_slices(&slices);
        prop_assert_eq!(&EndpointFacts::from_slices(&kept), &facts);
        let compact = CompactFacts::new(&facts, std::collections::BTreeSet::new(), &mut names);
        prop_assert_eq!(compact.ready(), facts.ready());
        prop_assert_eq!(compact.expand(), facts);
    }
}

#[test]
fn a_name_is_held_once_and_not_long_after_its_last_holder() {
    let mut names = Interner::default();
    let (first, second) = (names.get("node-1"), names.get("node-1"));
    assert!(std::sync::Arc::ptr_eq(&first, &second));
    for n in 0..10_000 {
        names.get(&format!("gone-{n}"));
    }
    assert!(names.texts.len() <= 64, "{}", names.texts.len());
    assert!(names.texts.contains("node-1"));
}
