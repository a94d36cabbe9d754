use super::*;
use crate::input::{Mode, OnNoLocal, SliceInput};
use crate::testing::world::{any_service, any_slice};
use crate::testing::*;
use proptest::prelude::*;

const CLIENT: &str = "203.0.113.7:4711";

/// Each way as one line: frontend, who decides, what becomes of it, to whom and as whom, the numbers of the reasons.
fn ways_of(input: &Input, question: &Question<'_>) -> Vec<String> {
    let answer = explain_node(input, question).expect("invariant: the test's Service is there");
    answer.ways.iter().map(line).collect()
}

fn line(way: &Way) -> String {
    let pods: Vec<String> = way.outcome.pods().iter().map(|pod| pod.hop.to_string()).collect();
    let seen = match &way.outcome {
        Outcome::Deliver { client, .. } => format!(" {} as {}", pods.join(","), client.as_str()),
        _ => String::new(),
    };
    let numbers: Vec<String> = way.steps.iter().map(|step| step.number.to_string()).collect();
    let outcome = way.outcome.as_str();
    format!("{} {}: {outcome}{seen} [{}]", way.destination, way.decider.as_str(), numbers.join(" "))
}

fn question<'a>(service: &'a ServiceKey, client: &str) -> Question<'a> {
    let client = client.parse().expect("invariant: tests write addresses by hand");
    Question { service, client, to: None, own_pods: &[], in_force: InForce::Yes, hands_over: true }
}

fn ways(input: &Input) -> Vec<String> {
    ways_of(input, &question(&web(), CLIENT))
}

fn unclaimed(service: ServiceInput, slices: impl IntoIterator<Item = SliceInput>) -> Input {
    Input { directives: BTreeMap::new(), ..input(service, slices) }
}

fn cluster() -> ServiceInput {
    ServiceInput { external_local: false, ..service() }
}

#[test]
fn a_claimed_service_is_decided_here_and_what_is_passed_on_by_kube_proxy() {
    let here = || [slice([pod("10.1.0.1", "n1"), pod("10.1.0.2", "n2")])];
    assert_eq!(
        ways(&input(service(), here())),
        [
            "192.0.2.10:80 portreeve: deliver 10.1.0.1:8080 as client [21 40]",
            "10.0.0.1:30080 portreeve: deliver 10.1.0.1:8080 as client [21 40]",
        ]
    );
    let elsewhere = |on_no_local| {
        let mut input = input(service(), [slice([pod("10.1.0.2", "n2")])]);
        input.directives.insert(web(), Directive { on_no_local, ..local() });
        ways(&input).swap_remove(0)
    };
    assert_eq!(elsewhere(OnNoLocal::Reject), "192.0.2.10:80 portreeve: reject [21 43]");
    assert_eq!(elsewhere(OnNoLocal::Forward), "192.0.2.10:80 portreeve: forward [21 45]");
    assert_eq!(elsewhere(OnNoLocal::Passthrough), "192.0.2.10:80 kube-proxy: drop [21 44 111 132]");
    let mut observed = input(service(), here());
    observed.directives.insert(web(), Directive { mode: Mode::Observe, ..local() });
    assert_eq!(ways(&observed)[0], "192.0.2.10:80 kube-proxy: deliver 10.1.0.1:8080 as client [21 40 24 111 130]");
}

#[test]
fn a_node_that_has_programmed_nothing_leaves_all_to_kube_proxy() {
    let input = input(service(), [slice([pod("10.1.0.2", "n2")])]);
    let web = web();
    let asked = Question { in_force: InForce::No("no agent reports from it"), ..question(&web, CLIENT) };
    assert_eq!(ways_of(&input, &asked)[0], "192.0.2.10:80 kube-proxy: drop [21 42 102 111 132]");
    let answer = explain_node(&input, &asked).unwrap();
    assert_eq!(answer.ways[0].table.action, Action::Drop, "what the table says stays to be seen");
}

#[test]
fn where_it_is_not_known_who_decides_the_answer_is_what_both_would_do() {
    let web = web();
    let asked = |on_no_local| {
        let mut input = input(service(), [slice([pod("10.1.0.2", "n2")])]);
        input.directives.insert(web.clone(), Directive { on_no_local, ..local() });
        let asked = Question { in_force: InForce::Perhaps("the last attempt failed"), ..question(&web, CLIENT) };
        ways_of(&input, &asked).swap_remove(0)
    };
    assert_eq!(asked(OnNoLocal::Drop), "192.0.2.10:80 either: drop [21 42 103 111 132]");
    assert_eq!(asked(OnNoLocal::Reject), "192.0.2.10:80 either: depends [21 43 103 111 132]");
    assert_eq!(asked(OnNoLocal::Passthrough), "192.0.2.10:80 kube-proxy: drop [21 44 111 132]");
}

