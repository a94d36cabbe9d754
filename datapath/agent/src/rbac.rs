//! What the agent may do in the API, as data: the manifests are generated from it.

use k8s_openapi::api::rbac::v1::PolicyRule;
use portreeve_crds::names;

/// Rules of the agent's ClusterRole: what it watches, its own NodeDatapath, and Events; a Service that an Event is about is
/// read for its uid.
///
/// `create` cannot be bound to a name (the name is not known to the authorizer), and all agents share one role, so an agent
/// could write another node's report; beside Events it can write nothing else.
#[must_use]
pub fn cluster_rules() -> Vec<PolicyRule> {
    let watch = ["list", "watch"].as_slice();
    vec![
        rule("", &["services", "nodes"], watch),
        rule("", &["services"], &["get"]),
        rule("discovery.k8s.io", &["endpointslices"], watch),
        rule(names::GROUP, &["servicetraffics", "datapathconfigs"], watch),
        rule(names::GROUP, &["nodedatapaths"], &["get", "create", "patch"]),
        rule(names::GROUP, &["nodedatapaths/status"], &["patch"]),
        rule("events.k8s.io", &["events"], &["create"]),
    ]
}

/// Rules of the agent's Role in its own namespace: its DaemonSet, whose end is the end of what it programmed.
#[must_use]
pub fn namespace_rules() -> Vec<PolicyRule> {
    vec![PolicyRule {
        resource_names: Some(vec![names::AGENT.to_owned()]),
        ..rule("apps", &["daemonsets"], &["list", "watch"])
    }]
}

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    PolicyRule {
        api_groups: Some(owned(&[group])),
        resources: Some(owned(resources)),
        verbs: owned(verbs),
        ..PolicyRule::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_writes_nothing_but_node_datapaths_and_makes_events() {
        for rule in [cluster_rules(), namespace_rules()].concat() {
            let writes = rule.verbs.iter().any(|verb| !["get", "list", "watch"].contains(&verb.as_str()));
            let resources = rule.resources.unwrap_or_default();
            let own = resources.iter().all(|resource| resource.starts_with("nodedatapaths"));
            let events = resources == ["events"] && rule.verbs == ["create"];
            assert!(!writes || own || events, "{resources:?}");
            assert!(!rule.verbs.iter().chain(&resources).any(|word| word == "*"));
        }
    }
}
