//! The pinned Go modules and what is built from each.

/// The Kubernetes under test.
pub const KUBERNETES_VERSION: &str = "1.36.3";

/// A program of the testbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Binary {
    /// The API server.
    KubeApiserver,
    /// Kubernetes' own controllers.
    KubeControllerManager,
    /// The scheduler.
    KubeScheduler,
    /// The Service proxy of each node.
    KubeProxy,
    /// The user's client.
    Kubectl,
    /// The node agent.
    Kubelet,
    /// Kubernetes' own test server.
    Agnhost,
    /// The API server's store.
    Etcd,
    /// The cluster's DNS server.
    Coredns,
    /// PID 1 of every Pod.
    Pause,
    /// Installs the project's chart as users do.
    Helm,
}

impl Binary {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::KubeApiserver,
        Self::KubeControllerManager,
        Self::KubeScheduler,
        Self::KubeProxy,
        Self::Kubectl,
        Self::Kubelet,
        Self::Agnhost,
        Self::Etcd,
        Self::Coredns,
        Self::Pause,
        Self::Helm,
    ];

    /// The file's name, which is upstream's.
    pub fn file_name(self) -> &'static str {
        match self {
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::KubeProxy => "kube-proxy",
            Self::Kubectl => "kubectl",
            Self::Kubelet => "kubelet",
            Self::Agnhost => "agnhost",
            Self::Etcd => "etcd",
            Self::Coredns => "coredns",
            Self::Pause => "pause",
            Self::Helm => "helm",
        }
    }
}

/// A Go module and what to build from it.
pub(super) struct Module {
    /// Its directory, and the program's name when its only target is itself (`.`).
    pub(super) name: &'static str,
    /// File name and text of everything in it.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// Linker flags: stripped, and the version that the program reports.
    pub(super) ldflags: &'static str,
    /// Packages to build.
    pub(super) targets: &'static [&'static str],
}

pub(super) const MODULES: &[Module] = &[
    Module {
        name: "kubernetes",
        files: &[
            ("go.mod", include_str!("../../go/kubernetes/go.mod")),
            ("go.sum", include_str!("../../go/kubernetes/go.sum")),
        ],
        ldflags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
                  -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36 \
                  -X k8s.io/client-go/pkg/version.gitVersion=v1.36.3",
        targets: &[
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
            "k8s.io/kubernetes/cmd/kube-scheduler",
            "k8s.io/kubernetes/cmd/kube-proxy",
            "k8s.io/kubernetes/cmd/kubectl",
            "k8s.io/kubernetes/cmd/kubelet",
            "k8s.io/kubernetes/test/images/agnhost",
        ],
    },
    Module {
        name: "etcd",
        files: &[
            ("go.mod", include_str!("../../go/etcd/go.mod")),
            ("go.sum", include_str!("../../go/etcd/go.sum")),
            ("main.go", include_str!("../../go/etcd/main.go")),
        ],
        ldflags: "-s -w",
        targets: &["."],
    },
    Module {
        name: "coredns",
        files: &[
            ("go.mod", include_str!("../../go/coredns/go.mod")),
            ("go.sum", include_str!("../../go/coredns/go.sum")),
            ("main.go", include_str!("../../go/coredns/main.go")),
        ],
        ldflags: "-s -w",
        targets: &["."],
    },
    Module {
        name: "pause",
        files: &[
            ("go.mod", include_str!("../../go/pause/go.mod")),
            ("main.go", include_str!("../../go/pause/main.go")),
        ],
        ldflags: "-s -w",
        targets: &["."],
    },
    Module {
        name: "helm",
        files: &[("go.mod", include_str!("../../go/helm/go.mod")), ("go.sum", include_str!("../../go/helm/go.sum"))],
        ldflags: "-s -w",
        targets: &["helm.sh/helm/v3/cmd/helm"],
    },
];
