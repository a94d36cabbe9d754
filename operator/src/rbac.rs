//! What the operator's service account may do: exactly what the controllers' `apply` and `status` steps and the watches
//! use. The manifests are generated from here.

use k8s_openapi::api::rbac::v1::PolicyRule;
use portreeve_crds::names::{self, GROUP};

/// Rules of the operator's ClusterRole.
#[must_use]
pub fn cluster_rules() -> Vec<PolicyRule> {
    // Watches list and watch; nothing is fetched by name but what is said below.
    let read = ["list", "watch"];
    vec![
        rule("", &["services", "namespaces", "nodes"], &read),
        rule("discovery.k8s.io", &["endpointslices"], &read),
        // migration/apply.rs: the legacy annotations and the field, by JSON Patch; an undo looks at the whole Service.
        rule("", &["services"], &["get", "patch"]),
        rule(
            GROUP,
            &["clustertrafficpolicies", "trafficpolicies", "trafficmigrations", "datapathconfigs", "nodedatapaths"],
            &read,
        ),
        rule(GROUP, &["clustertrafficpolicies/status", "trafficpolicies/status", "datapathconfigs/status"], &["patch"]),
        rule(GROUP, &["trafficmigrations/status"], &["update"]),
        rule(GROUP, &["servicetraffics", "trafficmigrationitems"], &["list", "watch", "create", "update", "delete"]),
        rule(GROUP, &["servicetraffics/status", "trafficmigrationitems/status"], &["update"]),
        // A create cannot be limited to a name; everything else is. `delete` is what the admission plugin
        // OwnerReferencesPermissionEnforcement asks of whoever sets owners on an object that is there.
        rule(REGISTRATION, CONFIGURATIONS, &["create"]),
        named(
            rule(REGISTRATION, CONFIGURATIONS, &["list", "watch", "update", "delete"]),
            &[names::WEBHOOK_CONFIGURATION],
        ),
        // admission/owner.rs: the UID of the owner of both configurations.
        named(rule("rbac.authorization.k8s.io", &["clusterroles"], &["get"]), &[names::OPERATOR]),
        rule("events.k8s.io", &["events"], &["create"]),
    ]
}

/// Rules of the operator's Role in its own namespace.
#[must_use]
pub fn namespace_rules() -> Vec<PolicyRule> {
    vec![
        rule("", &["secrets"], &["create"]),
        named(rule("", &["secrets"], &["list", "watch", "update"]), &[names::SECRET_CA, names::SECRET_TLS]),
        rule("coordination.k8s.io", &["leases"], &["create"]),
        named(rule("coordination.k8s.io", &["leases"], &["get", "list", "watch", "update"]), &[names::OPERATOR]),
    ]
}

const REGISTRATION: &str = "admissionregistration.k8s.io";
const CONFIGURATIONS: &[&str] = &["validatingwebhookconfigurations", "mutatingwebhookconfigurations"];

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |list: &[&str]| list.iter().map(|&item| item.to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..PolicyRule::default()
    }
}

fn named(mut rule: PolicyRule, names: &[&str]) -> PolicyRule {
    rule.resource_names = Some(names.iter().map(|&name| name.to_owned()).collect());
    rule
}

#[cfg(test)]
mod tests {
    use super::{cluster_rules, namespace_rules};

    #[test]
    fn no_rule_says_everything_and_no_secret_is_readable_beyond_our_namespace() {
        for rule in cluster_rules().iter().chain(&namespace_rules()) {
            let resources = rule.resources.iter().flatten();
            let all = resources.chain(rule.api_groups.iter().flatten()).chain(&rule.verbs);
            assert!(all.into_iter().all(|word| word != "*"), "{rule:?}");
        }
        assert!(cluster_rules().iter().all(|rule| !rule.resources.iter().flatten().any(|name| name == "secrets")));
    }

    #[test]
    fn secrets_and_configurations_are_read_and_changed_by_name_only() {
        for rule in cluster_rules().iter().chain(&namespace_rules()) {
            let guarded = ["secrets", "leases", "validatingwebhookconfigurations", "clusterroles"];
            if rule.resources.iter().flatten().any(|name| guarded.contains(&name.as_str())) {
                assert!(rule.verbs == ["create"] || rule.resource_names.is_some(), "{rule:?}");
            }
        }
    }
}
