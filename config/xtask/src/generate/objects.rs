//! The objects of an installation, as data with slots (see `render`).

use k8s_openapi::api::rbac::v1::PolicyRule;
use kubectl_portreeve::rbac;
use portreeve_crds::names;
use serde_json::{Value, json};

/// Port of the plain-HTTP admin server (`/metrics`, `/livez`, `/readyz`) of operator and webhook.
const ADMIN_PORT: u16 = 8080;
/// Port of the agent's admin server; the agent shares the node's network.
const AGENT_ADMIN_PORT: u16 = 9810;
/// Port on which the webhook speaks TLS.
const WEBHOOK_PORT: u16 = 8443;
/// User and group of the daemons that need no capability.
const USER: u32 = 65532;

fn labels(component: &str) -> Value {
    json!({
        "app.kubernetes.io/name": "portreeve",
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/part-of": "portreeve",
        "app.kubernetes.io/version": env!("CARGO_PKG_VERSION"),
    })
}

fn selector(component: &str) -> Value {
    json!({"app.kubernetes.io/name": "portreeve", "app.kubernetes.io/component": component})
}

fn metadata(name: &str, component: &str) -> Value {
    json!({"name": name, "namespace": "__NAMESPACE__", "labels": labels(component)})
}

/// The namespace; Helm makes its own (`--create-namespace`).
pub(super) fn namespace() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "__NAMESPACE__", "labels": {
            "app.kubernetes.io/name": "portreeve",
            "pod-security.kubernetes.io/enforce": "privileged",
            "pod-security.kubernetes.io/audit": "privileged",
            "pod-security.kubernetes.io/warn": "privileged",
        }},
    })
}

/// ServiceAccount, ClusterRole, Role and their bindings of one component.
pub(super) fn access(name: &str, component: &str, cluster: Vec<PolicyRule>, namespaced: Vec<PolicyRule>) -> Vec<Value> {
    let subject = json!([{"kind": "ServiceAccount", "name": name, "namespace": "__NAMESPACE__"}]);
    let cluster_metadata = json!({"name": name, "labels": labels(component)});
    let mut objects = vec![
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(name, component)}),
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": cluster_metadata, "rules": cluster}),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": cluster_metadata, "subjects": subject,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        }),
    ];
    if !namespaced.is_empty() {
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata(name, component), "rules": namespaced,
        }));
        objects.push(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata(name, component), "subjects": subject,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        }));
    }
    objects
}

/// Roles that let the cluster's own view, edit and admin roles see and use our kinds. Kinds without a namespace have a
/// role of their own, as cert-manager's have: `view` is bound namespace by namespace, where it would promise what it
/// cannot give. And the Role of those who may ask the agents.
pub(super) fn user_roles() -> Vec<Value> {
    let role = |name: &str, aggregate: &[&str], resources: &[&str], verbs: &[&str]| {
        let mut labels = labels("users");
        for to in aggregate {
            labels[format!("rbac.authorization.k8s.io/aggregate-to-{to}")] = json!("true");
        }
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name, "labels": labels},
            "rules": [{"apiGroups": [names::GROUP], "resources": resources, "verbs": verbs}],
        })
    };
    vec![
        role(
            "portreeve-view",
            &["view", "edit", "admin"],
            &["trafficpolicies", "servicetraffics", "trafficmigrationitems"],
            &["get", "list", "watch"],
        ),
        role(
            "portreeve-cluster-view",
            &["cluster-reader"],
            &["clustertrafficpolicies", "trafficmigrations", "nodedatapaths", "datapathconfigs"],
            &["get", "list", "watch"],
        ),
        role(
            "portreeve-edit",
            &["edit", "admin"],
            &["trafficpolicies"],
            &["create", "update", "patch", "delete", "deletecollection"],
        ),
        // Bound to nobody: who has it is as good as Portreeve itself.
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata(rbac::ROLE_ASK, "users"),
            "rules": rbac::ask_rules(),
        }),
    ]
}

fn container_security() -> Value {
    json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    })
}

fn environment() -> Value {
    json!([
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "PORTREEVE_LOG", "value": "__LOG__"},
        {"name": "PORTREEVE_LOG_FORMAT", "value": "__LOG_FORMAT__"},
    ])
}

/// The agent's admin server listens beside those of the node itself.
fn agent_environment() -> Value {
    let mut environment = environment();
    if let Value::Array(variables) = &mut environment {
        variables.push(json!({"name": "PORTREEVE_ADMIN_ADDRESS", "value": format!("[::]:{AGENT_ADMIN_PORT}")}));
    }
    environment
}

