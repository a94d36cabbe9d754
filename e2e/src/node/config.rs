//! The configuration files of a node's daemons, as text. Pure: paths and addresses in, text out.

use std::path::{Path, PathBuf};

use super::cgroups;
use super::init::{Daemon, InitPlan};
use crate::fabric::plan::{self, Dual};

/// Where containerd listens, inside the node.
pub const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

/// The proxier of kube-proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ProxyMode {
    /// `mode: iptables`, kube-proxy's default on Linux.
    #[default]
    Iptables,
    /// `mode: nftables`.
    Nftables,
}

/// Everything that makes one node's files differ from another's.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The Node's name.
    pub name: String,
    /// 1 for `n1`.
    pub index: u8,
    /// The run of the testbed, e.g. `cluster-4711`.
    pub run: String,
    /// The node's own directory.
    pub dir: PathBuf,
    /// Where its logs go.
    pub log: PathBuf,
    /// Addresses of both families.
    pub address: Dual,
    /// Directory of the CNI plugins.
    pub cni_bin: PathBuf,
    /// Image of the Pods' sandbox.
    pub pause_image: String,
    /// CA that signs the API server's clients.
    pub client_ca: PathBuf,
    /// Credentials `system:node:NAME`.
    pub kubelet_kubeconfig: PathBuf,
    /// Credentials `system:kube-proxy`.
    pub proxy_kubeconfig: PathBuf,
    /// Program files.
    pub kubelet: PathBuf,
    /// Program files.
    pub kube_proxy: PathBuf,
    /// The proxier.
    pub proxy_mode: ProxyMode,
}

impl NodeConfig {
    /// File name under the node's directory → content.
    pub fn files(&self) -> Vec<(&'static str, String)> {
        vec![
            ("containerd.toml", self.containerd()),
            ("cni.d/10-pods.conflist", self.cni()),
            ("kubelet.yaml", self.kubelet()),
            ("kube-proxy.yaml", self.proxy()),
        ]
    }

    /// What PID 1 starts.
    pub fn init_plan(&self) -> InitPlan {
        let file = |name: &str| text(&self.dir.join(name));
        let daemon = |name: &str, command: Vec<String>, after: Option<&str>| Daemon {
            name: name.into(),
            command,
            after_socket: after.map(Into::into),
        };
        let [v4, v6] = self.address.both();
        InitPlan {
            name: self.name.clone(),
            dir: self.dir.clone(),
            log: self.log.clone(),
            daemons: vec![
                daemon("containerd", vec!["containerd".into(), "-c".into(), file("containerd.toml")], None),
                daemon(
                    "kube-proxy",
                    vec![text(&self.kube_proxy), format!("--config={}", file("kube-proxy.yaml"))],
                    None,
                ),
                daemon(
                    "kubelet",
                    vec![
                        text(&self.kubelet),
                        format!("--config={}", file("kubelet.yaml")),
                        format!("--kubeconfig={}", text(&self.kubelet_kubeconfig)),
                        format!("--hostname-override={}", self.name),
                        format!("--node-ip={v4},{v6}"),
                    ],
                    Some(CONTAINERD_SOCKET),
                ),
            ],
        }
    }

    fn containerd(&self) -> String {
        let (cni_bin, pause) = (self.cni_bin.display(), &self.pause_image);
        let dir = self.dir.display();
        // restrict_oom_score_adj: without CAP_SYS_RESOURCE runc cannot lower the score, and dies.
        format!(
            r#"version = 2
[plugins."io.containerd.internal.v1.opt"]
  path = "{dir}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_bin}"
    conf_dir = "{dir}/cni.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
"#
        )
    }

    fn cni(&self) -> String {
        let [v4, v6] = plan::pods(self.index);
        let list = serde_json::json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": v4}], [{"subnet": v6}]],
                        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": true}},
            ],
        });
        format!("{list:#}\n")
    }

    fn kubelet(&self) -> String {
        let (ca, root) = (self.client_ca.display(), cgroups::root_of(&self.run, &self.name));
        let (dns4, dns6) = (plan::DNS_V4, plan::DNS_V6);
        format!(
            r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupsPerQOS: true
cgroupRoot: {root}
enforceNodeAllocatable: []
failSwapOn: false
containerRuntimeEndpoint: unix://{CONTAINERD_SOCKET}
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {ca}}}}}
authorization: {{mode: Webhook}}
clusterDomain: cluster.local
clusterDNS: ["{dns4}", "{dns6}"]
resolvConf: ""
volumePluginDir: /var/lib/kubelet/volume-plugins
makeIPTablesUtilChains: true
imageMinimumGCAge: 24h
imageGCHighThresholdPercent: 100
evictionHard: {{memory.available: 100Mi, nodefs.available: 1Gi}}
nodeStatusUpdateFrequency: 5s
"#
        )
    }

    fn proxy(&self) -> String {
        let mode = match self.proxy_mode {
            ProxyMode::Iptables => "iptables",
            ProxyMode::Nftables => "nftables",
        };
        // The conntrack limits belong to the machine, not to a namespace: kube-proxy must leave them alone.
        format!(
            r#"apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {{kubeconfig: {kubeconfig}}}
hostnameOverride: {name}
mode: {mode}
clusterCIDR: {v4},{v6}
detectLocalMode: ClusterCIDR
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
"#,
            kubeconfig = self.proxy_kubeconfig.display(),
            name = self.name,
            v4 = plan::PODS_V4,
            v6 = plan::PODS_V6,
        )
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests;
