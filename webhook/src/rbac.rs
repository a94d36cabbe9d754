//! The rights that the webhook uses, as data: the manifests are generated from it.

use k8s_openapi::api::rbac::v1::PolicyRule;
use portreeve_crds::names;

/// What it may read anywhere: the objects that it keeps in memory. It writes nothing.
#[must_use]
pub fn cluster_rules() -> Vec<PolicyRule> {
    vec![
        read("", &["namespaces", "nodes", "services"]),
        read("discovery.k8s.io", &["endpointslices"]),
        read(names::GROUP, &["clustertrafficpolicies", "trafficpolicies"]),
    ]
}

/// What it may read in its own namespace: its serving certificate, by name.
#[must_use]
pub fn namespace_rules() -> Vec<PolicyRule> {
    vec![PolicyRule { resource_names: Some(vec![names::SECRET_TLS.to_owned()]), ..read("", &["secrets"]) }]
}

fn read(group: &str, resources: &[&str]) -> PolicyRule {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(owned(&[group])),
        resources: Some(owned(resources)),
        verbs: owned(&["list", "watch"]),
        ..PolicyRule::default()
    }
}

#[cfg(test)]
mod tests {
    use super::{cluster_rules, namespace_rules};
    use crate::cache::Source;

    #[test]
    fn every_watched_kind_may_be_read_and_nothing_more() {
        let allowed: Vec<_> = cluster_rules().into_iter().flat_map(|rule| rule.resources.unwrap_or_default()).collect();
        let mut allowed: Vec<_> = allowed.iter().map(String::as_str).collect();
        let mut watched = Source::ALL.map(Source::as_str);
        allowed.sort_unstable();
        watched.sort_unstable();
        assert_eq!(allowed, watched);
    }

    #[test]
    fn no_verb_writes_and_no_other_secret_can_be_read() {
        let rules = [cluster_rules(), namespace_rules()].concat();
        assert!(rules.iter().all(|rule| rule.verbs == ["list", "watch"]));
        let secrets = &namespace_rules()[0];
        assert_eq!(secrets.resource_names.as_deref(), Some(&["portreeve-webhook-tls".to_owned()][..]));
    }
}
