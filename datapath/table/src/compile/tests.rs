use super::*;
use crate::claim::ClaimReason;
use crate::input::{Capacity, Mode, ServiceKind, SlicePort};
use crate::key::Protocol;
use crate::table::{ClaimedMode, Hop, Standing};
use crate::testing::*;

fn entry(input: &Input) -> Arc<ServiceEntry> {
    Arc::clone(compile(input).table.services.get(&web()).expect("the Service is claimed"))
}

fn pods(port: &PortEntry) -> Vec<String> {
    port.targets
        .iter()
        .map(|target| match target.hop {
            Hop::Pod(address) => address.to_string(),
        })
        .collect()
}

fn left(service: ServiceInput) -> Option<Claim> {
    compile(&input(service, [])).claims.get(&web()).copied()
}

#[test]
fn ready_local_pods_take_new_flows_and_remote_ones_do_not() {
    let entry = entry(&input(service(), [slice([pod("10.1.0.1", "n1"), pod("10.1.0.2", "n2")])]));
    assert_eq!(entry.ports[0].standing, Standing::LocalReady);
    assert_eq!(pods(&entry.ports[0]), ["10.1.0.1:8080"]);
}

#[test]
fn terminating_local_pods_take_new_flows_only_while_no_local_one_is_ready() {
    let both = entry(&input(service(), [slice([pod("10.1.0.1", "n1"), draining("10.1.0.2", "n1")])]));
    assert_eq!(pods(&both.ports[0]), ["10.1.0.1:8080"]);
    let alone = entry(&input(service(), [slice([draining("10.1.0.2", "n1"), pod("10.1.0.3", "n2")])]));
    assert_eq!(alone.ports[0].standing, Standing::LocalDraining);
    assert_eq!(pods(&alone.ports[0]), ["10.1.0.2:8080"]);
}

#[test]
fn a_node_without_pods_knows_whether_another_node_has_some() {
    let standing = |endpoints: &[crate::input::EndpointInput]| {
        entry(&input(service(), [slice(endpoints.to_vec())])).ports[0].standing
    };
    assert_eq!(standing(&[pod("10.1.0.2", "n2")]), Standing::Elsewhere);
    assert_eq!(standing(&[draining("10.1.0.2", "n2")]), Standing::Elsewhere);
    assert_eq!(standing(&[unready("10.1.0.1", "n1"), unready("10.1.0.2", "n2")]), Standing::Nowhere);
    assert_eq!(standing(&[]), Standing::Nowhere);
}

#[test]
fn an_endpoint_without_a_node_is_never_local() {
    let nowhere = crate::input::EndpointInput { node: None, ..pod("10.1.0.1", "n1") };
    assert_eq!(entry(&input(service(), [slice([nowhere])])).ports[0].standing, Standing::Elsewhere);
}

#[test]
fn a_pod_in_two_slices_counts_once_and_ready_wins_in_either_order() {
    let (ready, not) = (slice([pod("10.1.0.1", "n1")]), slice([unready("10.1.0.1", "n1")]));
    for slices in [[ready.clone(), not.clone()], [not, ready]] {
        let entry = entry(&input(service(), slices));
        assert_eq!(pods(&entry.ports[0]), ["10.1.0.1:8080"]);
        assert_eq!(entry.local_ready.v4, 1);
    }
}

#[test]
fn the_health_count_is_of_unique_ready_local_addresses_over_all_ports() {
    let ports = [("http", 8080), ("admin", 9090)].map(|(name, port)| SlicePort {
        name: name.into(),
        protocol: Protocol::Tcp,
        port,
    });
    let two_ports = SliceInput {
        ports: ports.into(),
        ..slice([pod("10.1.0.1", "n1"), draining("10.1.0.2", "n1"), pod("10.1.0.3", "n2")])
    };
    let entry = entry(&input(service(), [two_ports, slice([pod("10.1.0.4", "n1")])]));
    assert_eq!(entry.local_ready, PerFamily { v4: 2, v6: 0 });
}

#[test]
fn each_family_has_its_own_frontends_and_targets() {
    let dual = ServiceInput {
        families: PerFamily { v4: true, v6: true },
        load_balancer: [ip("192.0.2.10"), ip("2001:db8::10")].into(),
        ..service()
    };
    let entry = entry(&input(dual, [slice([pod("10.1.0.1", "n1")]), slice([pod("fd01::1", "n2")])]));
    let families: Vec<_> = entry.ports.iter().map(|port| (port.family, port.standing, port.frontends.len())).collect();
    assert_eq!(families, [(Family::V4, Standing::LocalReady, 2), (Family::V6, Standing::Elsewhere, 2)]);
    assert!(entry.ports.iter().all(|port| {
        port.frontends.iter().all(|front| match front.frontend.host {
            FrontendHost::Address(address) => Family::of(address) == port.family,
            FrontendHost::NodePort(family) => family == port.family,
        })
    }));
}

