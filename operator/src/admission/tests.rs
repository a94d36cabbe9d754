use super::Endpoint;
use super::build::{Prepared, build, mutating_configuration, validating_configuration};
use super::owner::Owner;
use super::plan::{Next, SETTLE, Step, plan};
use super::validate::{Ca, Tls, Validated};
use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use portreeve_runtime::tls::{Authority, issued_by, overlap};
use std::time::Duration;

const DAY: i64 = 86_400;

fn at(day: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + day * DAY).unwrap()
}

fn endpoint() -> Endpoint {
    Endpoint {
        namespace: "portreeve-system".to_owned(),
        service: "portreeve-webhook".to_owned(),
        url: None,
        extra_names: vec![],
        ca_life: Duration::from_secs(365 * 86_400),
        leaf_life: Duration::from_secs(30 * 86_400),
    }
}

fn authority(now: Timestamp) -> Ca {
    let authority = Authority::generate("ca", endpoint().ca_life, now).unwrap();
    Ca {
        cert_pem: authority.cert_pem().to_owned(),
        key_pem: authority.key_pem().to_owned(),
        validity: authority.validity(),
    }
}

fn leaf(ca: &Ca, bundle: String, now: Timestamp) -> Tls {
    let authority = Authority::from_pem(&ca.cert_pem, &ca.key_pem).unwrap();
    let leaf = authority.issue(&endpoint().names(), endpoint().leaf_life, now).unwrap();
    let names = endpoint().names();
    Tls { cert_pem: leaf.cert_pem, key_pem: leaf.key_pem, bundle, validity: leaf.validity, by_current: true, names }
}

fn step(ca: Option<&Ca>, tls: Option<&Tls>, registered_for: Option<Duration>, now: Timestamp) -> Step {
    plan(ca, tls, &endpoint().names(), registered_for, now)
}

#[test]
fn a_new_cluster_gets_an_authority_then_a_leaf_then_registrations() {
    assert_eq!(step(None, None, None, at(0)), Step::MakeAuthority);
    let ca = authority(at(0));
    let Step::IssueLeaf(bundle) = step(Some(&ca), None, None, at(0)) else { panic!("a leaf is next") };
    let tls = leaf(&ca, bundle.clone(), at(0));
    let Step::Register { bundle: registered, next: Next::At(due) } = step(Some(&ca), Some(&tls), None, at(0)) else {
        panic!("registration is next")
    };
    assert_eq!(registered, bundle);
    assert!(due > at(19) && due < at(21), "a leaf of 30 days is renewed at two thirds: {due}");
}

#[test]
fn a_new_authority_is_known_everywhere_before_its_first_leaf_is_served() {
    let old = authority(at(0));
    let now = at(250);
    let served = leaf(&old, overlap(&old.cert_pem, "", at(240)), at(240));
    assert_eq!(step(Some(&old), Some(&served), None, now), Step::MakeAuthority, "two thirds of its year have passed");

    let new = authority(now);
    let served = Tls { by_current: issued_by(&served.cert_pem, &new.cert_pem).unwrap(), ..served };
    assert!(!served.by_current);
    let Step::PublishBundle(bundle) = step(Some(&new), Some(&served), None, now) else { panic!("the bundle is next") };
    assert!(bundle.starts_with(new.cert_pem.trim()) && bundle.contains(old.cert_pem.trim()));

    let served = Tls { bundle: bundle.clone(), ..served };
    let waits = |registered_for| step(Some(&new), Some(&served), registered_for, now);
    assert!(matches!(waits(None), Step::Register { next: Next::Settling(SETTLE), .. }));
    let early = Some(SETTLE - Duration::from_secs(1));
    assert!(matches!(waits(early), Step::Register { next: Next::Settling(_), .. }));
    assert_eq!(waits(Some(SETTLE)), Step::IssueLeaf(bundle.clone()));

    let served = leaf(&new, bundle, now);
    assert!(matches!(step(Some(&new), Some(&served), None, now), Step::Register { next: Next::At(_), .. }));
}

#[test]
fn an_old_authority_leaves_the_bundle_when_it_ends() {
    let (old, now) = (authority(at(0)), at(366));
    let new = authority(at(250));
    let served = leaf(&new, overlap(&new.cert_pem, &old.cert_pem, at(250)), at(350));
    let Step::PublishBundle(bundle) = step(Some(&new), Some(&served), None, now) else { panic!("the bundle is next") };
    assert!(!bundle.contains(old.cert_pem.trim()));
}

