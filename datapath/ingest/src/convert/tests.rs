use super::*;
use serde_json::{Value, json};

fn read(value: Value) -> Result<ServiceInput, ConvertError> {
    service(&serde_json::from_value(value).unwrap(), &mut Names::default())
}

fn web(spec: Value) -> Value {
    json!({"metadata": {"name": "web", "namespace": "shop", "creationTimestamp": "2026-01-02T03:04:05Z"}, "spec": spec})
}

#[test]
fn a_load_balancer_service_keeps_what_decides_a_packet() {
    let mut object = web(json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "clusterIP": "10.96.0.1", "ipFamilies": ["IPv4", "IPv6"],
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}, {"name": "dns", "protocol": "UDP", "port": 53}],
        "loadBalancerSourceRanges": [" 203.0.113.0/24 "], "healthCheckNodePort": 32000,
        "sessionAffinity": "ClientIP", "externalIPs": ["198.51.100.7"],
    }));
    object["status"] = json!({"loadBalancer": {"ingress": [
        {"ip": "192.0.2.10"}, {"ip": "2001:db8::10", "ipMode": "VIP"}, {"ip": "192.0.2.11", "ipMode": "Proxy"}, {"hostname": "lb.example"},
    ]}});
    let input = read(object).unwrap();
    assert_eq!(input.kind, ServiceKind::LoadBalancer);
    assert!(input.external_local && !input.headless && !input.other_proxy && !input.ignored);
    assert_eq!(input.created, 1_767_323_045);
    assert_eq!(input.families, PerFamily { v4: true, v6: true });
    assert_eq!(*input.load_balancer, ["192.0.2.10", "2001:db8::10"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    assert_eq!(input.proxied_addresses, 1);
    assert_eq!(*input.source_ranges, ["203.0.113.0/24".parse::<IpNet>().unwrap()]);
    assert_eq!((input.affinity_seconds, input.health_check_node_port), (Some(10_800), Some(32000)));
    let ports: Vec<_> =
        input.ports.iter().map(|port| (&*port.name, port.protocol, port.port, port.node_port)).collect();
    assert_eq!(ports, [("http", Protocol::Tcp, 80, Some(30080)), ("dns", Protocol::Udp, 53, None)]);
}

#[test]
fn addresses_of_a_former_load_balancer_are_not_frontends() {
    let mut object = web(json!({"type": "NodePort"}));
    object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.10"}]}});
    assert!(read(object).unwrap().load_balancer.is_empty());
}

#[test]
fn labels_opt_out_by_value_or_by_presence() {
    let labelled = |key: &str, value: &str| {
        let mut object = web(json!({}));
        object["metadata"]["labels"] = json!({key: value});
        read(object).unwrap()
    };
    assert!(labelled(names::LABEL_IGNORE, "true").ignored);
    assert!(!labelled(names::LABEL_IGNORE, "false").ignored);
    assert!(labelled(SERVICE_PROXY_NAME, "").other_proxy);
}

#[test]
fn families_of_an_old_object_follow_its_cluster_address() {
    let of = |spec| read(web(spec)).unwrap().families;
    assert_eq!(of(json!({"clusterIP": "fd00::1"})), PerFamily { v4: false, v6: true });
    assert_eq!(of(json!({"clusterIP": "10.96.0.1"})), PerFamily { v4: true, v6: false });
    assert_eq!(of(json!({"clusterIP": "None"})), PerFamily { v4: true, v6: false });
}

#[test]
fn a_field_that_cannot_be_read_is_named() {
    let port = |port: Value| json!({"ports": [port]});
    let cases = [
        json!({"type": "Mystery"}),
        json!({"externalIPs": ["10.0.0.300"]}),
        json!({"loadBalancerSourceRanges": ["anywhere"]}),
        port(json!({"port": 70000})),
        port(json!({"port": 80, "nodePort": -1})),
        port(json!({"port": 80, "protocol": "QUIC"})),
        json!({"healthCheckNodePort": 65536}),
    ];
    let errors: Vec<String> = cases.map(|spec| read(web(spec)).unwrap_err().to_string()).into();
    insta::assert_snapshot!(errors.join("\n"), @r#"
    spec.type "Mystery" is unknown
    spec.externalIPs "10.0.0.300" is no IP address
    spec.loadBalancerSourceRanges "anywhere" is no address range
    spec.ports.port 70000 is no port
    spec.ports.nodePort -1 is no port
    protocol "QUIC" is unknown
    spec.healthCheckNodePort 65536 is no port
    "#);
}

fn read_slice(value: Value) -> Result<Option<(ServiceKey, SliceInput)>, ConvertError> {
    slice(&serde_json::from_value(value).unwrap(), &mut Names::default())
}

fn web_slice(endpoints: Value) -> Value {
    json!({
        "metadata": {"name": "web-x", "namespace": "shop", "labels": {SERVICE_NAME: "web"}}, "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}, {"name": "all"}], "endpoints": endpoints,
    })
}

#[test]
fn absent_conditions_mean_ready_serving_and_not_terminating() {
    let (key, input) = read_slice(web_slice(json!([
        {"addresses": ["10.1.0.1"], "nodeName": "n1"},
        {"addresses": ["10.1.0.2"], "conditions": {"ready": false}},
        {"addresses": ["10.1.0.3"], "conditions": {"ready": false, "serving": false, "terminating": true}},
        {"addresses": []},
    ])))
    .unwrap()
    .unwrap();
    assert_eq!(key, ServiceKey::new("shop", "web"));
    assert_eq!(input.ports.len(), 1, "a port without a number matches nothing");
    let states: Vec<_> = input.endpoints.iter().map(|seen| (seen.ready, seen.serving, seen.terminating)).collect();
    assert_eq!(states, [(true, true, false), (false, true, false), (false, false, true)]);
    assert_eq!(input.endpoints[0].node.as_deref(), Some("n1"));
}

#[test]
fn slices_without_a_service_or_with_names_are_nothing_and_bad_ones_an_error() {
    let mut orphan = web_slice(json!([]));
    orphan["metadata"]["labels"] = json!({});
    assert_eq!(read_slice(orphan), Ok(None));
    let mut fqdn = web_slice(json!([{"addresses": ["a.example"]}]));
    fqdn["addressType"] = json!("FQDN");
    assert_eq!(read_slice(fqdn), Ok(None));
    assert!(read_slice(web_slice(json!([{"addresses": ["nowhere"]}]))).is_err());
}

#[test]
fn an_empty_directive_is_off_and_drops() {
    assert_eq!(directive(&ServiceTrafficSpec::default()), Directive::default());
    let full = ServiceTrafficSpec {
        mode: Some(DataPathMode::Local),
        on_no_local: Some(OnNoLocalField::Forward),
        source_ranges_on_node_ports: Some(true),
        ..ServiceTrafficSpec::default()
    };
    let wanted = Directive { mode: Mode::Local, on_no_local: OnNoLocal::Forward, source_ranges_on_node_ports: true };
    assert_eq!(directive(&full), wanted);
}

#[test]
fn a_node_gives_its_addresses_and_apart_its_internal_ones() {
    let object = json!({"metadata": {"name": "n1"}, "status": {"addresses": [
        {"type": "Hostname", "address": "n1"}, {"type": "ExternalIP", "address": "192.0.2.1"}, {"type": "InternalIP", "address": "10.0.0.1"},
    ]}});
    let (this, internal) = node(&serde_json::from_value(object).unwrap()).unwrap();
    let addresses = ["10.0.0.1", "192.0.2.1"].map(|text| text.parse::<IpAddr>().unwrap());
    assert_eq!((&*this.name, &*this.addresses), ("n1", &addresses[..]), "the internal ones first");
    assert_eq!(internal, addresses[..1]);
}

#[test]
fn pod_ranges_are_those_of_both_families_or_the_one_of_an_old_object() {
    let of = |spec: Value| {
        let object = json!({"metadata": {"name": "n1"}, "spec": spec});
        pod_ranges(&serde_json::from_value(object).unwrap()).map_err(|error| error.to_string())
    };
    let ranges = |texts: &[&str]| Ok(texts.iter().map(|text| text.parse::<IpNet>().unwrap()).collect::<Vec<_>>());
    let dual = json!({"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:1::/64"]});
    assert_eq!(of(dual), ranges(&["10.244.1.0/24", "fd00:1::/64"]));
    assert_eq!(of(json!({"podCIDR": "10.244.1.0/24"})), ranges(&["10.244.1.0/24"]));
    assert_eq!(of(json!({})), ranges(&[]));
    assert_eq!(of(json!({"podCIDRs": ["all"]})), Err("spec.podCIDRs \"all\" is no address range".to_owned()));
}

#[test]
fn capacity_is_the_default_where_the_configuration_is_silent() {
    assert_eq!(capacity(None), Capacity::default());
    let spec: DatapathConfigSpec = serde_json::from_value(json!({"capacity": {"frontends": 10}})).unwrap();
    assert_eq!(capacity(Some(&spec)), Capacity { frontends: 10, ..Capacity::default() });
}
