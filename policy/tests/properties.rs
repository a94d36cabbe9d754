//! What holds for every policy and every Service, seen from outside the room.

mod generators;

use generators::{ask, cluster_policies, endpoints, policies_of, policy_set, seeded, service, shop};
use k8s_openapi::api::core::v1::Service;
use portreeve_crds::{Action, RuleId};
use portreeve_policy::finding::WARNING_LIMIT;
use portreeve_policy::{Outcome, Phase, PolicyKind, PolicySet};
use proptest::prelude::*;

const PHASES: [Phase; 3] = [Phase::Mutating, Phase::Validating, Phase::Scan];

fn mended(service: &Service, outcome: &Outcome) -> Service {
    let mut value = serde_json::to_value(service).expect("invariant: a Service is JSON");
    json_patch::patch(&mut value, &outcome.patch).expect("invariant: a mend applies to the object it was made for");
    serde_json::from_value(value).expect("invariant: a mended Service is a Service")
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn the_order_in_which_policies_are_listed_decides_nothing(
        (cluster, own, cluster_shuffled, own_shuffled) in
            (cluster_policies(&["defaults", "overrides"]), policies_of("shop")).prop_flat_map(|(cluster, own)| {
                let shuffled = (Just(cluster.clone()).prop_shuffle(), Just(own.clone()).prop_shuffle());
                (Just(cluster), Just(own), shuffled).prop_map(|(c, o, (cs, os))| (c, o, cs, os))
            }),
        service in service(),
    ) {
        let (one, other) = (PolicySet::compile(&cluster, &own), PolicySet::compile(&cluster_shuffled, &own_shuffled));
        prop_assert_eq!(one.set.effective(&shop(), &service), other.set.effective(&shop(), &service));
        prop_assert_eq!(one.set.matching(&shop(), &service), other.set.matching(&shop(), &service));
        prop_assert_eq!(one.problems, other.problems);
    }

    #[test]
    fn a_mended_service_has_nothing_left_to_mend(set in policy_set(), service in service(), facts in endpoints()) {
        let first = ask(&set, Phase::Mutating, None, &service, &facts);
        let after = mended(&service, &first);
        let second = ask(&set, Phase::Mutating, None, &after, &facts);
        prop_assert!(second.patch.0.is_empty(), "{:?}", second.patch);
        let scan = ask(&set, Phase::Scan, None, &after, &facts);
        prop_assert!(scan.findings.iter().all(|finding| finding.action != Action::Fix), "{:?}", scan.findings);
    }

    #[test]
    fn a_mend_touches_the_offending_members_and_no_other(set in policy_set(), service in service(), facts in endpoints()) {
        let after = mended(&service, &ask(&set, Phase::Mutating, None, &service, &facts));
        let (before, after) = (service.spec.unwrap_or_default(), after.spec.unwrap_or_default());
        prop_assert_eq!(before.type_, after.type_);
        prop_assert_eq!(before.selector, after.selector);
        prop_assert_eq!(before.external_ips, after.external_ips);
        prop_assert_eq!(before.ports, after.ports);
        if before.load_balancer_source_ranges.is_some() {
            prop_assert_eq!(before.load_balancer_source_ranges, after.load_balancer_source_ranges);
        }
    }

    #[test]
    fn an_update_that_changes_nothing_is_never_denied(set in policy_set(), service in service(), facts in endpoints()) {
        for phase in PHASES {
            let outcome = ask(&set, phase, Some(&service), &service, &facts);
            prop_assert!(outcome.findings.iter().all(|finding| finding.action != Action::Deny), "{:?}", outcome.findings);
        }
    }

    #[test]
    fn policies_of_other_namespaces_change_nothing(
        cluster in cluster_policies(&["defaults", "overrides"]),
        own in policies_of("shop"),
        foreign in policies_of("garden"),
        service in service(),
        facts in endpoints(),
    ) {
        let alone = PolicySet::compile(&cluster, &own).set;
        let both = PolicySet::compile(&cluster, &[own, foreign].concat()).set;
        prop_assert_eq!(alone.effective(&shop(), &service), both.effective(&shop(), &service));
        for phase in PHASES {
            prop_assert_eq!(ask(&alone, phase, None, &service, &facts), ask(&both, phase, None, &service, &facts));
        }
    }

    #[test]
    fn a_namespace_only_tightens_what_an_override_decided(
        over in cluster_policies(&["overrides"]),
        own in policies_of("shop"),
        service in service(),
    ) {
        let floor = PolicySet::compile(&over, &[]).set.effective(&shop(), &service);
        let both = PolicySet::compile(&over, &own).set.effective(&shop(), &service);
        for (rule, entry) in floor.rules.iter().filter(|(_, entry)| entry.policy.is_some()) {
            prop_assert!(both.rules[rule].action >= entry.action, "{rule}");
            prop_assert!(both.rules[rule].min_nodes >= entry.min_nodes, "{rule}");
        }
        if let Some((limit, _)) = floor.max_ratio_permille {
            prop_assert!(both.max_ratio_permille.is_some_and(|(tightened, _)| tightened <= limit));
        }
        prop_assert!(floor.required_local.is_none() || both.required_local.is_some());
        if floor.spread.policy.is_some() {
            prop_assert_eq!(floor.spread.mode, both.spread.mode);
        }
        if floor.data_path.policy.is_some() {
            prop_assert_eq!(floor.data_path.mode, both.data_path.mode);
        }
    }

    #[test]
    fn a_label_on_the_service_never_escapes_an_override(over in cluster_policies(&["overrides"]), service in service()) {
        let with = |ignore: &str| {
            let mut service = service.clone();
            service.metadata.labels.get_or_insert_default().insert("portreeve.io/ignore".to_owned(), ignore.to_owned());
            PolicySet::compile(&over, &[]).set.effective(&shop(), &service)
        };
        let (seen, ignored) = (with("false"), with("true"));
        for rule in RuleId::ALL {
            match &seen.rules[&rule].policy {
                Some(_) => prop_assert_eq!(&seen.rules[&rule], &ignored.rules[&rule]),
                None => prop_assert_eq!(ignored.rules[&rule].action, Action::Off),
            }
        }
    }

    #[test]
    fn a_decision_names_a_policy_that_is_among_the_deciders(set in policy_set(), service in service()) {
        let effective = set.effective(&shop(), &service);
        for policy in effective.rules.values().filter_map(|rule| rule.policy.as_ref()) {
            prop_assert!(effective.policies.contains(policy));
            prop_assert!(policy.kind == PolicyKind::Cluster || policy.namespace.as_deref() == Some("shop"));
        }
    }

    #[test]
    fn texts_are_of_bounded_length_and_without_control_characters(
        raw in any::<String>(),
        set in policy_set(),
        mut service in service(),
        facts in endpoints(),
    ) {
        for value in service.metadata.annotations.iter_mut().flatten().map(|(_, value)| value) {
            value.clone_from(&raw);
        }
        if let Some(spec) = &mut service.spec {
            spec.external_ips = Some(vec![raw.clone(); 4]);
            spec.load_balancer_ip = Some(raw.clone());
        }
        for finding in ask(&set, Phase::Scan, None, &service, &facts).findings {
            let (message, warning) = (finding.message(), finding.warning());
            prop_assert!(message.chars().count() <= 1024 && warning.chars().count() <= WARNING_LIMIT);
            prop_assert!(!message.chars().chain(warning.chars()).any(char::is_control));
        }
    }
}
