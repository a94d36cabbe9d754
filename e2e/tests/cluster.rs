//! The cluster itself, before Portreeve: three nodes, both families, three kinds of load balancer, and nothing left when
//! it is over. One cluster for all scenarios; they run in the order of the file. Needs root.
//!
//! `PORTREEVE_PROXY_MODE=nftables` runs the same with kube-proxy's other proxier.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use k8s_openapi::api::core::v1;
use kube::api::{Api, ListParams};
use portreeve_e2e::assets::Assets;
use portreeve_e2e::cluster::{Cluster, ClusterOptions};
use portreeve_e2e::http::HttpFailure;
use portreeve_e2e::image::catalogue;
use portreeve_e2e::lb::Kind;
use portreeve_e2e::node::config::ProxyMode;
use portreeve_e2e::progress::Progress;
use portreeve_e2e::teardown::snapshot;

const WITHIN: Duration = Duration::from_secs(90);
const ANSWER: Duration = Duration::from_secs(3);
/// A node that drops says nothing, however long one waits: a second tells it from a slow answer on a bridge.
const SILENCE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_real_cluster_comes_up_behaves_as_kubernetes_does_and_leaves_nothing_behind() {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root");
        eprintln!("skipped: needs root");
        return;
    }
    let before = snapshot(None).unwrap();
    let assets = tokio::task::spawn_blocking(|| Assets::ensure(Progress::Shown)).await.unwrap().unwrap();
    let mut options = ClusterOptions::new(assets, Progress::Shown).unwrap();
    if let Ok(mode) = std::env::var("PORTREEVE_PROXY_MODE") {
        options.proxy_mode = ProxyMode::from_str(&mode, true).unwrap();
    }
    let cluster = Cluster::up(options).await.unwrap();
    let run = cluster.run_name();
    let running = snapshot(Some(&run)).unwrap();
    assert!(!running.processes.is_empty() && !running.cgroups.is_empty(), "the picture shows a running cluster");

    cluster.apply("workloads", &workloads()).await.unwrap();
    for deployment in ["web", "lone", "uneven", "uneven-more"] {
        cluster.await_deployment("default", deployment).await.unwrap();
    }
    three_dual_stack_nodes_are_ready(&cluster).await;
    a_node_is_a_machine_of_its_own(&cluster).await;
    every_node_has_heard_of_all_services(&cluster).await;
    pods_of_all_nodes_reach_each_other_and_names_resolve(&cluster).await;
    cluster_shows_a_nodes_address_and_local_the_clients(&cluster).await;
    under_local_a_node_without_pods_is_silent(&cluster).await;
    a_proxy_hides_the_client_and_serves_from_all_nodes(&cluster).await;
    an_even_forwarder_gives_the_lone_pod_half_and_weights_make_it_even(&cluster).await;
    a_dead_node_leaves_the_load_balancers_and_comes_back(&cluster).await;
    a_changed_service_keeps_its_address_and_a_deleted_one_gives_it_back(&cluster).await;

    cluster.down().await.unwrap();
    assert_eq!(snapshot(Some(&run)).unwrap(), before);
}

async fn three_dual_stack_nodes_are_ready(cluster: &Cluster) {
    let nodes: Api<v1::Node> = Api::all(cluster.client().await.unwrap());
    let list = nodes.list(&ListParams::default()).await.unwrap();
    let names: Vec<_> = list.iter().filter_map(|node| node.metadata.name.as_deref()).collect();
    assert_eq!(names, ["n1", "n2", "n3"]);
    for node in &list {
        let addresses = node.status.as_ref().and_then(|status| status.addresses.as_ref()).unwrap();
        let internal = addresses.iter().filter(|address| address.type_ == "InternalIP").count();
        assert_eq!(internal, 2, "{addresses:?}");
        assert_eq!(node.spec.as_ref().and_then(|spec| spec.pod_cidrs.as_ref()).map(Vec::len), Some(2));
    }
}