#[test]
fn a_leaf_that_nobody_can_verify_any_more_is_replaced_at_once() {
    let (old, new) = (authority(at(0)), authority(at(40)));
    let served = Tls { by_current: false, ..leaf(&old, overlap(&old.cert_pem, "", at(0)), at(0)) };
    assert!(matches!(step(Some(&new), Some(&served), None, at(40)), Step::IssueLeaf(_)));
}

#[test]
fn other_names_ask_for_another_leaf() {
    let ca = authority(at(0));
    let served = leaf(&ca, overlap(&ca.cert_pem, "", at(0)), at(0));
    let names = ["elsewhere".to_owned()];
    assert!(matches!(plan(Some(&ca), Some(&served), &names, None, at(0)), Step::IssueLeaf(_)));
}

/// Settled certificates and the registrations that go with them.
struct Registered {
    ca: Ca,
    tls: Tls,
    validating: ValidatingWebhookConfiguration,
    mutating: MutatingWebhookConfiguration,
    injects: bool,
}

impl Registered {
    fn new() -> Self {
        let ca = authority(at(0));
        let tls = leaf(&ca, overlap(&ca.cert_pem, "", at(0)), at(0));
        let validating = validating_configuration(&endpoint(), &tls.bundle);
        let mutating = mutating_configuration(&endpoint(), &tls.bundle, false);
        Self { ca, tls, validating, mutating, injects: false }
    }

    fn next(&self, owner: Option<&Owner>) -> Prepared {
        let view = Validated {
            ca: Some(self.ca.clone()),
            tls: Some(self.tls.clone()),
            ca_version: None,
            tls_version: None,
            validating: Some(&self.validating),
            mutating: Some(&self.mutating),
            injects: self.injects,
        };
        build(view, &endpoint(), owner, None, at(0))
    }
}

#[test]
fn a_foreign_edit_of_a_registration_is_taken_back_and_a_true_one_left_alone() {
    let mut world = Registered::new();
    assert!(matches!(world.next(Some(&Owner::Nobody)), Prepared::Settled { .. }));
    world.injects = true;
    let Prepared::Mutating(wanted) = world.next(Some(&Owner::Nobody)) else {
        panic!("Pods are registered once needed")
    };
    assert_eq!(wanted.webhooks.map(|webhooks| webhooks.len()), Some(2));

    let wanted = world.validating.clone();
    world.validating.webhooks.as_mut().unwrap()[0].failure_policy = Some("Fail".to_owned());
    world.validating.metadata.resource_version = Some("7".to_owned());
    let Prepared::Validating(mended) = world.next(Some(&Owner::Nobody)) else { panic!("the edit is taken back") };
    assert_eq!((&mended.webhooks, mended.metadata.resource_version.as_deref()), (&wanted.webhooks, Some("7")));
}

#[test]
fn registrations_belong_to_the_installation_and_go_with_it() {
    let mut world = Registered::new();
    assert!(matches!(world.next(None), Prepared::FindOwner), "the owner is looked for first");
    let installed = Owner::ClusterRole { uid: "u".to_owned() };
    assert!(matches!(world.next(Some(&installed)), Prepared::Validating(_)), "a registration without owner is marked");
    installed.mark(&mut world.validating.metadata);
    assert!(matches!(world.next(Some(&installed)), Prepared::Mutating(_)));
    installed.mark(&mut world.mutating.metadata);
    assert!(matches!(world.next(Some(&installed)), Prepared::Settled { .. }));

    let owners = world.validating.metadata.owner_references.clone().unwrap();
    assert_eq!((owners[0].kind.as_str(), owners[0].name.as_str()), ("ClusterRole", "portreeve-operator"));
    assert_eq!(owners[0].block_owner_deletion, None, "it would need rights on the ClusterRole");
    let anew = Owner::ClusterRole { uid: "w".to_owned() };
    assert!(matches!(world.next(Some(&anew)), Prepared::Validating(_)), "a role made anew owns them instead");
}

#[test]
fn the_registrations_are_as_they_are_documented() {
    let validating = validating_configuration(&endpoint(), "BUNDLE");
    let mutating = mutating_configuration(&endpoint(), "BUNDLE", true);
    insta::assert_yaml_snapshot!("validating", serde_json::to_value(validating).unwrap());
    insta::assert_yaml_snapshot!("mutating", serde_json::to_value(mutating).unwrap());
    let outside = Endpoint { url: Some("https://127.0.0.1:9443".to_owned()), ..endpoint() };
    let outside = validating_configuration(&outside, "BUNDLE").webhooks.unwrap().remove(0).client_config;
    assert_eq!(outside.url.as_deref(), Some("https://127.0.0.1:9443/validate/services"));
    assert!(outside.service.is_none());
}
