use super::flow::{Answer, Asked, ask};
use super::{service_name, show};
use crate::source::parse;
use crate::world::{Objects, World};
use portreeve_table::{ProxyReason, Reason};
use std::collections::BTreeSet;
use std::net::SocketAddr;

const CLUSTER: &str = include_str!("tests/cluster.yaml");

/// What is asked of [`CLUSTER`] in a test, beside the Service and the client.
#[derive(Default)]
struct Narrow<'a> {
    node: Option<&'a str>,
    port: Option<&'a str>,
    to: Option<&'a str>,
}

fn answer_of(yaml: &str, name: &str, from: &str, narrow: &Narrow<'_>) -> Result<Answer, String> {
    let objects = Objects::of_documents(&parse("a.yaml", yaml).unwrap(), Some("shop")).unwrap();
    let Narrow { node, port, to } = *narrow;
    let to = to.map(|text| text.parse().unwrap());
    let client = SocketAddr::new(from.parse().unwrap(), 0);
    ask(World::new(objects), &Asked { namespace: "shop", name, client, node, port, to })
}

fn answer(name: &str, from: &str, narrow: &Narrow<'_>) -> Answer {
    answer_of(CLUSTER, name, from, narrow).unwrap()
}

fn matrix(name: &str, from: &str) -> String {
    show::people(&answer(name, from, &Narrow::default()), false)
}

fn refusal(name: &str, from: &str, narrow: &Narrow<'_>) -> String {
    answer_of(CLUSTER, name, from, narrow).unwrap_err()
}

#[test]
fn a_claimed_service_with_pods_on_one_node_of_three() {
    insta::assert_snapshot!(matrix("web", "203.0.113.7"));
}

#[test]
fn a_source_outside_the_ranges_reaches_all_but_the_load_balancers_address() {
    insta::assert_snapshot!(matrix("web", "192.0.2.99"));
}

#[test]
fn a_client_of_the_other_family_meets_the_other_frontends() {
    insta::assert_snapshot!(matrix("web", "2001:db8:1::1"));
}

#[test]
fn a_draining_pod_takes_new_flows_where_none_is_ready() {
    insta::assert_snapshot!(matrix("drain", "203.0.113.7"));
}

#[test]
fn an_unclaimed_cluster_service_is_kube_proxys_with_the_client_hidden_and_one_matrix_a_port() {
    insta::assert_snapshot!(matrix("dns", "203.0.113.7"));
}

#[test]
fn an_unclaimed_local_service_is_kube_proxys_and_dropped_where_no_pod_is() {
    insta::assert_snapshot!(matrix("plain", "203.0.113.7"));
}

#[test]
fn a_pod_of_the_cluster_is_told_where_its_packets_are_decided() {
    insta::assert_snapshot!(matrix("plain", "10.244.1.77"));
}

#[test]
fn one_node_is_told_in_full() {
    let narrow = Narrow { node: Some("c"), to: Some("192.0.2.10"), ..Narrow::default() };
    insta::assert_snapshot!(show::people(&answer("web", "203.0.113.7", &narrow), true));
}

#[test]
fn the_json_has_the_promised_shape() {
    let narrow = Narrow { to: Some("192.0.2.10"), ..Narrow::default() };
    insta::assert_json_snapshot!(show::json(&answer("web", "203.0.113.7", &narrow)));
}

#[test]
fn many_nodes_that_do_the_same_share_a_row() {
    let mut yaml = CLUSTER.to_owned();
    for number in 0..20 {
        yaml.push_str(&format!(
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: n{number:02}}}\nstatus: {{addresses: [{{type: InternalIP, address: 10.0.1.{number}}}]}}\n"
        ));
    }
    let all = answer_of(&yaml, "plain", "203.0.113.7", &Narrow::default()).unwrap();
    insta::assert_snapshot!(show::people(&all, false));
}

#[test]
fn a_node_whose_agent_failed_and_a_backend_that_hands_nothing_over_are_told_apart() {
    let decided = |yaml: &str, node: &str| {
        let narrow = Narrow { node: Some(node), to: Some("192.0.2.10"), ..Narrow::default() };
        let answer = answer_of(yaml, "web", "203.0.113.7", &narrow).unwrap();
        let way = &answer.nodes[0].answer.ways[0];
        (way.decider.as_str(), way.outcome.as_str())
    };
    let failed = CLUSTER.replace("reason: NotYet", "reason: ProgrammingFailed");
    assert_eq!(decided(CLUSTER, "c"), ("kube-proxy", "drop"));
    assert_eq!(decided(&failed, "c"), ("either", "depends"), "one would reject, the other drops");
    let forward = CLUSTER.replace("onNoLocal: Reject", "onNoLocal: Forward");
    assert_eq!(decided(&forward, "b"), ("portreeve", "forward"));
    let backend = "backend: {asked: Auto, chosen: Nftables, reason: \"-\"}, conditions:";
    assert_eq!(decided(&forward.replace("conditions:", backend), "b"), ("kube-proxy", "drop"));
}

#[test]
fn mode_balance_is_said_to_be_local_where_no_flow_is_handed_over() {
    let asked = CLUSTER.replace("{mode: Local, onNoLocal: Reject}", "{mode: Balance}");
    let backend = "backend: {asked: Auto, chosen: Nftables, reason: \"-\"}, conditions:";
    let notes = |yaml: &str| answer_of(yaml, "web", "203.0.113.7", &Narrow::default()).unwrap().notes.join(" ");
    let without = notes(&asked.replace("conditions:", backend));
    assert!(without.contains("hands no flow to other nodes: Local there"), "{without}");
    assert!(!notes(CLUSTER).contains("Balance"));
}