async fn a_node_is_a_machine_of_its_own(cluster: &Cluster) {
    for node in cluster.nodes() {
        let hostname = node.exec(&["hostname"]).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&hostname.stdout).trim(), node.name());
        let init = node.exec(&["cat", "/proc/1/cmdline"]).await.unwrap();
        assert!(String::from_utf8_lossy(&init.stdout).contains("node-init"));
    }
    let assets = Assets::ensure(Progress::Quiet).unwrap();
    let archive = ClusterOptions::new(assets, Progress::Quiet).unwrap().images.remove(0);
    cluster.import_image(&archive).await.unwrap();
    cluster.import_image("/nonexistent.tar".as_ref()).await.unwrap_err();
}

/// kube-proxy writes rules about once a second: what follows must not race with it.
async fn every_node_has_heard_of_all_services(cluster: &Cluster) {
    let client = &cluster.clients()[0];
    for node in cluster.nodes() {
        for to in node.address().both() {
            for port in [30080, 30081] {
                let target = url(to, port, "hostname");
                eventually(&target, async || client.http_get(&target, ANSWER).await.unwrap().is_ok()).await;
            }
            // Refused while the Service or its only endpoint is not known; from then on answered, or not at all.
            let target = url(to, 30082, "hostname");
            eventually(&target, async || {
                client.http_get(&target, SILENCE).await.unwrap().error != Some(HttpFailure::Refused)
            })
            .await;
        }
    }
}

async fn pods_of_all_nodes_reach_each_other_and_names_resolve(cluster: &Cluster) {
    let pods = pods(cluster, "app=web").await;
    assert_eq!(pods.values().map(|pod| &pod.node).collect::<BTreeSet<_>>().len(), 3);
    let dial = async |from: &Pod, host: &str, port: u16| {
        let url =
            format!("http://{}:8080/dial?host={host}&port={port}&protocol=http&request=hostname&tries=1", from.ips[0]);
        cluster.clients()[0].http_get(&url, ANSWER).await.unwrap().body
    };
    for from in pods.values() {
        for (name, to) in &pods {
            for ip in &to.ips {
                let said = dial(from, &ip.to_string(), 8080).await;
                assert!(said.contains(&format!("\"{name}\"")), "{} to {name} at {ip}: {said}", from.node);
            }
        }
        let said = dial(from, "np-cluster.default.svc.cluster.local", 80).await;
        assert!(said.contains("web-"), "by name from {}: {said}", from.node);
    }
}

async fn cluster_shows_a_nodes_address_and_local_the_clients(cluster: &Cluster) {
    let client = &cluster.clients()[1];
    for node in cluster.nodes() {
        for to in node.address().both() {
            let seen = seen_by_pod(cluster, &url(to, 30080, "clientip")).await;
            assert_ne!(seen, client.address.of_family(to), "Cluster at {to}");
            let seen = seen_by_pod(cluster, &url(to, 30081, "clientip")).await;
            assert_eq!(seen, client.address.of_family(to), "Local at {to}");
        }
    }
}

async fn under_local_a_node_without_pods_is_silent(cluster: &Cluster) {
    let client = &cluster.clients()[0];
    for to in cluster.node("n1").unwrap().address().both() {
        assert!(client.http_get(&url(to, 30082, "clientip"), ANSWER).await.unwrap().is_ok());
    }
    for name in ["n2", "n3"] {
        for to in cluster.node(name).unwrap().address().both() {
            let outcome = client.http_get(&url(to, 30082, "clientip"), SILENCE).await.unwrap();
            assert_eq!(outcome.error, Some(HttpFailure::Timeout), "{name} at {to}: {outcome:?}");
        }
    }
}

async fn a_proxy_hides_the_client_and_serves_from_all_nodes(cluster: &Cluster) {
    let vips = vips(cluster, "default/proxied", &["n1", "n2", "n3"]).await;
    for vip in vips {
        let seen = seen_by_pod(cluster, &url(vip, 80, "clientip")).await;
        assert_ne!(seen, cluster.clients()[1].address.of_family(vip));
        let answers = cluster.clients()[0].http_burst(&url(vip, 80, "hostname"), 60, 4).await.unwrap();
        assert_eq!(answers.iter().filter(|outcome| outcome.is_ok()).count(), 60, "{answers:?}");
    }
}

