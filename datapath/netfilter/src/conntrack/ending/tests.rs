use super::*;
use crate::nftables::testing::{observed, port, service, table};
use portreeve_table::Protocol::{Tcp, Udp};
use portreeve_table::diff;

const CLIENT: &str = "198.51.100.1:5000";
const PODS: [&str; 2] = ["10.244.0.2:8080", "10.244.0.3:8080"];

fn web(pods: &[&str]) -> ServiceEntry {
    service([port(Tcp, &["192.0.2.10"], 80, 30080, pods), port(Udp, &["192.0.2.10"], 80, 30080, pods)])
}

/// What ends between two tables, of flows that are judged by the second.
fn endings(before: &ForwardingTable, after: &ForwardingTable) -> Endings {
    let mut endings = Endings::default();
    endings.note(&diff(&ForwardingTable::default(), before), before);
    endings.note(&diff(before, after), after);
    endings
}

impl Endings {
    /// Whether `flow` must end.
    fn has(&self, flow: &Flow, table: &ForwardingTable) -> bool {
        let mut flows = vec![flow.clone()];
        self.retain(&mut flows, table);
        !flows.is_empty()
    }
}

#[test]
fn flows_through_any_frontend_of_the_service_to_the_pod_that_is_gone_end() {
    let after = table([("web", web(&PODS[..1]))]);
    let endings = endings(&table([("web", web(&PODS))]), &after);
    let ends = |protocol, from: &str, to: &str, pod: &str| endings.has(&Flow::sample(protocol, from, to, pod), &after);
    assert!(ends(Tcp, CLIENT, "192.0.2.10:80", PODS[1]));
    assert!(ends(Udp, CLIENT, "192.0.2.10:80", PODS[1]));
    assert!(ends(Udp, CLIENT, "198.51.100.254:30080", PODS[1]), "the node port");
    assert!(!ends(Tcp, CLIENT, "192.0.2.10:80", PODS[0]), "another Pod");
    assert!(!ends(Tcp, CLIENT, "192.0.2.11:80", PODS[1]), "another Service");
    assert!(!ends(Tcp, CLIENT, "192.0.2.10:81", PODS[1]), "another port");
    assert!(!ends(Tcp, CLIENT, "192.0.2.12:30080", PODS[1]), "the node port at an address that is not the node's");
}

#[test]
fn flows_that_our_rules_cannot_have_taken_go_on() {
    let after = table([("web", web(&[]))]);
    let endings = endings(&table([("web", web(&PODS))]), &after);
    let flow = |from: &str| Flow::sample(Tcp, from, "192.0.2.10:80", PODS[0]);
    assert!(endings.has(&flow(CLIENT), &after));
    assert!(!endings.has(&flow("10.244.7.7:5000"), &after), "from a Pod");
    assert!(!endings.has(&flow("198.51.100.254:5000"), &after), "from the node");
    assert!(!endings.has(&flow("192.0.2.10:5000"), &after), "from an address of the Service on the node");
    let mut hidden = flow(CLIENT);
    hidden.answered = "10.244.0.1".parse().unwrap();
    assert!(!endings.has(&hidden, &after), "with another source behind the node");
    let observed = |pods: &[&str]| table([("web", observed(web(pods)))]);
    assert!(self::endings(&observed(&PODS), &observed(&[])).is_empty(), "of a Service that is only observed");
}

#[test]
fn flows_of_a_frontend_that_leaves_together_with_the_pod_end() {
    let moved = service([port(Tcp, &["192.0.2.11"], 80, 0, &PODS[..1])]);
    let after = table([("web", moved)]);
    let endings = endings(&table([("web", web(&PODS))]), &after);
    for frontend in ["192.0.2.10:80", "192.0.2.11:80"] {
        assert!(endings.has(&Flow::sample(Tcp, CLIENT, frontend, PODS[1]), &after), "{frontend}");
    }
}

#[test]
fn a_pod_that_comes_back_keeps_what_was_not_ended_yet() {
    let (both, one) = (table([("web", web(&PODS))]), table([("web", web(&PODS[..1]))]));
    let mut endings = endings(&both, &one);
    assert_eq!(endings.pods().count(), 2, "one of each transport");
    endings.drop_those_kept(&one);
    assert_eq!(endings.pods().count(), 2);
    endings.drop_those_kept(&both);
    assert!(endings.is_empty());
}

#[test]
fn the_owner_of_a_flow_is_found_by_address_before_node_port() {
    let table = table([
        ("nodeport", service([port(Tcp, &["192.0.2.10"], 80, 30080, &PODS)])),
        ("external", service([port(Tcp, &["198.51.100.254"], 30080, 0, &PODS)])),
        ("seen", observed(service([port(Tcp, &["192.0.2.20"], 80, 0, &PODS)]))),
    ]);
    let owners = Owners::of(&table);
    let owner = |to: &str| owners.find(&Flow::sample(Tcp, CLIENT, to, PODS[0])).map(|key| key.name.to_string());
    assert_eq!(owner("198.51.100.254:30080").as_deref(), Some("external"));
    assert_eq!(owner("192.0.2.10:80").as_deref(), Some("nodeport"));
    assert_eq!(owner("192.0.2.20:80"), None, "what is only observed is another's");
    assert_eq!(owner("192.0.2.30:80"), None);
}

