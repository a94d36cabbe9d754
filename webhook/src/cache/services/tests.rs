use super::{CompactService, Labels, Services};
use crate::cache::compact::Interner;
use k8s_openapi::api::core::v1::Service;
use portreeve_policy::selectors::service_selects;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::json;
use std::collections::BTreeMap;

/// Maps over few keys and values, so that selectors and labels often meet.
fn labels() -> impl Strategy<Value = Labels> {
    let word = |words: [&'static str; 3]| prop::sample::select(words.to_vec()).prop_map(str::to_owned);
    prop::collection::btree_map(word(["app", "tier", "track"]), word(["web", "db", ""]), 0..4)
}

fn mk_service(name: &str, selector: &Labels) -> Service {
    let service = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"selector": selector}});
    serde_json::from_value(service).unwrap()
}

fn names(services: &[Service]) -> Vec<String> {
    services.iter().filter_map(|service| service.metadata.name.clone()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(5), ..ProptestConfig::default() })]

    /// Whatever was put, replaced and removed before: a lookup finds what a search over all would find.
    #[test]
    fn a_lookup_finds_what_the_policy_says_selects_the_pod(
        history in prop::collection::vec((0..6_u8, prop::option::weighted(0.8, labels())), 0..20),
        pod in labels(),
    ) {
        let (mut index, mut plain, mut interner) = (Services::default(), BTreeMap::new(), Interner::default());
        for (n, selector) in history {
            let name = format!("service-{n}");
            let service = selector.map(|selector| mk_service(&name, &selector));
            match service.clone().and_then(|service| CompactService::new(service, &mut interner)) {
                Some(compact) => index.put(compact),
                None => index.remove(&name),
            }
            plain.remove(&name);
            plain.extend(service.map(|service| (name, service)));
        }
        let selects = |service: &&Service| service_selects(service.spec.as_ref().and_then(|s| s.selector.as_ref()), &pod);
        let expected: Vec<Service> = plain.values().filter(selects).cloned().collect();
        prop_assert_eq!(index.selecting("shop", &pod), expected);
    }
}

#[test]
fn removing_everything_leaves_nothing_filed() {
    let (mut index, mut interner) = (Services::default(), Interner::default());
    let selector = Labels::from([("app".to_owned(), "web".to_owned()), ("tier".to_owned(), "web".to_owned())]);
    for name in ["a", "b", "c"] {
        index.put(CompactService::new(mk_service(name, &selector), &mut interner).unwrap());
    }
    assert_eq!(names(&index.selecting("shop", &selector)), ["a", "b", "c"]);
    for name in ["a", "b", "c"] {
        index.remove(name);
    }
    assert!(index.is_empty() && index.by_pair.is_empty());
}
