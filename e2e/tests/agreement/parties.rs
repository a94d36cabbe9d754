//! Who is held against the oracle: our engines, and kube-proxy with nothing of ours, each on a node of its own.

use super::objects::NODE;
use super::support::Http;
use portreeve_agreement::{Fate, Field, SYN, Shot, Side};
use portreeve_e2e::assets::Binary;
use portreeve_e2e::control_plane::ControlPlane;
use portreeve_e2e::node::config::ProxyMode;
use portreeve_e2e::pki::User;
use portreeve_e2e::process::{Child, Spec};
use portreeve_e2e::relay::Relay;
use portreeve_e2e::run_dir::RunDir;
use portreeve_table::{Engine, ForwardingTable, Goal, Interface, Protocol, diff};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long kube-proxy may take to follow.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the sentinel is: of each family its address, its client and its Pod.
const SENTINEL: [[&str; 3]; 2] =
    [["192.0.2.201", "203.0.113.78", "10.244.0.99"], ["2001:db8:f::201", "2001:db8:2::78", "fd00:244::99"]];

/// An engine of ours, beside the stand-in of kube-proxy.
pub(crate) struct Ours {
    pub(crate) name: &'static str,
    pub(crate) field: Field,
    engine: Option<Box<dyn Engine>>,
    told: ForwardingTable,
}

impl Ours {
    pub(crate) fn new(name: &'static str, open: fn() -> Box<dyn Engine>) -> Self {
        let field = Field::with_stand_in();
        let engine = Some(field.node().run(open));
        Self { name, field, engine, told: ForwardingTable::default() }
    }

    /// Puts a table in force, by steps from the one before.
    pub(crate) fn apply(&mut self, table: &ForwardingTable) {
        let mut engine = self.engine.take().unwrap();
        let (steps, wanted) = (diff(&self.told, table), table.clone());
        self.engine = Some(self.field.node().run(move || {
            let uplinks = BTreeSet::from([Interface::new("eth0").unwrap()]);
            engine.apply(Goal { table: &wanted, uplinks: &uplinks }, &steps).unwrap();
            engine.end_flows(&wanted).unwrap();
            engine
        }));
        self.told = table.clone();
    }
}

/// kube-proxy, and the way from its node to the API server.
pub(crate) struct Proxy {
    pub(crate) field: Field,
    process: Child,
    _way: Relay,
    round: u16,
    probes: u32,
}

impl Proxy {
    pub(crate) fn start(plane: &ControlPlane, mode: ProxyMode, run: &RunDir) -> Self {
        let field = Field::bare();
        let api: SocketAddr = plane.server().trim_start_matches("https://").parse().unwrap();
        // The main thread's namespace is that of the API server.
        let way = field.node().run(move || Relay::start(Path::new("/proc/self/ns/net"), api).unwrap());
        let kubeconfig = run.state().join("kube-proxy.kubeconfig");
        plane.kubeconfig_for(&User::KubeProxy, &format!("https://{}", way.address()), &kubeconfig).unwrap();
        let file = run.state().join("kube-proxy.yaml");
        let mode = match mode {
            ProxyMode::Iptables => "iptables",
            ProxyMode::Nftables => "nftables",
        };
        // Limits of connections belong to the machine. Rounds follow each other as fast as they come.
        let config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": kubeconfig}, "hostnameOverride": NODE,
            "mode": mode, "clusterCIDR": "10.244.0.0/16,fd00:244::/48", "detectLocalMode": "ClusterCIDR",
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            mode: {"minSyncPeriod": "50ms"},
        });
        std::fs::write(&file, config.to_string()).unwrap();
        let process = Spec::new("kube-proxy", plane.program(Binary::KubeProxy), run.log().join("kube-proxy.log"))
            .arg(format!("--config={}", file.display()))
            .netns(Some(PathBuf::from(format!("/proc/{}/ns/net", field.node().thread()))))
            .spawn()
            .unwrap();
        Self { field, process, _way: way, round: 0, probes: 1 << 29 }
    }

    /// Waits until kube-proxy has in force what was written until now. Its watches keep the order of writes within a kind, and
    /// it writes all of a family at once: where the sentinel's last port leads to its last endpoint, all else is there too.
    pub(crate) async fn follow(&mut self, http: &Http) {
        self.round += 1;
        let port = 10_000 + self.round;
        for object in sentinel(port) {
            let path = super::support::objects::path(&object);
            if self.round == 1 {
                http.create(&object).await.ok();
            } else {
                http.merge(&path, &object).await.ok();
            }
            if object["kind"] == "Service" && self.round == 1 {
                let ingress: Vec<Value> = SENTINEL.iter().map(|[at, ..]| json!({"ip": at})).collect();
                http.merge(&format!("{path}/status"), &json!({"status": {"loadBalancer": {"ingress": ingress}}}))
                    .await
                    .ok();
            }
        }
        let began = Instant::now();
        for [at, client, pod] in SENTINEL {
            loop {
                self.probes += 1;
                let probe = Shot {
                    number: self.probes,
                    side: Side::Uplink,
                    protocol: Protocol::Udp,
                    source: SocketAddr::new(
                        client.parse().unwrap(),
                        1024 + u16::try_from(self.probes % 60_000).unwrap(),
                    ),
                    destination: SocketAddr::new(at.parse().unwrap(), port),
                    flags: SYN,
                    init: false,
                    in_fragments: false,
                    again: false,
                };
                let fates = self.field.play(&[probe], |fates| Ok(fates[0].to_vec())).unwrap();
                if fates == [Fate::Delivered(SocketAddr::new(pod.parse().unwrap(), port))] {
                    break;
                }
                self.process.require_running().unwrap();
                assert!(
                    began.elapsed() < PATIENCE,
                    "kube-proxy has not followed within {PATIENCE:?}; at last {fates:?}"
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Before its namespace goes.
        drop(self.process.kill());
    }
}

fn sentinel(port: u16) -> Vec<Value> {
    let name = "sentinel";
    let metadata = |name: &str| json!({"namespace": "default", "name": name, "labels": {"kubernetes.io/service-name": "sentinel"}});
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": metadata(name),
        "spec": {
            "type": "LoadBalancer", "externalTrafficPolicy": "Local", "allocateLoadBalancerNodePorts": false,
            "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
            "ports": [{"name": "p", "protocol": "UDP", "port": port}],
        },
    });
    let slices = ["IPv4", "IPv6"].into_iter().zip(SENTINEL).map(|(family, [.., pod])| {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": family,
            "metadata": metadata(&format!("{name}-{}", family.to_lowercase())),
            "ports": [{"name": "p", "protocol": "UDP", "port": port}],
            "endpoints": [{"addresses": [pod], "nodeName": NODE, "conditions": {"ready": true}}],
        })
    });
    [service].into_iter().chain(slices).collect()
}