/// What ends with the last of several tables.
fn after_all(tables: &[ForwardingTable]) -> Endings {
    let (mut endings, mut before) = (Endings::default(), ForwardingTable::default());
    for table in tables {
        endings.note(&diff(&before, table), table);
        before = table.clone();
    }
    endings
}

#[test]
fn flows_of_a_frontend_that_was_given_up_before_the_pod_went_end_with_it() {
    let at = |address: &str, pods: &[&str]| service([port(Tcp, &[address], 80, 0, pods)]);
    let flow = Flow::sample(Tcp, CLIENT, "192.0.2.10:80", PODS[0]);
    let moved = [table([("web", at("192.0.2.10", &PODS))]), table([("web", at("192.0.2.11", &PODS))])];
    assert!(after_all(&moved).is_empty(), "its Pod is there");
    let gone = table([("web", at("192.0.2.11", &PODS[1..]))]);
    let all = [moved[0].clone(), moved[1].clone(), gone.clone()];
    assert!(after_all(&all).has(&flow, &gone));
    assert!(!after_all(&all[1..]).has(&flow, &gone), "it never had that frontend");
    let taken = |pods: &[&str]| table([("web", at("192.0.2.11", &PODS[1..])), ("other", at("192.0.2.10", pods))]);
    for (pods, ends) in [(&PODS[..1], false), (&PODS[1..], true)] {
        let all = [moved[0].clone(), moved[1].clone(), taken(pods)];
        assert_eq!(after_all(&all).has(&flow, &taken(pods)), ends, "another Service has the frontend, with {pods:?}");
    }
}

#[test]
fn a_service_that_comes_back_without_a_pod_has_lost_it_meanwhile() {
    let web = |pods: &[&str]| table([("web", web(pods))]);
    let flow = Flow::sample(Udp, CLIENT, "198.51.100.254:30080", PODS[0]);
    assert!(after_all(&[web(&PODS), table([])]).is_empty(), "it may live");
    let last = web(&PODS[1..]);
    assert!(after_all(&[web(&PODS), table([]), last.clone()]).has(&flow, &last));
    assert!(after_all(&[web(&PODS), table([]), web(&PODS), table([]), web(&PODS)]).is_empty());
    let seen = table([("web", observed(self::web(&PODS)))]);
    assert!(after_all(&[seen, table([]), last]).is_empty(), "it was only observed");
}

#[test]
fn flows_of_a_service_that_leaves_together_with_its_pods_end_if_the_steps_say_so() {
    let (before, after) = (table([("web", web(&PODS))]), table([]));
    let mut endings = after_all(std::slice::from_ref(&before));
    let gone =
        |pod: &str| Op::Gone { service: ServiceKey::new("shop", "web"), protocol: Tcp, pod: pod.parse().unwrap() };
    let mut steps = diff(&before, &after);
    steps.push(gone(PODS[0]));
    endings.note(&steps, &after);
    let flow = |protocol, pod| Flow::sample(protocol, CLIENT, "192.0.2.10:80", pod);
    let ends = |endings: &Endings, protocol, pod| endings.has(&flow(protocol, pod), &after);
    assert!(ends(&endings, Tcp, PODS[0]) && !ends(&endings, Tcp, PODS[1]) && !ends(&endings, Udp, PODS[0]));
    endings.note(&[gone(PODS[1])], &after);
    assert!(ends(&endings, Tcp, PODS[1]), "and if later steps do");
}

#[test]
fn flows_to_an_address_that_the_node_had_end_as_well() {
    let (before, mut after) = (table([("web", web(&PODS))]), table([("web", web(&PODS[1..]))]));
    after.node_addresses = vec!["198.51.100.253".parse().unwrap()];
    let endings = after_all(&[before, after.clone()]);
    for (to, ends) in [("198.51.100.254", true), ("198.51.100.253", true), ("198.51.100.252", false)] {
        let flow = Flow::sample(Tcp, CLIENT, &format!("{to}:30080"), PODS[0]);
        assert_eq!(endings.has(&flow, &after), ends, "{to}");
    }
}

#[test]
fn no_more_is_remembered_of_what_was_than_there_is_room_for() {
    let mut endings = Endings::default();
    let mut before = ForwardingTable::default();
    for number in 0..u16::try_from(LEFT + 10).unwrap() {
        let name = number.to_string();
        let entry = |number| service([port(Tcp, &["192.0.2.10"], number, 0, &PODS)]);
        for table in
            [table([(name.as_str(), entry(number + 1))]), table([(name.as_str(), entry(number + 2))]), table([])]
        {
            endings.note(&diff(&before, &table), &table);
            before = table;
        }
    }
    let Past { told, left, former, .. } = &endings.past;
    assert_eq!((told.len(), left.len(), former.len()), (0, LEFT, LEFT + 10));
    assert_eq!(left.front().unwrap().0.name.as_ref(), "10");
}
