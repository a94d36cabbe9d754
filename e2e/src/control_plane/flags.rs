//! The command lines of the control plane, as functions of the options: no process, no file.

use std::{net::IpAddr, path::Path};

use ipnet::IpNet;

use super::ControlPlaneOptions;
use crate::pki::{FRONT_PROXY, PkiFiles};

/// The ports of one control plane.
pub(super) struct Ports {
    pub(super) apiserver: u16,
    pub(super) etcd: u16,
    pub(super) etcd_peer: u16,
}

impl Ports {
    /// The ports everybody knows, for a namespace of one's own.
    pub(super) const USUAL: Self = Self { apiserver: 6443, etcd: 2379, etcd_peer: 2380 };
}

/// On loopback nobody dials the API server by its advertised address, yet the flag refuses loopback: an address that
/// is reserved for documentation (RFC 5737) can hurt no one.
const NOWHERE: &str = "192.0.2.1";

pub(super) fn etcd(ports: &Ports, data: &Path) -> Vec<String> {
    let client = format!("http://127.0.0.1:{}", ports.etcd);
    vec![
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls=http://127.0.0.1:{}", ports.etcd_peer),
        // The data dies with the testbed; waiting for the disk would only make tests slow.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

pub(super) fn apiserver(ports: &Ports, options: &ControlPlaneOptions, files: &PkiFiles) -> Vec<String> {
    let mut args = vec![
        format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
        format!("--secure-port={}", ports.apiserver),
        format!("--service-cluster-ip-range={}", joined(&options.service_cidrs)),
        format!("--tls-cert-file={}", files.apiserver_certificate.display()),
        format!("--tls-private-key-file={}", files.apiserver_key.display()),
        format!("--client-ca-file={}", files.ca_certificate.display()),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={}", files.service_account_public.display()),
        format!("--service-account-signing-key-file={}", files.service_account_key.display()),
        format!("--kubelet-client-certificate={}", files.kubelet_client_certificate.display()),
        format!("--kubelet-client-key={}", files.kubelet_client_key.display()),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        format!("--proxy-client-cert-file={}", files.front_proxy_certificate.display()),
        format!("--proxy-client-key-file={}", files.front_proxy_key.display()),
        format!("--requestheader-client-ca-file={}", files.front_proxy_ca.display()),
        format!("--requestheader-allowed-names={FRONT_PROXY}"),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        // Webhooks behind Services are dialled at their endpoints: no kube-proxy runs beside the API server.
        "--enable-aggregator-routing=true".to_owned(),
        "--allow-privileged=true".to_owned(),
    ];
    match options.advertise.first() {
        Some(address) => args.push(format!("--advertise-address={address}")),
        None => args.extend([
            "--bind-address=127.0.0.1".to_owned(),
            format!("--advertise-address={NOWHERE}"),
            // Nor may that address be published as the `kubernetes` Service's endpoint.
            "--endpoint-reconciler-type=none".to_owned(),
        ]),
    }
    args.extend(options.extra_apiserver_args.iter().cloned());
    args
}

pub(super) fn controller_manager(options: &ControlPlaneOptions, files: &PkiFiles, kubeconfig: &Path) -> Vec<String> {
    let mut args = vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--service-account-private-key-file={}", files.service_account_key.display()),
        format!("--root-ca-file={}", files.ca_certificate.display()),
        format!("--cluster-signing-cert-file={}", files.ca_certificate.display()),
        format!("--cluster-signing-key-file={}", files.ca_key.display()),
        "--use-service-account-credentials".to_owned(),
        "--leader-elect=false".to_owned(),
        // No listening port: its own health is seen by what it does.
        "--secure-port=0".to_owned(),
        // By default it makes a directory of the machine: /usr/libexec/kubernetes.
        format!("--flex-volume-plugin-dir={}", options.state.join("volume-plugins").display()),
        // At its client's default of 20 requests a second, the first start of all controllers takes seconds.
        "--kube-api-qps=300".to_owned(),
        "--kube-api-burst=500".to_owned(),
        format!("--allocate-node-cidrs={}", !options.pod_cidrs.is_empty()),
    ];
    if !options.pod_cidrs.is_empty() {
        args.push(format!("--cluster-cidr={}", joined(&options.pod_cidrs)));
        args.extend(options.pod_cidrs.iter().map(|range| match range.network() {
            IpAddr::V4(_) => "--node-cidr-mask-size-ipv4=24".to_owned(),
            IpAddr::V6(_) => "--node-cidr-mask-size-ipv6=64".to_owned(),
        }));
    }
    args.extend(options.extra_controller_manager_args.iter().cloned());
    args
}

pub(super) fn scheduler(kubeconfig: &Path) -> Vec<String> {
    vec![
        format!("--kubeconfig={}", kubeconfig.display()),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
    ]
}

fn joined(ranges: &[IpNet]) -> String {
    ranges.iter().map(IpNet::to_string).collect::<Vec<_>>().join(",")
}
