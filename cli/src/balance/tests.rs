use super::count::{Balance, Counts, Places, expected};
use super::{chart, show};
use jiff::Timestamp;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use portreeve_ask::{Flows, PodCount};
use portreeve_policy::imbalance::{LoadModel, imbalance};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// One Pod on n1 and two on n2, each of both families.
fn slices() -> Vec<EndpointSlice> {
    let endpoint = |pod: &str, node: &str, address: String| json!({"addresses": [address], "nodeName": node, "targetRef": {"kind": "Pod", "name": pod}});
    let pods = [("web-a", "n1", "1.2"), ("web-b", "n2", "2.2"), ("web-c", "n2", "2.3")];
    let slice = |kind: &str, address: &dyn Fn(&str) -> String| {
        let endpoints: Vec<_> = pods.iter().map(|(pod, node, at)| endpoint(pod, node, address(at))).collect();
        serde_json::from_value(json!({"metadata": {}, "addressType": kind, "endpoints": endpoints})).unwrap()
    };
    vec![slice("IPv4", &|at| format!("10.244.{at}")), slice("IPv6", &|at| format!("fd00::{}", at.replace('.', ":")))]
}

fn reading(since: i64, pods: &[(&str, u64)]) -> Result<Counts, String> {
    let count =
        |(pod, flows): &(&str, u64)| PodCount { pod: pod.parse().unwrap(), protocol: "tcp".to_owned(), flows: *flows };
    let since = Timestamp::from_second(since).unwrap();
    Ok(Flows { service: "shop/web".to_owned(), since, pods: pods.iter().map(count).collect() }.into())
}

type Readings = BTreeMap<String, Result<Counts, String>>;

fn readings(n1: Result<Counts, String>, n2: Result<Counts, String>) -> Readings {
    [("n1".to_owned(), n1), ("n2".to_owned(), n2)].into()
}

fn before() -> Readings {
    readings(
        reading(1, &[("10.244.1.2:8080", 10), ("[fd00::1:2]:8080", 0)]),
        reading(1, &[("10.244.2.2:8080", 7), ("10.244.2.3:8080", 3)]),
    )
}

fn after() -> Readings {
    readings(
        reading(1, &[("10.244.1.2:8080", 50), ("[fd00::1:2]:8080", 20)]),
        reading(1, &[("10.244.2.2:8080", 29), ("10.244.2.3:8080", 21)]),
    )
}

fn balance(before: &Readings, after: &Readings) -> Balance {
    let places = Places::of(&slices());
    Balance::new("shop/web", Duration::from_secs(10), (&places, &places), before, after)
}

#[test]
fn flows_of_a_pod_are_summed_over_its_families_and_stand_beside_what_it_should_get() {
    let balance = balance(&before(), &after());
    assert!(balance.complete(), "{:?}", balance.notes);
    assert_eq!(balance.flows, 100);
    insta::assert_snapshot!(show::people(&balance));
    insta::assert_json_snapshot!(show::json(&balance));
}

#[test]
fn the_chart_is_the_same_for_the_same_counts() {
    let balance = balance(&before(), &after());
    insta::assert_snapshot!(chart::svg(&balance).unwrap());
}

#[test]
fn no_flow_is_said_in_words() {
    let balance = balance(&before(), &before());
    assert!(show::people(&balance).starts_with("No new flow of shop/web came to a Pod in 10.0 s"));
    assert_eq!(show::json(&balance)["pods"][0]["deviationPermille"], json!(null));
    assert!(chart::svg(&balance).unwrap().contains("no new flow in 10.0 s"));
}

#[test]
fn a_count_that_went_back_counts_from_there_and_is_told_and_so_are_pods_that_changed_and_nodes_that_are_silent() {
    let mut then =
        readings(reading(5, &[("10.244.1.2:8080", 4)]), reading(2, &[("10.244.2.2:8080", 8), ("10.244.2.3:8080", 3)]));
    let told = balance(&before(), &then);
    assert_eq!((told.flows, told.complete()), (5, false));
    insta::assert_snapshot!(told.notes.join("\n"), @r"
    A count on n1 began anew in the window: what it had counted until then is missing.
    The agent on n2 programmed the Service anew in the window: some of its flows may be missing.
    ");
    then.insert("n2".to_owned(), Err("no agent runs on it".to_owned()));
    let told = balance(&before(), &then);
    assert_eq!(told.unasked.len(), 1);
    assert_eq!(told.pods.len(), 1, "of the silent node nothing is said");

    let mut fewer = slices();
    fewer.iter_mut().for_each(|slice| _ = slice.endpoints.as_mut().unwrap().pop());
    let places = (&Places::of(&slices()), &Places::of(&fewer));
    let told = Balance::new("shop/web", Duration::from_secs(10), places, &before(), &after());
    assert_eq!(told.notes, ["Ready Pods went in the window: web-c on n2."]);
    assert_eq!(told.pods.len(), 3, "what it had got is counted");
}

/// The operator's prediction and this are one.
#[test]
fn the_expected_share_is_what_policy_predicts() {
    for pods in [vec![1], vec![1, 2], vec![3, 3, 3], vec![1, 7, 2, 30], (1..=30).collect()] {
        let by_node: BTreeMap<String, u32> =
            pods.iter().enumerate().map(|(node, pods)| (format!("n{node:02}"), *pods)).collect();
        let predicted = imbalance(&by_node, None, LoadModel::EvenNodes).unwrap();
        let ready = by_node
            .iter()
            .flat_map(|(node, pods)| (0..*pods).map(move |number| (node.clone(), format!("{node}-{number}"))))
            .collect();
        let expected = expected(&ready);
        assert_eq!(predicted.nodes.len(), by_node.len());
        for share in predicted.nodes {
            let own = expected.iter().filter(|((node, _), _)| *node == share.node);
            for (_, own) in own {
                assert_eq!(i64::try_from(own.permille()).unwrap(), i64::from(share.share_permille), "{}", share.node);
            }
        }
    }
}
