use super::*;

fn service(spec: serde_json::Value) -> Service {
    serde_json::from_value(serde_json::json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "s", "annotations": {PROXY_PROTOCOL_ANNOTATION: "v2"}},
        "spec": spec,
    }))
    .unwrap()
}

#[test]
fn local_is_checked_at_its_own_port_and_cluster_at_kube_proxy_s() {
    let mut spec = serde_json::json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000,
        "ipFamilies": ["IPv6", "IPv4"],
        "ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "nodePort": 30053, "protocol": "UDP"}],
    });
    let local = Wanted::by(&service(spec.clone()), Kind::Forwarder).unwrap();
    assert_eq!((local.check_port, local.kind), (31000, Kind::Forwarder));
    assert_eq!(local.ports, [PortPair { port: 80, node_port: 30080 }]);
    assert_eq!(local.proxy_protocol, Some(ProxyProtocol::V2));
    let vips = local.vips(crate::fabric::plan::routed_vip(3));
    assert_eq!(vips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["2001:db8:100::3", "198.51.100.3"]);
    spec["externalTrafficPolicy"] = "Cluster".into();
    assert_eq!(Wanted::by(&service(spec), Kind::Forwarder).unwrap().check_port, 10256);
}

#[test]
fn the_class_chooses_the_kind_and_a_foreign_class_is_left_alone() {
    for kind in [Kind::Forwarder, Kind::Proxy, Kind::Announcer] {
        let spec = serde_json::json!({"type": "LoadBalancer", "loadBalancerClass": kind.class()});
        assert_eq!(Wanted::by(&service(spec), Kind::Proxy).unwrap().kind, kind);
    }
    let foreign = serde_json::json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/other"});
    assert_eq!(Wanted::by(&service(foreign), Kind::Proxy), None);
    assert_eq!(Wanted::by(&service(serde_json::json!({"type": "NodePort"})), Kind::Proxy), None);
}