#[test]
fn an_engine_that_hands_nothing_over_passes_on_what_it_should_forward() {
    let web = web();
    let mut input = input(service(), [slice([pod("10.1.0.2", "n2")])]);
    input.directives.insert(web.clone(), Directive { on_no_local: OnNoLocal::Forward, ..local() });
    let asked = Question { hands_over: false, ..question(&web, CLIENT) };
    assert_eq!(ways_of(&input, &asked)[0], "192.0.2.10:80 kube-proxy: drop [21 45 104 111 132]");
}

#[test]
fn under_cluster_kube_proxy_draws_from_all_nodes_and_hides_the_client() {
    let both = [slice([pod("10.1.0.1", "n1"), pod("10.1.0.2", "n2"), unready("10.1.0.3", "n2")])];
    assert_eq!(
        ways(&unclaimed(cluster(), both))[1],
        "10.0.0.1:30080 kube-proxy: deliver 10.1.0.1:8080,10.1.0.2:8080 as node [100 110 130]"
    );
    let draining = [slice([draining("10.1.0.2", "n2")])];
    assert_eq!(
        ways(&unclaimed(cluster(), draining))[1],
        "10.0.0.1:30080 kube-proxy: deliver 10.1.0.2:8080 as node [100 110 131]"
    );
    assert_eq!(ways(&unclaimed(cluster(), []))[1], "10.0.0.1:30080 kube-proxy: reject [100 110 133]");
}

#[test]
fn under_local_kube_proxy_keeps_to_this_node() {
    let of = |endpoints: Vec<crate::EndpointInput>| ways(&unclaimed(service(), [slice(endpoints)])).swap_remove(0);
    assert_eq!(
        of(vec![pod("10.1.0.1", "n1"), pod("10.1.0.2", "n2")]),
        "192.0.2.10:80 kube-proxy: deliver 10.1.0.1:8080 as client [100 111 130]"
    );
    assert_eq!(
        of(vec![draining("10.1.0.1", "n1"), pod("10.1.0.2", "n2")]),
        "192.0.2.10:80 kube-proxy: deliver 10.1.0.1:8080 as client [100 111 131]"
    );
    assert_eq!(of(vec![pod("10.1.0.2", "n2")]), "192.0.2.10:80 kube-proxy: drop [100 111 132]");
    assert_eq!(of(vec![]), "192.0.2.10:80 kube-proxy: reject [100 111 133]");
}

/// kube-proxy's own table for a node with one Pod of two (`TestInternalExternalMasquerade`), rows to the load balancer.
#[test]
fn clients_inside_get_what_kube_proxys_own_table_says() {
    let world = |service| Input {
        pod_ranges: vec!["10.1.0.0/16".parse().unwrap()],
        ..unclaimed(service, [slice([pod("10.1.0.1", "n1"), pod("10.1.1.2", "n2")])])
    };
    let own = ["10.1.0.0/24".parse().unwrap()];
    let asked = |service, client: &str| {
        ways_of(&world(service), &Question { own_pods: &own, ..question(&web(), client) }).swap_remove(0)
    };
    let both = "192.0.2.10:80 kube-proxy: deliver 10.1.0.1:8080,10.1.1.2:8080";
    assert_eq!(asked(service(), "10.1.0.9:1"), format!("{both} as client [2 100 113 130]"));
    assert_eq!(asked(service(), "10.0.0.1:1"), format!("{both} as node [1 100 112 130]"));
    assert_eq!(asked(cluster(), "10.1.0.9:1"), format!("{both} as node [2 100 110 130]"));
    assert_eq!(asked(cluster(), "10.0.0.1:1"), format!("{both} as node [1 100 110 130]"));
    assert_eq!(asked(service(), "10.1.1.9:1"), "192.0.2.10:80 kube-proxy: depends [100 114]");
    assert_eq!(asked(cluster(), "10.1.1.9:1"), format!("{both} as node [100 110 130]"));
}

#[test]
fn a_pod_of_another_node_has_one_answer_where_both_readings_agree() {
    let input = Input { pod_ranges: vec!["10.1.0.0/16".parse().unwrap()], ..unclaimed(service(), []) };
    let found = ways_of(&input, &question(&web(), "10.1.1.9:1"));
    assert_eq!(found[0], "192.0.2.10:80 kube-proxy: reject [100 114 133]");
}

#[test]
fn source_ranges_guard_the_load_balancer_under_either_policy_and_never_a_node_port() {
    for external_local in [true, false] {
        let guarded =
            |range: &str| ServiceInput { external_local, source_ranges: [range.parse().unwrap()].into(), ..service() };
        let first = if external_local { 111 } else { 110 };
        let here = || [slice([pod("10.1.0.1", "n1")])];
        let refused = ways(&unclaimed(guarded("198.51.100.0/24"), here()));
        assert_eq!(refused[0], "192.0.2.10:80 kube-proxy: drop [100 122]");
        assert!(refused[1].ends_with(&format!("[100 {first} 130]")), "{}", refused[1]);
        let accepted = ways(&unclaimed(guarded("203.0.113.0/24"), here()));
        assert!(accepted[0].ends_with(&format!("[100 120 {first} 130]")), "{}", accepted[0]);
        let empty = ways(&unclaimed(guarded("198.51.100.0/24"), []));
        assert_eq!(empty[0], "192.0.2.10:80 kube-proxy: depends [100 122 133]", "its two modes disagree");
    }
}

