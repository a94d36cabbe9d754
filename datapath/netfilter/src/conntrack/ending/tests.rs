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
    let known = |key: &ServiceKey| before.services.get(key).map(AsRef::as_ref);
    endings.note(&diff(before, after), known, after);
    endings
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