#[test]
fn an_address_of_a_family_that_the_service_does_not_serve_is_no_frontend() {
    let v6_only = ServiceInput { families: PerFamily { v4: false, v6: true }, ..service() };
    let entry = entry(&input(v6_only, []));
    let hosts: Vec<_> = entry.frontends().map(|front| front.frontend.host).collect();
    assert_eq!(hosts, [FrontendHost::NodePort(Family::V6)]);
}

#[test]
fn ports_of_equal_number_and_different_protocol_are_different_frontends() {
    let dns = ServiceInput {
        ports: [
            port("tcp", Protocol::Tcp, 53, 30053),
            port("udp", Protocol::Udp, 53, 30053),
            port("sctp", Protocol::Sctp, 53, 30053),
        ]
        .into(),
        ..service()
    };
    let udp = SliceInput {
        ports: [SlicePort { name: "udp".into(), protocol: Protocol::Udp, port: 5353 }].into(),
        ..slice([pod("10.1.0.1", "n1")])
    };
    let entry = entry(&input(dns, [udp]));
    let standings: Vec<_> = entry.ports.iter().map(|port| (port.protocol, port.standing)).collect();
    assert_eq!(
        standings,
        [
            (Protocol::Tcp, Standing::Nowhere),
            (Protocol::Udp, Standing::LocalReady),
            (Protocol::Sctp, Standing::Nowhere)
        ]
    );
    assert_eq!(entry.frontends().count(), 6);
}

#[test]
fn a_slice_port_of_the_same_name_and_another_protocol_does_not_match() {
    let other = SliceInput {
        ports: [SlicePort { name: "http".into(), protocol: Protocol::Udp, port: 8080 }].into(),
        ..slice([pod("10.1.0.1", "n1")])
    };
    assert_eq!(entry(&input(service(), [other])).ports[0].standing, Standing::Nowhere);
}

#[test]
fn every_reason_to_leave_a_service_is_found_and_in_order() {
    let base = service();
    let cases = [
        (ClaimReason::HasServiceProxyName, ServiceInput { other_proxy: true, ignored: true, ..base.clone() }),
        (ClaimReason::Ignored, ServiceInput { ignored: true, headless: true, ..base.clone() }),
        (ClaimReason::Headless, ServiceInput { headless: true, kind: ServiceKind::ClusterIp, ..base.clone() }),
        (ClaimReason::NotExternal, ServiceInput { kind: ServiceKind::ClusterIp, ..base.clone() }),
        (ClaimReason::NotExternal, ServiceInput { kind: ServiceKind::ExternalName, headless: true, ..base.clone() }),
        (ClaimReason::PolicyCluster, ServiceInput { external_local: false, ..base.clone() }),
    ];
    for (reason, service) in cases {
        assert_eq!(left(service), Some(Claim::Left(reason)));
    }
    let mut without = input(base.clone(), []);
    without.directives.clear();
    assert_eq!(compile(&without).claims[&web()], Claim::Left(ClaimReason::NoDirective));
    without.directives.insert(web(), Directive::default());
    assert_eq!(compile(&without).claims[&web()], Claim::Left(ClaimReason::DirectiveOff));
    let bare = ServiceInput { load_balancer: [].into(), ports: [no_node_port()].into(), ..base };
    assert_eq!(left(bare.clone()), Some(Claim::Left(ClaimReason::NoFrontend)));
    assert_eq!(left(ServiceInput { proxied_addresses: 1, ..bare }), Some(Claim::Left(ClaimReason::IpModeProxy)));
}

fn no_node_port() -> PortInput {
    PortInput { node_port: None, ..port("http", Protocol::Tcp, 80, 1) }
}

#[test]
fn a_cluster_ip_service_with_external_ips_is_external() {
    let service = ServiceInput {
        kind: ServiceKind::ClusterIp,
        load_balancer: [].into(),
        external_ips: [ip("198.51.100.7")].into(),
        ports: [no_node_port()].into(),
        ..service()
    };
    assert_eq!(left(service), Some(Claim::Claimed(ClaimedMode::Local)));
}