fn probes(container: &mut Value, port: u16) {
    container["livenessProbe"] =
        json!({"httpGet": {"path": "/livez", "port": port}, "periodSeconds": 10, "failureThreshold": 3});
    container["readinessProbe"] =
        json!({"httpGet": {"path": "/readyz", "port": port}, "periodSeconds": 2, "failureThreshold": 2});
}

/// One Deployment of `replicas` Pods that keep apart from each other.
fn deployment(name: &str, component: &str, replicas: &str, mut container: Value) -> Value {
    probes(&mut container, ADMIN_PORT);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata(name, component),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": selector(component)},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": {
                "metadata": {
                    "labels": labels(component),
                    "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": ADMIN_PORT.to_string()},
                },
                "spec": {
                    "serviceAccountName": name,
                    "priorityClassName": "system-cluster-critical",
                    "terminationGracePeriodSeconds": 30,
                    "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
                        "weight": 100,
                        "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": selector(component)}},
                    }]}},
                    "containers": [container],
                },
            },
        },
    })
}

fn disruption_budget(name: &str, component: &str) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata(name, component),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(component)}},
    })
}

/// The operator: two replicas, one leads.
pub(super) fn operator() -> Vec<Value> {
    let container = json!({
        "name": "operator", "image": "__IMAGE__", "imagePullPolicy": "__PULL_POLICY__", "command": ["/portreeve-operator"],
        "args": "__OPERATOR_ARGS__",
        "env": environment(),
        "ports": [{"name": "metrics", "containerPort": ADMIN_PORT}],
        "resources": "__OPERATOR_RESOURCES__",
        "securityContext": container_security(),
    });
    vec![
        deployment(names::OPERATOR, "operator", "__OPERATOR_REPLICAS__", container),
        disruption_budget(names::OPERATOR, "operator"),
    ]
}

/// The webhook: two replicas, both answer.
pub(super) fn webhook() -> Vec<Value> {
    let container = json!({
        "name": "webhook", "image": "__IMAGE__", "imagePullPolicy": "__PULL_POLICY__", "command": ["/portreeve-webhook"],
        "args": "__WEBHOOK_ARGS__",
        "env": environment(),
        "ports": [{"name": "webhook", "containerPort": WEBHOOK_PORT}, {"name": "metrics", "containerPort": ADMIN_PORT}],
        "resources": "__WEBHOOK_RESOURCES__",
        "securityContext": container_security(),
    });
    vec![
        deployment(names::WEBHOOK, "webhook", "__WEBHOOK_REPLICAS__", container),
        disruption_budget(names::WEBHOOK, "webhook"),
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": metadata(names::WEBHOOK, "webhook"),
            "spec": {"selector": selector("webhook"), "ports": [{"name": "https", "port": 443, "targetPort": WEBHOOK_PORT}]},
        }),
    ]
}

/// The agent: one Pod on every node, in the node's network, with two capabilities and no more.
pub(super) fn agent() -> Vec<Value> {
    let mut container = json!({
        "name": "agent", "image": "__IMAGE__", "imagePullPolicy": "__PULL_POLICY__", "command": ["/portreeve-agent"],
        "args": "__AGENT_ARGS__",
        "env": agent_environment(),
        "ports": [{"name": "metrics", "containerPort": AGENT_ADMIN_PORT, "hostPort": AGENT_ADMIN_PORT}],
        "resources": "__AGENT_RESOURCES__",
        // Its admin socket; the rest of its file system cannot be written.
        "volumeMounts": [{"name": "run", "mountPath": "/run/portreeve"}],
        // Root inside the container, because capabilities reach a non-root user only through file capabilities; it is
        // root with nothing but the two named here.
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsUser": 0, "privileged": false,
            "capabilities": {"drop": ["ALL"], "add": ["BPF", "NET_ADMIN"]}, "seccompProfile": {"type": "RuntimeDefault"},
        },
    });
    probes(&mut container, AGENT_ADMIN_PORT);
    vec![json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": metadata(names::AGENT, "agent"),
        "spec": {
            "selector": {"matchLabels": selector("agent")},
            "updateStrategy": {"rollingUpdate": {"maxUnavailable": 1}},
            "template": {
                "metadata": {
                    "labels": labels("agent"),
                    "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": AGENT_ADMIN_PORT.to_string()},
                },
                "spec": {
                    "serviceAccountName": names::AGENT,
                    "priorityClassName": "system-node-critical",
                    "hostNetwork": true,
                    "dnsPolicy": "ClusterFirstWithHostNet",
                    "nodeSelector": "__AGENT_NODE_SELECTOR__",
                    "tolerations": [{"operator": "Exists"}],
                    "terminationGracePeriodSeconds": 10,
                    "containers": [container],
                    "volumes": [{"name": "run", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
                },
            },
        },
    })]
}
