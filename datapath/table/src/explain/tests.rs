use crate::claim::ClaimReason;
use crate::compile;
use crate::input::{Capacity, Directive, Input, Mode, OnNoLocal, ServiceInput};
use crate::key::ServiceKey;
use crate::testing::*;

fn explained(input: &Input) -> String {
    compile(input).explain_claim(&web())
}

#[test]
fn a_claimed_service_is_explained_frontend_by_frontend() {
    let service = ServiceInput {
        source_ranges: ["10.0.0.0/8".parse().unwrap(), "203.0.113.0/24".parse().unwrap()].into(),
        affinity_seconds: Some(600),
        ..service()
    };
    insta::assert_snapshot!(explained(&input(service, [slice([pod("10.1.0.1", "n1"), pod("10.1.0.2", "n1")])])), @r"
    shop/web is claimed: mode Local; a client keeps its Pod for 600 s; health check port 32000 sees 2 IPv4 and 0 IPv6 Pods here.
      192.0.2.10:80/tcp: new flows go to Pods of this node: 10.1.0.1:8080, 10.1.0.2:8080; only from 10.0.0.0/8, 203.0.113.0/24 and the Service's own load balancer addresses
      node port 30080/tcp (IPv4): new flows go to Pods of this node: 10.1.0.1:8080, 10.1.0.2:8080
    ");
}

#[test]
fn a_node_without_pods_says_what_happens_to_new_flows() {
    let texts: Vec<String> = [OnNoLocal::Drop, OnNoLocal::Reject, OnNoLocal::Passthrough, OnNoLocal::Forward]
        .into_iter()
        .map(|on_no_local| {
            let mut input = input(service(), [slice([pod("10.1.0.2", "n2")])]);
            input.directives.insert(web(), Directive { on_no_local, ..local() });
            explained(&input)
        })
        .collect();
    insta::assert_snapshot!(texts.join("\n"), @r"
    shop/web is claimed: mode Local; health check port 32000 sees 0 IPv4 and 0 IPv6 Pods here.
      192.0.2.10:80/tcp: no Pod here, some elsewhere: new flows are dropped
      node port 30080/tcp (IPv4): no Pod here, some elsewhere: new flows are dropped

    shop/web is claimed: mode Local; health check port 32000 sees 0 IPv4 and 0 IPv6 Pods here.
      192.0.2.10:80/tcp: no Pod here, some elsewhere: new flows are rejected
      node port 30080/tcp (IPv4): no Pod here, some elsewhere: new flows are rejected

    shop/web is claimed: mode Local; health check port 32000 sees 0 IPv4 and 0 IPv6 Pods here.
      192.0.2.10:80/tcp: no Pod here, some elsewhere: new flows are left to kube-proxy
      node port 30080/tcp (IPv4): no Pod here, some elsewhere: new flows are left to kube-proxy

    shop/web is claimed: mode Local; health check port 32000 sees 0 IPv4 and 0 IPv6 Pods here.
      192.0.2.10:80/tcp: no Pod here, some elsewhere: new flows are for another node
      node port 30080/tcp (IPv4): no Pod here, some elsewhere: new flows are for another node
    ");
}

#[test]
fn draining_nowhere_observe_and_refused_have_their_own_sentences() {
    let draining = explained(&input(service(), [slice([draining("10.1.0.1", "n1")])]));
    let mut observed = input(service(), []);
    observed.directives.insert(web(), Directive { mode: Mode::Observe, ..local() });
    let mut full = input(service(), []);
    full.capacity = Capacity { frontends: 1, backends: 1 };
    let unknown = compile(&full).explain_claim(&ServiceKey::new("shop", "nobody"));
    insta::assert_snapshot!([draining, explained(&observed), explained(&full), unknown].join("\n"), @r"
    shop/web is claimed: mode Local; health check port 32000 sees 0 IPv4 and 0 IPv6 Pods here.
      192.0.2.10:80/tcp: new flows go to Pods of this node that are terminating, since none is ready: 10.1.0.1:8080
      node port 30080/tcp (IPv4): new flows go to Pods of this node that are terminating, since none is ready: 10.1.0.1:8080

    shop/web is claimed: mode Observe (counted only; kube-proxy serves); health check port 32000 sees 0 IPv4 and 0 IPv6 Pods here.
      192.0.2.10:80/tcp: no Pod anywhere: new flows are rejected
      node port 30080/tcp (IPv4): no Pod anywhere: new flows are rejected

    shop/web is left to kube-proxy: it needs 2 frontends and older Services leave room for 1.

    shop/nobody is not known to this node.
    ");
}

#[test]
fn every_reason_has_a_sentence_of_its_own() {
    let sentences: Vec<String> =
        ClaimReason::ALL.iter().map(|reason| format!("{reason:?}: {}", reason.sentence())).collect();
    insta::assert_snapshot!(sentences.join("\n"), @r"
    HasServiceProxyName: its label service.kubernetes.io/service-proxy-name gives it to another service proxy
    Ignored: its label portreeve.io/ignore opts it out
    Headless: it is headless: clients talk to its Pods directly
    NotExternal: clients outside the cluster cannot address it: it has neither a node port, a load balancer nor externalIPs
    PolicyCluster: its externalTrafficPolicy is Cluster
    NoDirective: no ServiceTraffic says what to do with it
    DirectiveOff: its ServiceTraffic says Off: no policy asks for the data path
    IpModeProxy: its load balancer addresses have ipMode Proxy, and it has no node port
    NoFrontend: it has no load balancer address yet, and no node port
    ");
}
