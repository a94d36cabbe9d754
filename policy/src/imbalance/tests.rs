use super::{LoadModel, imbalance, suggested_replicas};
use portreeve_crds::service_traffic::Imbalance;
use proptest::collection::{btree_map, vec};
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::RngSeed;
use std::collections::BTreeMap;

fn nodes(pods: &[u32]) -> BTreeMap<String, u32> {
    pods.iter().enumerate().map(|(at, pods)| (format!("n{at}"), *pods)).collect()
}

fn even(pods: &[u32]) -> Imbalance {
    imbalance(&nodes(pods), None, LoadModel::EvenNodes).unwrap()
}

/// `pods` Pods over `on` nodes, no two of which differ by more than one.
fn spread(pods: u32, on: u32) -> Vec<u32> {
    (0..on).map(|node| pods / on + u32::from(node < pods % on)).collect()
}

#[test]
fn one_pod_and_two_pods_give_a_ratio_of_1500() {
    let found = even(&[2, 1]);
    assert_eq!((found.ratio_permille, found.usable_permille), (1500, 666));
    let shown: Vec<_> = found.nodes.iter().map(|node| (node.node.as_str(), node.pods, node.share_permille)).collect();
    assert_eq!(shown, [("n1", 1, 500), ("n0", 2, 250)]);
    assert_eq!((found.hottest.node.as_str(), found.hottest.share_permille), ("n1", 500));
}

#[test]
fn the_ratio_is_rounded_up_so_that_no_excess_hides() {
    // (2, 2, 1): 5/3 of the mean.
    let found = even(&spread(5, 3));
    assert_eq!((found.ratio_permille, found.usable_permille), (1667, 600));
}

#[test]
fn even_spreads_have_the_ratios_of_the_book() {
    for (on, pods, ratio, usable) in [
        (3, 3, 1000, 1000),
        (10, 11, 1100, 909),
        (10, 15, 1500, 666),
        (10, 19, 1900, 526),
        (10, 30, 1000, 1000),
        (50, 75, 1500, 666),
        (100, 1000, 1000, 1000),
    ] {
        let found = even(&spread(pods, on));
        assert_eq!((found.ratio_permille, found.usable_permille), (ratio, usable), "{pods} Pods on {on} nodes");
    }
}

#[test]
fn without_pods_on_a_node_there_is_nothing_to_divide() {
    assert_eq!(imbalance(&BTreeMap::new(), None, LoadModel::EvenNodes), None);
    assert_eq!(imbalance(&nodes(&[0, 0]), None, LoadModel::EvenNodes), None);
    assert_eq!(imbalance(&BTreeMap::from([(String::new(), 3)]), None, LoadModel::EvenNodes), None);
}

#[test]
fn nodes_without_pods_and_pods_without_a_node_do_not_count() {
    let mut some = nodes(&[2, 0, 1]);
    some.insert(String::new(), 7);
    assert_eq!(imbalance(&some, None, LoadModel::EvenNodes).unwrap().ratio_permille, 1500);
}

#[test]
fn weights_by_pods_make_every_share_the_same() {
    for weights in [None, Some(nodes(&[3, 1, 6]))] {
        let found = imbalance(&nodes(&[3, 1, 6]), weights.as_ref(), LoadModel::Weighted).unwrap();
        assert_eq!((found.ratio_permille, found.usable_permille), (1000, 1000));
        assert!(found.nodes.iter().all(|node| node.share_permille == 100));
    }
}

#[test]
fn a_node_without_a_weight_gets_nothing_and_its_pods_still_count() {
    let weights = BTreeMap::from([("n0".to_owned(), 5)]);
    let found = imbalance(&nodes(&[1, 1]), Some(&weights), LoadModel::Weighted).unwrap();
    assert_eq!((found.ratio_permille, found.usable_permille), (2000, 500));
    assert_eq!(found.nodes[1].share_permille, 0);
}

#[test]
fn weights_that_are_all_zero_divide_nothing() {
    let weights = nodes(&[0, 0]);
    assert_eq!(imbalance(&nodes(&[1, 1]), Some(&weights), LoadModel::Weighted), None);
}

#[test]
fn an_announcer_sends_all_to_its_leader() {
    let model = |leader: &str| LoadModel::SingleNode { leader: leader.to_owned() };
    let found = imbalance(&nodes(&[1, 4]), None, model("n1")).unwrap();
    assert_eq!((found.ratio_permille, found.usable_permille, found.hottest.share_permille), (1250, 800, 250));
    assert_eq!(imbalance(&nodes(&[1, 4]), None, model("n7")), None, "a leader without a Pod");
}