#[test]
fn what_no_object_tells_is_not_guessed() {
    let other = ServiceInput { other_proxy: true, ..service() };
    assert_eq!(ways(&unclaimed(other, []))[0], "192.0.2.10:80 other proxy: depends [100 141]");
    let mut shared = unclaimed(service(), [slice([pod("10.1.0.1", "n1")])]);
    shared
        .services
        .insert(ServiceKey::new("shop", "other"), ServiceInput { kind: ServiceKind::LoadBalancer, ..cluster() });
    assert_eq!(ways(&shared)[0], "192.0.2.10:80 kube-proxy: depends [100 140]");
}

#[test]
fn a_frontend_of_an_older_claimed_service_goes_to_that_services_pods() {
    let older = ServiceKey::new("shop", "older");
    let mut input = input(service(), [slice([pod("10.1.0.1", "n1")])]);
    input.services.insert(older.clone(), ServiceInput { created: 1, ..service() });
    input.directives.insert(older.clone(), local());
    input.slices.insert(older, [("o".into(), slice([pod("10.1.0.7", "n1")]))].into());
    let found = explain_node(&input, &question(&web(), CLIENT)).unwrap();
    assert_eq!(line(&found.ways[0]), "192.0.2.10:80 portreeve: deliver 10.1.0.7:8080 as client [21 40]");
    assert!(found.ways[0].steps[0].text.contains("belongs to shop/older"));
}

#[test]
fn a_service_that_was_refused_says_for_want_of_what() {
    let mut full = input(service(), [slice([pod("10.1.0.1", "n1")])]);
    full.capacity.frontends = 1;
    assert_eq!(ways(&full)[0], "192.0.2.10:80 kube-proxy: deliver 10.1.0.1:8080 as client [101 111 130]");
}

#[test]
fn only_frontends_of_the_clients_family_at_the_asked_address_are_asked() {
    let dual = ServiceInput {
        families: crate::PerFamily { v4: true, v6: true },
        load_balancer: [ip("192.0.2.10"), ip("2001:db8::10")].into(),
        external_ips: [ip("198.51.100.7")].into(),
        ..service()
    };
    let input = input(dual, []);
    let starts = |found: Vec<String>| -> Vec<String> {
        found.iter().map(|line| line.split(' ').next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(starts(ways(&input)), ["192.0.2.10:80", "198.51.100.7:80", "10.0.0.1:30080"]);
    let six = ways_of(&input, &question(&web(), "[2001:db8:1::1]:1"));
    assert_eq!(starts(six), ["[2001:db8::10]:80", "[fd00::1]:30080"]);
    let web = web();
    for (to, expected) in [("198.51.100.7", "198.51.100.7:80"), ("10.0.0.1", "10.0.0.1:30080")] {
        let asked = Question { to: Some(ip(to)), ..question(&web, CLIENT) };
        assert_eq!(starts(ways_of(&input, &asked)), [expected]);
    }
    let asked = Question { to: Some(ip("10.0.0.2")), ..question(&web, CLIENT) };
    assert_eq!(ways_of(&input, &asked), Vec::<String>::new(), "the address of another node is none of this one");
}

#[test]
fn the_health_check_counts_ready_pods_of_this_node() {
    let mixed = [slice([pod("10.1.0.1", "n1"), draining("10.1.0.2", "n1"), pod("10.1.0.3", "n2")])];
    let asked = |service| explain_node(&unclaimed(service, mixed.clone()), &question(&web(), CLIENT)).unwrap().health;
    assert_eq!(asked(service()), Some(Health { port: 32000, ready: 1 }));
    assert_eq!(asked(cluster()), None);
    assert_eq!(explain_node(&Input::default(), &question(&web(), CLIENT)), None);
}

proptest! {
    /// The promise of mode Local with `onNoLocal: Drop`: nothing but the proxy changes.
    #[test]
    fn in_any_world_the_table_drops_and_delivers_as_kube_proxy_would(
        service in any_service(), slices in prop::collection::vec(any_slice(), 0..4), outside in 0..2_usize,
    ) {
        let service = ServiceInput { external_local: true, ..service };
        let claimed = input(service.clone(), slices.clone());
        let left = unclaimed(service, slices);
        for client in [["203.0.113.7:1", "10.9.9.9:1"][outside], "[2001:db8:1::1]:1"] {
            let answers = [&claimed, &left].map(|input| explain_node(input, &question(&web(), client)).expect("there"));
            prop_assert_eq!(answers[0].ways.len(), answers[1].ways.len());
            for (ours, theirs) in answers[0].ways.iter().zip(&answers[1].ways) {
                // Refused and without a Pod anywhere: kube-proxy's own modes disagree.
                if theirs.outcome != Outcome::Depends {
                    prop_assert_eq!(&ours.outcome, &theirs.outcome, "{:?}\n{:?}", ours, theirs);
                }
            }
        }
    }
}
