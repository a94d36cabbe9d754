use super::*;

fn options() -> ControlPlaneOptions {
    ControlPlaneOptions::new(Assets::in_directory("/assets"), Path::new("/run-dir"))
}

fn files() -> PkiFiles {
    let dir = crate::run_dir::scratch("flags");
    ClusterPki::generate(&[]).unwrap().write(dir.path()).unwrap()
}

fn has(args: &[String], flag: &str) -> bool {
    args.iter().any(|arg| arg == flag)
}

#[test]
fn the_kubernetes_service_has_the_first_address_of_its_range() {
    assert_eq!(first_address(&"10.96.0.0/16".parse().unwrap()), "10.96.0.1".parse::<IpAddr>().unwrap());
    assert_eq!(first_address(&"fd00:10:96::/112".parse().unwrap()), "fd00:10:96::1".parse::<IpAddr>().unwrap());
}

#[test]
fn on_loopback_nothing_listens_outside_and_no_endpoint_is_published() {
    let args = apiserver(&Ports::USUAL, &options(), &files());
    assert!(has(&args, "--bind-address=127.0.0.1"));
    assert!(has(&args, "--endpoint-reconciler-type=none"));
    assert!(has(&args, "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112"));
}

#[test]
fn in_a_namespace_the_given_address_is_advertised_on_every_interface() {
    let mut options = options();
    options.advertise = vec!["172.30.0.10".parse().unwrap()];
    let args = apiserver(&Ports::USUAL, &options, &files());
    assert!(has(&args, "--advertise-address=172.30.0.10"));
    assert!(!args.iter().any(|arg| arg.starts_with("--bind-address")));
}

#[test]
fn extra_flags_come_last_so_that_they_win() {
    let mut options = options();
    options.extra_apiserver_args = vec!["--goaway-chance=0.02".to_owned()];
    assert_eq!(apiserver(&Ports::USUAL, &options, &files()).last().unwrap(), "--goaway-chance=0.02");
}

#[test]
fn nodes_get_pod_ranges_of_both_families_only_when_given() {
    let mut options = options();
    let path = Path::new("/kubeconfig");
    assert!(has(&controller_manager(&options, &files(), path), "--allocate-node-cidrs=false"));
    options.pod_cidrs = vec!["10.244.0.0/16".parse().unwrap(), "fd00:10:244::/48".parse().unwrap()];
    let args = controller_manager(&options, &files(), path);
    assert!(has(&args, "--cluster-cidr=10.244.0.0/16,fd00:10:244::/48"));
    assert!(has(&args, "--node-cidr-mask-size-ipv4=24") && has(&args, "--node-cidr-mask-size-ipv6=64"));
}

#[test]
fn three_free_ports_are_three_ports() {
    let Ports { apiserver, etcd, etcd_peer } = Ports::free().unwrap();
    assert_eq!(std::collections::BTreeSet::from([apiserver, etcd, etcd_peer]).len(), 3);
}

#[tokio::test]
async fn a_namespace_without_an_address_is_refused() {
    let mut options = options();
    options.netns = Some("/proc/self/ns/net".into());
    assert!(matches!(ControlPlane::start(options).await, Err(ControlPlaneError::Options(_))));
}