async fn an_even_forwarder_gives_the_lone_pod_half_and_weights_make_it_even(cluster: &Cluster) {
    let share = async |vip: IpAddr, pod: &str| {
        let answers = cluster.clients()[0].http_burst(&url(vip, 80, "hostname"), 600, 16).await.unwrap();
        assert_eq!(answers.iter().filter(|outcome| outcome.is_ok()).count(), 600);
        100 * answers.iter().filter(|outcome| outcome.body == pod).count() / 600
    };
    let pods = pods(cluster, "app=uneven").await;
    let on = |node: &str| pods.values().filter(|pod| pod.node == node).count();
    assert_eq!((on("n1"), on("n2"), on("n3")), (1, 2, 0));
    let (lone, _) = pods.iter().find(|(_, pod)| pod.node == "n1").unwrap();
    // Six standard deviations of 600 flows are 12 percent points.
    for vip in vips(cluster, "default/uneven", &["n1", "n2"]).await {
        let half = share(vip, lone).await;
        assert!((38..=62).contains(&half), "{half} % at {vip}");
    }
    let annotation = format!("{}=true", portreeve_e2e::lb::WEIGHTED_ANNOTATION);
    cluster.kubectl(&["annotate", "service", "uneven", &annotation]).await.unwrap();
    let weighted = async || {
        let route = cluster.fabric().router.run("ip", &["route"], "").unwrap();
        route.contains("weight 2")
    };
    eventually("the route carries weights", weighted).await;
    for vip in vips(cluster, "default/uneven", &["n1", "n2"]).await {
        let third = share(vip, lone).await;
        assert!((21..=45).contains(&third), "{third} % at {vip}");
    }
}

async fn a_dead_node_leaves_the_load_balancers_and_comes_back(cluster: &Cluster) {
    let client = &cluster.clients()[1];
    let (lb, all) = (cluster.lb(), ["n1", "n2", "n3"]);
    let forwarded = vips(cluster, "default/forwarded", &all).await;
    let announced = vips(cluster, "default/announced", &all).await;
    let owner = lb.view("default/announced").and_then(|view| view.owner).unwrap();
    assert_eq!(lb.view("default/announced").unwrap().kind, Kind::Announcer);
    for vip in forwarded.iter().chain(&announced) {
        assert_eq!(seen_by_pod(cluster, &url(*vip, 80, "clientip")).await, client.address.of_family(*vip));
    }

    cluster.node(&owner).unwrap().power_off().unwrap();
    let others: Vec<_> = all.into_iter().filter(|name| *name != owner).collect();
    eventually("the dead node is out", async || lb.healthy_nodes("default/forwarded") == others).await;
    eventually("the address has moved", async || {
        lb.view("default/announced").and_then(|view| view.owner).is_some_and(|now| now != owner)
    })
    .await;
    for vip in forwarded.iter().chain(&announced) {
        let answers = client.http_burst(&url(*vip, 80, "clientip"), 40, 4).await.unwrap();
        let kept = answers.iter().filter(|o| address(&o.body) == Some(client.address.of_family(*vip))).count();
        assert_eq!(kept, 40, "at {vip}: {answers:?}");
    }

    cluster.node(&owner).unwrap().power_on().unwrap();
    eventually("the node is back", async || lb.healthy_nodes("default/forwarded") == all).await;
}

