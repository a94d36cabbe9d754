//! What holds for every Service that an API server can hold.

use super::tests::server::write;
use super::{
    PlanContext, PlannedItem, plan_hash, plan_service, rollback_patch, stays_in_bounds, with_resource_version,
};
use crate::policies::PolicySet;
use crate::testing::{Ask, map};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use portreeve_crds::RuleId;
use portreeve_crds::migration::Decision;
use portreeve_crds::names::legacy;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};
use proptest::sample::{Index, select};
use proptest::test_runner::RngSeed;
use std::collections::BTreeMap;

/// Specs as the API server leaves them: no policy where nothing is reachable from outside, a health check node port
/// exactly on a LoadBalancer that is Local.
fn stored_spec() -> impl Strategy<Value = ServiceSpec> {
    let outside = (select(vec!["NodePort", "LoadBalancer", "ClusterIP"]), select(vec!["Local", "Cluster"])).prop_map(
        |(kind, policy)| ServiceSpec {
            type_: Some(kind.to_owned()),
            external_traffic_policy: Some(policy.to_owned()),
            external_ips: (kind == "ClusterIP").then(|| vec!["192.0.2.1".to_owned()]),
            health_check_node_port: (kind == "LoadBalancer" && policy == "Local").then_some(30500),
            ..ServiceSpec::default()
        },
    );
    // kube-proxy programs nothing for a headless Service; the API server sets a policy all the same.
    let headless = select(vec!["Local", "Cluster"]).prop_map(|policy| ServiceSpec {
        type_: Some("ClusterIP".to_owned()),
        cluster_ip: Some("None".to_owned()),
        external_traffic_policy: Some(policy.to_owned()),
        external_ips: Some(vec!["192.0.2.1".to_owned()]),
        ..ServiceSpec::default()
    });
    let inside = select(vec![("ClusterIP", None), ("ClusterIP", Some("None")), ("ExternalName", None)]);
    let inside = inside.prop_map(|(kind, address)| ServiceSpec {
        type_: Some(kind.to_owned()),
        cluster_ip: address.map(str::to_owned),
        ..ServiceSpec::default()
    });
    prop_oneof![6 => outside, 2 => inside, 1 => headless]
}

fn stored_service() -> impl Strategy<Value = Service> {
    let policies = select(vec!["OnlyLocal", "OnlyLocal", "OnlyLocal", "Global", "onlylocal", ""]);
    let ports = select(vec!["30500", "30999", "31000", "80", "http", "99999"]);
    let policy = || option::weighted(0.6, policies.clone());
    let port = || option::weighted(0.4, ports.clone());
    let values = (policy(), policy(), port(), port());
    let others = btree_map("example.org/[a-c]", "[a-z]{0,3}", 0..3);
    (stored_spec(), values, others, "[a-c]", "[a-e]").prop_map(|(spec, values, others, namespace, name)| {
        let mut annotations = others;
        let (beta, alpha, beta_port, alpha_port) = values;
        for (key, value) in legacy::ALL.into_iter().zip([beta, alpha, beta_port, alpha_port]) {
            annotations.extend(value.map(|value| (key.to_owned(), value.to_owned())));
        }
        let mut service = Service { spec: Some(spec), ..Service::default() };
        service.metadata.annotations = (!annotations.is_empty()).then_some(annotations);
        service.metadata.labels = Some(map(&[("app", "web")]));
        service.metadata.uid = Some(format!("uid-{namespace}-{name}"));
        service.metadata.resource_version = Some("7".to_owned());
        service.metadata.namespace = Some(namespace);
        service.metadata.name = Some(name);
        service
    })
}

fn renamed(mut service: Service, name: &str) -> Service {
    service.metadata.name = Some(name.to_owned());
    service
}

fn planned(service: &Service) -> Option<PlannedItem> {
    let held = BTreeMap::from([(30999, ("bank".to_owned(), "vault".to_owned()))]);
    plan_service(service, &PlanContext { node_port_range: 30000..=32767, health_check_ports_in_use: &held })
}

/// The Service without all that a migration may touch.
fn untouchable(service: &Service) -> Service {
    let mut rest = service.clone();
    if let Some(spec) = rest.spec.as_mut() {
        spec.external_traffic_policy = None;
        spec.health_check_node_port = None;
    }
    let mut annotations = rest.metadata.annotations.unwrap_or_default();
    annotations.retain(|key, _| !legacy::ALL.contains(&key.as_str()));
    rest.metadata.annotations = Some(annotations);
    rest
}

