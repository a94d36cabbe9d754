use super::*;

fn node() -> NodeConfig {
    NodeConfig {
        name: "n2".into(),
        index: 2,
        run: "cluster-7".into(),
        dir: "/d/n2".into(),
        log: "/l/n2".into(),
        address: plan::node(2),
        cni_bin: "/cni".into(),
        pause_image: "pause:1".into(),
        client_ca: "/pki/ca.crt".into(),
        kubelet_kubeconfig: "/k/n2".into(),
        proxy_kubeconfig: "/k/proxy".into(),
        kubelet: "/bin/kubelet".into(),
        kube_proxy: "/bin/kube-proxy".into(),
        proxy_mode: ProxyMode::Nftables,
    }
}

#[test]
fn every_yaml_file_parses_and_names_both_families() {
    let files = node().files();
    for (name, text) in files.iter().filter(|(name, _)| name.ends_with(".yaml")) {
        let value: serde_json::Value = serde_yaml::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}\n{text}"));
        match *name {
            "kubelet.yaml" => {
                assert_eq!(value["clusterDNS"], serde_json::json!(["10.96.0.10", "fd96::a"]));
                assert_eq!(value["cgroupRoot"], "/portreeve-cluster-7.n2");
            }
            _ => {
                assert_eq!(value["mode"], "nftables");
                assert_eq!(value["clusterCIDR"], "10.244.0.0/16,fd44::/48");
            }
        }
    }
}

#[test]
fn pods_of_a_node_get_addresses_from_the_node_s_own_ranges() {
    let cni: serde_json::Value = serde_json::from_str(&node().cni()).unwrap();
    let ranges = &cni["plugins"][0]["ipam"]["ranges"];
    assert_eq!(*ranges, serde_json::json!([[{"subnet": "10.244.2.0/24"}], [{"subnet": "fd44:0:0:2::/64"}]]));
}

#[test]
fn the_kubelet_waits_for_containerd_and_nothing_else_does() {
    let waiting: Vec<_> =
        node().init_plan().daemons.into_iter().filter(|d| d.after_socket.is_some()).map(|d| d.name).collect();
    assert_eq!(waiting, ["kubelet"]);
}
