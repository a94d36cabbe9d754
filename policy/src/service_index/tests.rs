use super::ServiceIndex;
use crate::selectors::service_selects;
use crate::testing::map;
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use proptest::collection::{btree_map, vec};
use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};
use proptest::test_runner::RngSeed;
use std::collections::BTreeMap;

fn selecting(namespace: &str, name: &str, selector: BTreeMap<String, String>) -> Service {
    let spec = ServiceSpec { selector: Some(selector), ..ServiceSpec::default() };
    let mut service = Service { spec: Some(spec), ..Service::default() };
    service.metadata.namespace = Some(namespace.to_owned());
    service.metadata.name = Some(name.to_owned());
    service
}

fn found(index: &ServiceIndex, namespace: &str, labels: &[(&str, &str)]) -> Vec<String> {
    let services = index.services_for(namespace, &map(labels));
    services.into_iter().filter_map(|service| service.metadata.name.clone()).collect()
}

#[test]
fn a_pod_is_found_by_every_service_that_selects_it_in_order_of_name() {
    let mut index = ServiceIndex::default();
    index.apply(selecting("shop", "b", map(&[("app", "web")])));
    index.apply(selecting("shop", "a", map(&[("app", "web"), ("tier", "front")])));
    index.apply(selecting("shop", "c", map(&[("app", "api")])));
    assert_eq!(found(&index, "shop", &[("app", "web"), ("tier", "front")]), ["a", "b"]);
    assert_eq!(found(&index, "shop", &[("app", "web")]), ["b"]);
    assert_eq!(index.len(), 3);
}

#[test]
fn a_service_of_another_namespace_is_never_found() {
    let mut index = ServiceIndex::default();
    index.apply(selecting("bank", "web", map(&[("app", "web")])));
    assert!(found(&index, "shop", &[("app", "web")]).is_empty());
}

#[test]
fn a_service_without_a_selector_is_known_and_selects_nothing() {
    let mut index = ServiceIndex::default();
    index.apply(selecting("shop", "web", BTreeMap::new()));
    assert!(index.get("shop", "web").is_some());
    assert!(found(&index, "shop", &[("app", "web")]).is_empty());
}

#[test]
fn a_changed_selector_takes_the_place_of_the_old_one() {
    let mut index = ServiceIndex::default();
    index.apply(selecting("shop", "web", map(&[("app", "old")])));
    index.apply(selecting("shop", "web", map(&[("app", "new")])));
    assert!(found(&index, "shop", &[("app", "old")]).is_empty());
    assert_eq!(found(&index, "shop", &[("app", "new")]), ["web"]);
    assert_eq!(index.len(), 1);
}

#[test]
fn a_removed_service_leaves_nothing_behind() {
    let mut index = ServiceIndex::default();
    index.apply(selecting("shop", "web", map(&[("app", "web")])));
    index.remove("shop", "web");
    index.remove("shop", "web");
    index.remove("bank", "web");
    assert!(index.is_empty());
    assert!(index.namespaces.is_empty());
}

#[test]
fn a_pair_that_everything_carries_does_not_fill_up() {
    let mut index = ServiceIndex::default();
    for at in 0..10_000 {
        let name = format!("s{at:05}");
        index.apply(selecting("shop", &name, map(&[("a-tier", "web"), ("name", &name)])));
    }
    let shop = &index.namespaces["shop"];
    assert_eq!(shop.filed_under("a-tier", "web"), 1);
    assert_eq!(found(&index, "shop", &[("a-tier", "web"), ("name", "s04711")]), ["s04711"]);
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(12), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_answers_as_a_walk_over_all_services_does(
        writes in vec(("[ab]", "s[0-5]", btree_map("k[0-3]", "v[0-1]", 0..3), proptest::bool::weighted(0.8)), 0..40),
        labels in btree_map("k[0-3]", "v[0-1]", 0..5),
    ) {
        let mut index = ServiceIndex::default();
        let mut all = BTreeMap::new();
        for (namespace, name, selector, apply) in writes {
            if apply {
                index.apply(selecting(&namespace, &name, selector.clone()));
                all.insert((namespace, name), selector);
            } else {
                index.remove(&namespace, &name);
                all.remove(&(namespace, name));
            }
        }
        for namespace in ["a", "b"] {
            let expected: Vec<&String> = all
                .iter()
                .filter(|((of, _), selector)| of == namespace && service_selects(Some(selector), &labels))
                .map(|((_, name), _)| name)
                .collect();
            let answered = index.services_for(namespace, &labels);
            let answered: Vec<&String> = answered.into_iter().filter_map(|service| service.metadata.name.as_ref()).collect();
            prop_assert_eq!(answered, expected);
        }
        prop_assert_eq!(index.len(), all.len());
    }
}
