//! Names that several rooms must spell alike: group, namespace, labels, annotations, field managers, object names.

/// API group of every kind.
pub const GROUP: &str = "portreeve.io";
/// The served and stored version.
pub const VERSION: &str = "v1alpha1";
/// Namespace that the manifests install into, and the default of every `--namespace` flag.
pub const NAMESPACE: &str = "portreeve-system";

/// Category that lists everything of ours: `kubectl get portreeve`.
pub const CATEGORY: &str = "portreeve";

/// Name of operator's ServiceAccount, Deployment and Lease.
pub const OPERATOR: &str = "portreeve-operator";
/// Name of the webhook's ServiceAccount, Deployment and Service.
pub const WEBHOOK: &str = "portreeve-webhook";
/// Name of the agent's ServiceAccount and DaemonSet.
pub const AGENT: &str = "portreeve-agent";

/// Field manager of the operator's own objects and of status it writes.
pub const MANAGER_OPERATOR: &str = "portreeve-operator";
/// Field manager of the agent.
pub const MANAGER_AGENT: &str = "portreeve-agent";
/// Field manager of approved changes to users' Services.
pub const MANAGER_MIGRATOR: &str = "portreeve-migrator";
/// Field manager of what the CLI writes on a user's behalf.
pub const MANAGER_CLI: &str = "kubectl-portreeve";

/// Name of both webhook configurations.
pub const WEBHOOK_CONFIGURATION: &str = "portreeve";
/// Validating webhook for Services.
pub const WEBHOOK_SERVICES_VALIDATE: &str = "services.validate.portreeve.io";
/// Mutating webhook for Services.
pub const WEBHOOK_SERVICES_MUTATE: &str = "services.mutate.portreeve.io";
/// Mutating webhook for Pods (CREATE only).
pub const WEBHOOK_PODS_MUTATE: &str = "pods.mutate.portreeve.io";
/// URL paths of the three webhooks, in the order of the constants above.
pub const PATH_SERVICES_VALIDATE: &str = "/validate/services";
/// See [`PATH_SERVICES_VALIDATE`].
pub const PATH_SERVICES_MUTATE: &str = "/mutate/services";
/// See [`PATH_SERVICES_VALIDATE`].
pub const PATH_PODS_MUTATE: &str = "/mutate/pods";

/// Secret with the webhook's certificate authority; only the operator may read it.
pub const SECRET_CA: &str = "portreeve-webhook-ca";
/// Secret with the webhook's serving certificate and the bundle that verifies it.
pub const SECRET_TLS: &str = "portreeve-webhook-tls";
/// Key of the CA certificate (or bundle) in both Secrets.
pub const KEY_CA_CERT: &str = "ca.crt";
/// Key of the CA's private key in [`SECRET_CA`].
pub const KEY_CA_KEY: &str = "ca.key";
/// Key of the serving certificate in [`SECRET_TLS`].
pub const KEY_TLS_CERT: &str = "tls.crt";
/// Key of the serving key in [`SECRET_TLS`].
pub const KEY_TLS_KEY: &str = "tls.key";

/// On a Namespace, Service or Pod, value `"true"`: Portreeve leaves the object alone (no findings, no injection, no claim).
pub const LABEL_IGNORE: &str = "portreeve.io/ignore";
/// On objects that belong to a TrafficMigration: its name.
pub const LABEL_MIGRATION: &str = "portreeve.io/migration";
/// On a Pod that the webhook spread: `<policy> <rule or mechanism>`, so that the origin of the stanza can be read off it.
pub const ANNOTATION_INJECTED: &str = "portreeve.io/spread-injected";

/// Name of the one DatapathConfig.
pub const DATAPATH_CONFIG: &str = "default";

/// The four legacy annotation keys, beta before alpha. Nothing has read them since Kubernetes 1.8 (kubernetes#50224).
pub mod legacy {
    /// Beta form of the policy: `OnlyLocal` or `Global`, case-sensitive.
    pub const EXTERNAL_TRAFFIC_BETA: &str = "service.beta.kubernetes.io/external-traffic";
    /// Alpha form of the policy.
    pub const EXTERNAL_TRAFFIC_ALPHA: &str = "service.alpha.kubernetes.io/external-traffic";
    /// Beta form of the health check node port: a decimal port.
    pub const HEALTH_CHECK_NODE_PORT_BETA: &str = "service.beta.kubernetes.io/healthcheck-nodeport";
    /// Alpha form of the health check node port.
    pub const HEALTH_CHECK_NODE_PORT_ALPHA: &str = "service.alpha.kubernetes.io/healthcheck-nodeport";
    /// All four, in the order in which they are reported.
    pub const ALL: [&str; 4] =
        [EXTERNAL_TRAFFIC_BETA, EXTERNAL_TRAFFIC_ALPHA, HEALTH_CHECK_NODE_PORT_BETA, HEALTH_CHECK_NODE_PORT_ALPHA];
}