#[test]
fn zones_share_before_nodes_do() {
    // Zone a: one node; zone b: two. A Pod alone in its zone gets half of all.
    let zone_by_node = [("n0", "a"), ("n1", "b"), ("n2", "b")];
    let zone_by_node = zone_by_node.map(|(node, zone)| (node.to_owned(), zone.to_owned())).into();
    let found = imbalance(&nodes(&[1, 1, 1]), None, LoadModel::Zones { zone_by_node }).unwrap();
    assert_eq!((found.hottest.node.as_str(), found.hottest.share_permille), ("n0", 500));
    assert_eq!((found.ratio_permille, found.usable_permille), (1500, 666));
}

#[test]
fn equals_are_named_in_order() {
    assert_eq!(even(&[1, 1, 1]).hottest.node, "n0");
}

#[test]
fn no_more_than_32_nodes_are_named() {
    assert_eq!(even(&[1; 100]).nodes.len(), 32);
}

#[test]
fn counts_that_fill_all_nodes_alike_are_suggested() {
    // Five Pods on three nodes: four would be (2, 1, 1), six would be even.
    assert_eq!(suggested_replicas(5, 3, 1500), [4, 6]);
    assert_eq!(suggested_replicas(5, 3, 1000), [3, 6]);
    assert_eq!(suggested_replicas(19, 10, 1000), [10, 20]);
}

#[test]
fn todays_count_is_suggested_where_only_the_placement_is_at_fault() {
    assert_eq!(suggested_replicas(4, 2, 1200), [2, 4, 6]);
}

#[test]
fn nothing_is_suggested_where_nothing_can_help() {
    assert!(suggested_replicas(5, 0, 1500).is_empty(), "no nodes");
    assert!(suggested_replicas(5, 3, 999).is_empty(), "a limit below even");
}

#[test]
fn without_pods_the_first_one_is_suggested() {
    assert_eq!(suggested_replicas(0, 3, 1000), [1]);
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    assert_eq!(suggested_replicas(u32::MAX, 1, 1000), [u32::MAX - 1, u32::MAX]);
    let found = imbalance(&nodes(&[u32::MAX, 1]), None, LoadModel::EvenNodes).unwrap();
    assert_eq!((found.ratio_permille, found.usable_permille), (i32::MAX, 0));
    let weights = nodes(&[u32::MAX, u32::MAX]);
    assert!(imbalance(&nodes(&[u32::MAX, 1]), Some(&weights), LoadModel::Weighted).is_some());
}

fn seeded() -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(6), failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn rounding_never_changes_the_verdict_on_a_limit(pods in vec(1_u32..50, 1..20), limit in 1000_u32..5000) {
        let (all, least) = (u64::from(pods.iter().sum::<u32>()), u64::from(*pods.iter().min().unwrap()));
        let truly_above = 1000 * all > u64::from(limit) * pods.len() as u64 * least;
        prop_assert_eq!(even(&pods).ratio_permille > i32::try_from(limit).unwrap(), truly_above);
    }

    #[test]
    fn the_hottest_pod_is_never_below_the_mean(
        pods in vec(0_u32..20, 1..20),
        weights in btree_map("n[0-9]", 0_u32..9, 0..9),
        model in 0..4,
    ) {
        let model = match model {
            0 => LoadModel::EvenNodes,
            1 => LoadModel::Weighted,
            2 => LoadModel::SingleNode { leader: "n0".to_owned() },
            _ => LoadModel::Zones {
                zone_by_node: weights.iter().map(|(node, weight)| (node.clone(), weight.to_string())).collect(),
            },
        };
        if let Some(found) = imbalance(&nodes(&pods), Some(&weights), model) {
            prop_assert!(found.ratio_permille >= 1000);
            prop_assert!(found.usable_permille <= 1000);
            prop_assert!(found.nodes.is_sorted_by(|a, b| a.share_permille >= b.share_permille));
        }
    }

    #[test]
    fn each_suggestion_keeps_the_limit_and_none_nearer_does(
        pods in 0_u32..200, on in 1_u32..60, limit in 1000_u32..3000,
    ) {
        let fits = |count: u32| even(&spread(count, on)).ratio_permille <= i32::try_from(limit).unwrap();
        let suggested = suggested_replicas(pods, on, limit);
        prop_assert!(suggested.len() <= 4);
        prop_assert!(suggested.iter().all(|count| fits(*count)));
        let nearest_above = (pods + 1..).find(|count| fits(*count));
        prop_assert_eq!(suggested.iter().copied().find(|count| *count > pods), nearest_above);
        let nearest_below = (1..pods).rev().find(|count| fits(*count));
        prop_assert_eq!(suggested.iter().copied().rfind(|count| *count < pods), nearest_below);
    }
}