#[test]
fn source_ranges_guard_load_balancer_addresses_and_node_ports_only_on_request() {
    let ranged = ServiceInput {
        external_ips: [ip("198.51.100.7")].into(),
        source_ranges: ["203.0.113.0/24".parse().unwrap()].into(),
        ..service()
    };
    let guards =
        |input: &Input| -> Vec<_> { entry(input).frontends().map(|front| (front.kind, front.guarded)).collect() };
    let mut input = input(ranged, []);
    let plain = guards(&input);
    assert!(plain.contains(&(FrontendKind::LoadBalancer, true)));
    assert!(plain.contains(&(FrontendKind::ExternalIp, false)));
    assert!(plain.contains(&(FrontendKind::NodePort, false)));
    input.directives.insert(web(), Directive { source_ranges_on_node_ports: true, ..local() });
    assert!(guards(&input).contains(&(FrontendKind::NodePort, true)));
}

#[test]
fn a_zero_range_opens_its_family_and_ranges_of_one_family_leave_the_other_open() {
    let filter = |ranges: &[&str]| {
        let ranges = ranges.iter().map(|range| range.parse().unwrap()).collect();
        entry(&input(ServiceInput { source_ranges: ranges, ..service() }, [])).sources.clone()
    };
    assert_eq!(filter(&["203.0.113.0/24", "0.0.0.0/0"]).v4, SourceFilter::Open);
    let one = filter(&["203.0.113.9/24", "203.0.113.0/24"]);
    assert_eq!(
        one.v4,
        SourceFilter::Only { ranges: vec!["203.0.113.0/24".parse().unwrap()], own_address: false },
        "host bits are cut off and duplicates are one"
    );
    assert_eq!(one.v6, SourceFilter::Open);
    assert!(matches!(filter(&["10.0.0.0/8"]).v4, SourceFilter::Only { own_address: true, .. }));
}

#[test]
fn the_nodes_own_address_is_the_first_of_the_family_as_kube_proxy_knows_but_that() {
    let own = |range: &str| {
        let ranged = ServiceInput { source_ranges: [range.parse().unwrap()].into(), ..service() };
        let mut input = input(ranged, []);
        input.this_node.addresses = ["fd00::1", "10.0.0.1", "198.51.100.9"].map(ip).into();
        matches!(entry(&input).sources.v4, SourceFilter::Only { own_address: true, .. })
    };
    assert!(own("10.0.0.0/8"));
    assert!(!own("198.51.100.0/24"));
}

#[test]
fn an_address_that_is_a_load_balancers_and_external_is_guarded() {
    let service = ServiceInput { external_ips: [ip("192.0.2.10")].into(), ..service() };
    let entry = entry(&input(service, []));
    let kinds: Vec<_> = entry.frontends().map(|front| front.kind).collect();
    assert_eq!(kinds, [FrontendKind::LoadBalancer, FrontendKind::NodePort]);
}

/// Three Services of one port each (two frontends, one backend), created in the order of their names.
fn three(capacity: Capacity) -> Compiled {
    let mut input = input(service(), []);
    input.services.clear();
    input.capacity = capacity;
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        let (key, number) = (ServiceKey::new("shop", name), u16::try_from(number).unwrap());
        let ports = [port("http", Protocol::Tcp, 80 + number, 30080 + number)].into();
        input.services.insert(key.clone(), ServiceInput { created: i64::from(number), ports, ..service() });
        input.directives.insert(key.clone(), local());
        input.slices.insert(key, [("0".into(), slice([pod("10.1.0.1", "n1")]))].into());
    }
    compile(&input)
}

#[test]
fn capacity_refuses_the_newest_service_as_a_whole() {
    let compiled = three(Capacity { frontends: 5, backends: 10 });
    let names: Vec<_> = compiled.table.services.keys().map(|key| &*key.name).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(compiled.refused[&ServiceKey::new("shop", "c")], Refusal::Frontends { needed: 2, left: 1 });
    assert_eq!((compiled.counts.claimed, compiled.counts.refused, compiled.counts.frontends), (2, 1, 4));
    let backends = three(Capacity { frontends: 100, backends: 2 });
    assert_eq!(backends.refused[&ServiceKey::new("shop", "c")], Refusal::Backends { needed: 1, left: 0 });
}

#[test]
fn of_two_services_with_one_frontend_the_older_has_it() {
    let mut input = input(service(), []);
    let thief = ServiceKey::new("evil", "web");
    input.services.insert(thief.clone(), ServiceInput { created: 200, ..service() });
    input.directives.insert(thief.clone(), local());
    let compiled = compile(&input);
    assert!(compiled.table.services.contains_key(&web()));
    assert!(matches!(&compiled.refused[&thief], Refusal::Taken { by, .. } if *by == web()));
}

#[test]
fn observe_and_balance_claim_in_their_own_mode() {
    for (mode, claimed) in [(Mode::Observe, ClaimedMode::Observe), (Mode::Balance, ClaimedMode::Balance)] {
        let mut input = input(service(), []);
        input.directives.insert(web(), Directive { mode, ..Directive::default() });
        assert_eq!(entry(&input).mode, claimed);
    }
}