async fn a_changed_service_keeps_its_address_and_a_deleted_one_gives_it_back(cluster: &Cluster) {
    let (lb, client) = (cluster.lb(), &cluster.clients()[0]);
    let before = lb.view("default/forwarded").unwrap().vips;
    let policy = |to: &str| format!(r#"{{"spec":{{"externalTrafficPolicy":"{to}"}}}}"#);
    cluster.kubectl(&["patch", "service", "forwarded", "--patch", &policy("Cluster")]).await.unwrap();
    for vip in &before {
        let target = url(*vip, 80, "clientip");
        let seen = async || address(&client.http_get(&target, ANSWER).await.unwrap().body);
        eventually("Cluster hides the client", async || {
            seen().await.is_some_and(|seen| seen != client.address.of_family(*vip))
        })
        .await;
    }
    assert_eq!(lb.view("default/forwarded").unwrap().vips, before);

    cluster.fabric().set_cable(3, false).unwrap();
    eventually("a node without its cable is out", async || lb.healthy_nodes("default/forwarded") == ["n1", "n2"]).await;
    cluster.fabric().set_cable(3, true).unwrap();
    eventually("and in again", async || lb.healthy_nodes("default/forwarded").len() == 3).await;

    cluster.kubectl(&["delete", "service", "forwarded"]).await.unwrap();
    eventually("the load balancer is gone", async || lb.view("default/forwarded").is_none()).await;
    for vip in before {
        let target = url(vip, 80, "clientip");
        eventually("nothing routes to it", async || {
            client.http_get(&target, ANSWER).await.unwrap().error == Some(HttpFailure::Unreachable)
        })
        .await;
    }
}

struct Pod {
    node: String,
    ips: Vec<IpAddr>,
}

async fn pods(cluster: &Cluster, selector: &str) -> BTreeMap<String, Pod> {
    let api: Api<v1::Pod> = Api::namespaced(cluster.client().await.unwrap(), "default");
    let list = api.list(&ListParams::default().labels(selector)).await.unwrap();
    let pod = |pod: v1::Pod| {
        let ips = pod.status.and_then(|status| status.pod_ips).into_iter().flatten();
        let node = pod.spec.and_then(|spec| spec.node_name).unwrap();
        (pod.metadata.name.unwrap(), Pod { node, ips: ips.map(|ip| ip.ip.parse().unwrap()).collect() })
    };
    list.items.into_iter().map(pod).collect()
}

/// The addresses of a load balancer, once exactly `nodes` are healthy behind it.
async fn vips(cluster: &Cluster, service: &str, nodes: &[&str]) -> Vec<IpAddr> {
    eventually(service, async || cluster.lb().healthy_nodes(service) == nodes).await;
    cluster.lb().view(service).unwrap().vips
}

/// What the Pod says is the client's address, when client 2 asks.
async fn seen_by_pod(cluster: &Cluster, url: &str) -> IpAddr {
    let outcome = cluster.clients()[1].http_get(url, ANSWER).await.unwrap();
    address(&outcome.body).unwrap_or_else(|| panic!("{url}: {outcome:?}"))
}

fn address(body: &str) -> Option<IpAddr> {
    body.trim().parse::<std::net::SocketAddr>().ok().map(|address| address.ip())
}

fn url(ip: IpAddr, port: u16, path: &str) -> String {
    format!("http://{}/{path}", std::net::SocketAddr::new(ip, port))
}

async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within {WITHIN:?}: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn workloads() -> String {
    let spread = "topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, \
                  whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}]";
    let mut all = deployment("web", 3, spread);
    all += &deployment("lone", 1, "nodeName: n1");
    // One Pod on n1 and two on n2: the second Deployment shares the first one's label.
    all += &deployment("uneven", 1, "nodeName: n1");
    all += &deployment("uneven-more", 2, "nodeName: n2").replace("app: uneven-more", "app: uneven, part: more");
    all += &node_port("np-cluster", "web", "Cluster", 30080);
    all += &node_port("np-local", "web", "Local", 30081);
    all += &node_port("np-lone", "lone", "Local", 30082);
    all += &load_balancer("forwarded", "web", "Local", Kind::Forwarder);
    all += &load_balancer("announced", "web", "Local", Kind::Announcer);
    all += &load_balancer("proxied", "web", "Cluster", Kind::Proxy);
    all += &load_balancer("uneven", "uneven", "Local", Kind::Forwarder);
    all
}

fn deployment(name: &str, replicas: u8, placed: &str) -> String {
    let image = catalogue::AGNHOST;
    format!(
        "---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      {placed}
      containers:
      - name: c
        image: {image}
        args: [netexec, --http-port=8080]
        readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}
"
    )
}

fn node_port(name: &str, app: &str, policy: &str, port: u16) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  type: NodePort
  selector: {{app: {app}}}
  externalTrafficPolicy: {policy}
  ipFamilyPolicy: RequireDualStack
  ports: [{{port: 80, targetPort: 8080, nodePort: {port}}}]
"
    )
}

fn load_balancer(name: &str, app: &str, policy: &str, kind: Kind) -> String {
    let class = kind.class();
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  type: LoadBalancer
  loadBalancerClass: {class}
  selector: {{app: {app}}}
  externalTrafficPolicy: {policy}
  ipFamilyPolicy: RequireDualStack
  ports: [{{port: 80, targetPort: 8080}}]
"
    )
}