#[test]
fn many_pods_are_counted_in_the_matrix_and_named_in_full() {
    let pods = (10..40).map(|last| format!("- {{addresses: [10.244.0.{last}], nodeName: a}}\n      "));
    let pods: Vec<String> = pods.collect();
    let first = "- {addresses: [10.244.0.9]";
    let yaml = CLUSTER.replace(first, &format!("{}{first}", pods.concat()));
    let narrow = Narrow { port: Some("dns"), node: Some("b"), ..Narrow::default() };
    let all = answer_of(&yaml, "dns", "203.0.113.7", &narrow).unwrap();
    let (short, full) = (show::people(&all, false), show::people(&all, true));
    assert!(short.contains("and 29 more") && short.contains('…') && !short.contains("10.244.0.39"), "{short}");
    assert!(full.contains("       10.244.0.39:5353 3.1 %"), "{full}");
}

#[test]
fn ports_are_found_by_name_number_and_node_port() {
    let ways = |port: &str| {
        let narrow = Narrow { port: Some(port), node: Some("a"), ..Narrow::default() };
        answer("dns", "203.0.113.7", &narrow).nodes[0].answer.ways.len()
    };
    assert_eq!(["dns", "dns-tcp", "53", "53/udp", "53/TCP", "30053"].map(ways), [1, 1, 2, 1, 1, 2]);
}

#[test]
fn an_address_of_a_node_is_asked_of_that_node_alone() {
    let narrow = Narrow { to: Some("10.0.0.2"), ..Narrow::default() };
    let found = answer("web", "203.0.113.7", &narrow);
    let nodes: Vec<&str> = found.nodes.iter().map(|site| site.name.as_str()).collect();
    assert_eq!((nodes, found.nodes[0].answer.ways.len()), (vec!["b"], 1));
}

#[test]
fn what_cannot_be_asked_is_refused_with_what_to_do() {
    let of = |name: &str| refusal(name, "203.0.113.7", &Narrow::default());
    let web = |narrow: Narrow<'_>| refusal("web", "203.0.113.7", &narrow);
    let texts = [
        of("wbe"),
        of("plan"),
        of("nothing-like-it"),
        of("heads"),
        of("alias"),
        of("inner"),
        of("fresh"),
        refusal("dns", "2001:db8::1", &Narrow::default()),
        web(Narrow { port: Some("81"), ..Narrow::default() }),
        web(Narrow { node: Some("d"), ..Narrow::default() }),
        web(Narrow { to: Some("192.0.2.99"), ..Narrow::default() }),
        web(Narrow { to: Some("192.0.2.11"), ..Narrow::default() }),
        web(Narrow { to: Some("2001:db8::10"), ..Narrow::default() }),
        web(Narrow { to: Some("10.0.0.2"), node: Some("a"), ..Narrow::default() }),
    ];
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn a_service_that_cannot_be_read_is_not_explained_by_half() {
    let yaml = CLUSTER.replace("addresses: [10.244.0.10]", "addresses: [10.244.0.1000]");
    let error = answer_of(&yaml, "plain", "203.0.113.7", &Narrow::default()).unwrap_err();
    assert!(error.starts_with("EndpointSlice shop/plain-1: endpoints.addresses"), "{error}");
}

#[test]
fn files_without_reports_and_nodes_say_what_is_taken_for_granted_and_policies_stand_for_directives() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {type: LoadBalancer, externalTrafficPolicy: Local, clusterIP: 10.96.0.1, ports: [{port: 80}]}\nstatus: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}\n---\n";
    let slice = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: w, namespace: shop, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{name: '', port: 8080}]\nendpoints: [{addresses: [10.1.0.1], nodeName: n1}]\n---\n";
    let policy = "apiVersion: portreeve.io/v1alpha1\nkind: ClusterTrafficPolicy\nmetadata: {name: path}\nspec:\n  enforcement: {mode: Enforce}\n  defaults:\n    dataPath: {mode: Local}\n";
    let told = |yaml: &str| show::people(&answer_of(yaml, "web", "203.0.113.7", &Narrow::default()).unwrap(), false);
    insta::assert_snapshot!(told(&format!("{service}{slice}{policy}")));
    assert!(told(&format!("{service}{slice}")).contains("kube-proxy"), "without the policy nothing is claimed");
}

#[test]
fn a_service_is_written_as_kubectl_has_it() {
    assert_eq!(["svc/web", "Service/web", "services/web"].map(service_name), [Some("web"); 3]);
    assert_eq!(["ETP016", "pod/web"].map(service_name), [None; 2]);
}

#[test]
fn every_reason_is_in_the_documentation() {
    const PAGE: &str = include_str!("../../../config/docs/packets.md");
    let first_cells = PAGE.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let documented: BTreeSet<u8> =
        first_cells.flat_map(|cell| cell.split(", ")).filter_map(|number| number.parse().ok()).collect();
    let of_table = Reason::ALL.map(Reason::number);
    let known: BTreeSet<u8> = of_table.into_iter().chain(ProxyReason::ALL.map(ProxyReason::number)).collect();
    assert_eq!(documented, known);
}