fn seeded() -> ProptestConfig {
    ProptestConfig { rng_seed: RngSeed::Fixed(8), failure_persistence: None, cases: 512, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(seeded())]

    #[test]
    fn a_service_is_planned_exactly_when_a_legacy_annotation_is_left(service in stored_service()) {
        let left = service.metadata.annotations.iter().flatten().any(|(key, _)| legacy::ALL.contains(&key.as_str()));
        prop_assert_eq!(planned(&service).is_some(), left);
        prop_assert_eq!(planned(&service), planned(&service));
    }

    #[test]
    fn a_migrated_service_is_not_planned_again(service in stored_service()) {
        let item = planned(&service).filter(|item| item.decision != Decision::Invalid);
        if let Some(item) = item {
            let after = write(&service, &with_resource_version(&item.patch, "7")).unwrap();
            prop_assert_eq!(planned(&after), None);
        }
    }

    #[test]
    fn a_contradiction_is_found_exactly_where_the_table_asks_or_keeps_the_field(service in stored_service()) {
        let found = !Ask::scan(&PolicySet::empty(), &service).fields_of(RuleId::ETP002).is_empty();
        let told = planned(&service).is_some_and(|item| {
            item.decision == Decision::NeedsApproval || item.reason.starts_with("the annotation says Global, but")
        });
        prop_assert_eq!(found, told);
    }

    #[test]
    fn only_an_approved_item_changes_the_field(service in stored_service()) {
        if let Some(item) = planned(&service) {
            let after = write(&service, &with_resource_version(&item.patch, "7")).unwrap();
            let policy = |service: &Service| service.spec.as_ref().unwrap().external_traffic_policy.clone();
            let changed = policy(&after) != policy(&service);
            prop_assert_eq!(changed, item.decision == Decision::NeedsApproval);
        }
    }

    #[test]
    fn nothing_but_four_annotations_and_two_fields_is_ever_touched(service in stored_service()) {
        if let Some(item) = planned(&service) {
            prop_assert!(stays_in_bounds(&item.patch) && stays_in_bounds(&item.inverse));
            let after = write(&service, &with_resource_version(&item.patch, "7")).unwrap();
            prop_assert_eq!(untouchable(&after), untouchable(&service));
        }
    }

    #[test]
    fn the_inverse_and_the_rollback_bring_back_what_was(service in stored_service()) {
        let item = planned(&service).filter(|item| item.decision != Decision::Invalid);
        if let Some(item) = item {
            let after = write(&service, &with_resource_version(&item.patch, "7")).unwrap();
            let rollback = rollback_patch(&item.to_spec("legacy"), &after).unwrap();
            prop_assert!(stays_in_bounds(&rollback));
            prop_assert_eq!(&rollback, &item.inverse);
            prop_assert_eq!(write(&after, &with_resource_version(&rollback, "7")).unwrap(), service);
        }
    }

    #[test]
    fn a_patch_fails_on_a_service_that_is_no_longer_as_planned(service in stored_service(), which in 0..3) {
        let item = planned(&service).filter(|item| item.decision != Decision::Invalid);
        if let Some(item) = item {
            let mut other = service.clone();
            match which {
                0 => other.metadata.uid = Some("another".to_owned()),
                1 => other.spec.as_mut().unwrap().type_ = Some("Another".to_owned()),
                _ => {
                    let key = item.before.annotations.keys().next().unwrap();
                    other.metadata.annotations.as_mut().unwrap().insert(key.clone(), "another".to_owned());
                }
            }
            prop_assert!(write(&other, &with_resource_version(&item.patch, "7")).is_err());
        }
    }

    #[test]
    fn the_hash_does_not_depend_on_the_order(
        (services, shuffled) in btree_map("[a-e]", stored_service(), 0..6).prop_flat_map(|named| {
            // Of one name there is one Service in a cluster.
            let all: Vec<Service> = named.into_iter().map(|(name, service)| renamed(service, &name)).collect();
            (Just(all.clone()), Just(all).prop_shuffle())
        }),
    ) {
        let hash = |services: &[Service]| plan_hash(&services.iter().filter_map(planned).collect::<Vec<_>>());
        prop_assert_eq!(hash(&services), hash(&shuffled));
    }

    #[test]
    fn the_hash_changes_exactly_when_an_item_to_approve_does(
        services in vec(stored_service(), 1..8), at in any::<Index>(), what in 0..4,
    ) {
        let items: Vec<PlannedItem> = services.iter().filter_map(planned).collect();
        if !items.is_empty() {
            let mut changed = items.clone();
            let item = at.get_mut(&mut changed);
            match what {
                0 => item.notes.push("changed".to_owned()),
                1 => item.before.health_check_node_port = Some(1),
                2 => item.reason.push('!'),
                _ => item.uid.push('x'),
            }
            let to_approve = item.decision == Decision::NeedsApproval;
            prop_assert_eq!(plan_hash(&items) != plan_hash(&changed), to_approve);
        }
    }
}
