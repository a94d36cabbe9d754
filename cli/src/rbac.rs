//! What a user needs to ask the agents, as data: the manifests are generated from it.

use k8s_openapi::api::rbac::v1::PolicyRule;

/// Name of the Role in the agents' namespace; nobody is bound to it.
pub const ROLE_ASK: &str = "portreeve-ask";

/// Rules of the Role. It cannot name the agents' Pods, since their names are random: whoever has it can start programs in
/// every Pod of the namespace, and is as good as Portreeve itself.
#[must_use]
pub fn ask_rules() -> Vec<PolicyRule> {
    let rule = |resource: &str, verbs: &[&str]| PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    };
    // A WebSocket opens by GET; from Kubernetes 1.35 on the API server asks for `create` as well.
    vec![rule("pods", &["list"]), rule("pods/exec", &["get", "create"])]
}
