//! The machine against a small API server that can lose the operator between any two writes.

mod world;

use super::answer::MOST_CONFLICTS;
use portreeve_crds::migration::{ItemState, MigrationPhase};
use proptest::prelude::*;
use serde_json::json;
use world::{Admission, Trouble, World};

const APPLY: &str = "Apply";

#[test]
fn a_plan_changes_nothing() {
    let mut world = World::new("Plan", &["safe", "changes", "invalid"]);
    let before = world.services();
    world.run();
    assert_eq!(world.services(), before);
    assert_eq!(world.phase(), Some(MigrationPhase::Planned));
    assert_eq!(world.item("invalid").state, Some(ItemState::Invalid));
}

#[test]
fn safe_items_are_done_and_traffic_waits_for_the_hash_that_was_shown() {
    let mut world = World::new(APPLY, &["safe", "changes", "invalid"]);
    world.run();
    assert_eq!(world.item("safe").state, Some(ItemState::Done));
    assert_eq!(world.item("changes").state, Some(ItemState::AwaitingApproval));
    assert_eq!(world.policy("changes"), "Cluster");
    assert_eq!(world.phase(), Some(MigrationPhase::AwaitingApproval));

    world.approve(&format!("sha256:{}", "0".repeat(64)));
    world.run();
    assert_eq!(world.policy("changes"), "Cluster", "another hash approves nothing");

    let hash = world.plan_hash();
    world.approve(&hash);
    world.run();
    assert_eq!(world.policy("changes"), "Local");
    assert_eq!(world.item("changes").state, Some(ItemState::Done));
    assert_eq!(world.phase(), Some(MigrationPhase::Completed));
    assert!(world.is_legacy("invalid"), "what nobody can read is never touched");
}

#[test]
fn applying_one_does_not_void_the_approval_of_the_rest_but_a_new_service_does() {
    let mut world = World::new(APPLY, &["changes", "changes-b"]);
    world.run();
    let hash = world.plan_hash();
    world.approve(&hash);
    world.run();
    assert_eq!((world.policy("changes"), world.policy("changes-b")), ("Local".into(), "Local".into()));
    assert_eq!(world.plan_hash(), hash);
    world.add_service("changes-c");
    world.run();
    assert_eq!(world.policy("changes-c"), "Cluster");
    assert_ne!(world.plan_hash(), hash);
    assert_eq!(world.phase(), Some(MigrationPhase::AwaitingApproval));
}

#[test]
fn traffic_of_two_services_never_changes_at_once() {
    let mut world = World::new(APPLY, &["changes", "changes-b"]);
    world.run();
    let hash = world.plan_hash();
    world.approve(&hash);
    world.run();
    assert_eq!(world.most_verifying, 1);
}

#[test]
fn a_gate_holds_back_until_pods_are_ready() {
    let mut world = World::new(APPLY, &["changes"]);
    world.set_pods("changes", &[]);
    world.run();
    let hash = world.plan_hash();
    world.approve(&hash);
    world.run();
    let item = world.item("changes");
    assert_eq!(item.state, Some(ItemState::Blocked));
    assert!(item.message.unwrap().contains("0 nodes have a ready Pod, 1 are wanted."));
    assert_eq!(world.phase(), Some(MigrationPhase::Blocked));
    let (reason, message) = world.condition("Ready");
    assert_eq!(reason, "Blocked");
    assert!(message.contains("shop/changes: Held back: 0 nodes"), "{message}");
    world.set_pods("changes", &["n1"]);
    world.run();
    assert_eq!(world.policy("changes"), "Local");
}

#[test]
fn a_service_that_does_not_stand_the_change_is_taken_back_and_the_rest_waits() {
    let mut world = World::new(APPLY, &["changes", "changes-b"]);
    world.run();
    let hash = world.plan_hash();
    world.approve(&hash);
    world.run_until(|world| world.item("changes").state == Some(ItemState::Verifying));
    world.set_pods("changes", &[]);
    world.run();
    assert_eq!(world.policy("changes"), "Cluster");
    assert!(world.is_legacy("changes"));
    assert_eq!(world.item("changes").state, Some(ItemState::RolledBack));
    assert_eq!(world.policy("changes-b"), "Cluster");
    assert_eq!(world.phase(), Some(MigrationPhase::Failed));
}

#[test]
fn a_rollback_restores_every_service_in_reverse_order() {
    let mut world = World::new(APPLY, &["changes", "changes-b", "safe"]);
    let before = world.specs();
    world.run();
    let hash = world.plan_hash();
    world.approve(&hash);
    world.run();
    world.set_spec(json!({"rollback": true}));
    world.run();
    assert_eq!(world.specs(), before);
    assert_eq!(world.undone, ["changes-b", "changes", "safe"]);
    assert_eq!(world.phase(), Some(MigrationPhase::RolledBack));
}

#[test]
fn a_port_that_cannot_be_had_blocks_unless_the_approval_accepts_another() {
    let mut world = World::new(APPLY, &["port"]);
    world.refuse_port = true;
    world.run();
    let hash = world.plan_hash();
    world.approve(&hash);
    world.run();
    assert_eq!(world.item("port").state, Some(ItemState::Blocked));
    assert_eq!(world.policy("port"), "Cluster");
    world.set_spec(json!({"approval": {"planHash": hash, "acceptNewHealthCheckNodePort": true}}));
    world.run();
    assert_eq!(world.policy("port"), "Local");
    let item = world.item("port");
    assert!(item.message.unwrap().contains("31234"), "the old number is named");
}

#[test]
fn an_endless_fight_ends() {
    let mut world = World::new(APPLY, &["safe"]);
    world.always_conflict = true;
    world.run();
    let item = world.item("safe");
    assert_eq!((item.state, item.conflicts), (Some(ItemState::Failed), Some(MOST_CONFLICTS)));
    world.always_conflict = false;
    world.set_spec(json!({"includeOwned": false}));
    world.run();
    assert_eq!(world.item("safe").state, Some(ItemState::Done), "a changed spec is the word to try again");
}

#[test]
fn an_owned_service_is_proposed_unless_asked_otherwise() {
    let mut world = World::new(APPLY, &["owned"]);
    world.run();
    assert_eq!(world.item("owned").state, Some(ItemState::Proposed));
    assert!(world.is_legacy("owned"));
    assert_eq!(world.phase(), Some(MigrationPhase::Proposed), "nothing was applied, so nothing is completed");
    let hash = world.plan_hash();
    world.set_spec(json!({"includeOwned": true, "approval": {"planHash": hash}}));
    world.run();
    assert!(!world.is_legacy("owned"));
}

#[test]
fn a_deleted_service_is_gone_and_an_edited_item_is_never_applied() {
    let mut world = World::new(APPLY, &["changes", "changes-b"]);
    world.run();
    world.delete_service("changes-b");
    world.run();
    assert_eq!(world.item("changes-b").state, Some(ItemState::Gone));
    // Somebody makes an item look safe, so that it would pass without approval.
    world.edit_item("changes", |item| item.spec.decision = portreeve_crds::migration::Decision::Safe);
    world.run();
    assert_eq!(world.policy("changes"), "Cluster");
    assert_eq!(world.item("changes").state, Some(ItemState::AwaitingApproval));
}

fn done(services: &[&str]) -> World {
    let mut world = World::new(APPLY, services);
    world.run();
    let hash = world.plan_hash();
    world.approve(&hash);
    world.run();
    assert_eq!(world.phase(), Some(MigrationPhase::Completed));
    world
}

#[test]
fn an_undo_keeps_annotations_that_the_index_does_not() {
    let mut world = World::new(APPLY, &["applied"]);
    let before = world.specs();
    world.run();
    let hash = world.plan_hash();
    world.approve(&hash);
    world.run();
    assert_eq!(world.service("applied").metadata.annotations.unwrap().len(), 1, "what kubectl keeps");
    world.set_spec(json!({"rollback": true}));
    world.run();
    assert_eq!(world.phase(), Some(MigrationPhase::RolledBack));
    assert_eq!(world.specs(), before);
}

#[test]
fn an_undo_that_admission_changes_is_no_success_and_can_be_tried_again() {
    let mut world = World::new(APPLY, &["changes", "safe"]);
    let before = world.specs();
    world.run();
    let hash = world.plan_hash();
    world.approve(&hash);
    world.run();
    world.admission = Admission::Removes;
    world.add_policy("tidy", "ETP001", "Fix");
    world.set_spec(json!({"rollback": true}));
    world.run();
    assert_eq!(world.phase(), Some(MigrationPhase::Failed));
    assert_eq!(world.policy("changes"), "Cluster", "traffic is restored all the same");
    for name in ["changes", "safe"] {
        let item = world.item(name);
        assert_eq!(item.state, Some(ItemState::Failed));
        let message = item.message.unwrap();
        assert!(message.starts_with("Traffic is as it was before, but admission removed"), "{message}");
        assert!(message.contains("ctp/tidy sets rule ETP001 to Fix"), "{message}");
        assert!(message.contains("kubectl portreeve migrate rollback m"), "{message}");
    }

    world.admission = Admission::Lets;
    world.set_spec(json!({"includeOwned": false}));
    world.run();
    assert_eq!(world.phase(), Some(MigrationPhase::RolledBack));
    assert_eq!(world.specs(), before);
}

#[test]
fn an_undo_that_admission_refuses_says_so_and_can_be_tried_again() {
    let mut world = World::new(APPLY, &["safe"]);
    let before = world.specs();
    world.run();
    world.admission = Admission::Denies;
    world.set_spec(json!({"rollback": true}));
    world.run();
    let message = world.item("safe").message.unwrap();
    assert!(message.starts_with("Admission refused the undo; nothing was changed."), "{message}");
    assert_eq!(world.phase(), Some(MigrationPhase::Failed));
    world.admission = Admission::Lets;
    world.set_spec(json!({"includeOwned": false}));
    world.run();
    assert_eq!(world.specs(), before);
}

#[test]
fn going_forward_again_keeps_the_record_of_what_could_not_be_undone() {
    let mut world = World::new(APPLY, &["changes", "safe"]);
    let before = world.specs();
    world.run();
    let hash = world.plan_hash();
    world.approve(&hash);
    world.run();
    world.admission = Admission::Removes;
    world.set_spec(json!({"rollback": true}));
    world.run();
    world.set_spec(json!({"rollback": null}));
    world.run();
    assert_eq!(world.phase(), Some(MigrationPhase::Completed));
    let message = world.item("changes").message.unwrap();
    assert!(message.contains("externalTrafficPolicy is not as it was approved"), "{message}");
    world.admission = Admission::Lets;
    world.set_spec(json!({"rollback": true}));
    world.run();
    assert_eq!(world.specs(), before);
}

#[test]
fn a_rollback_takes_back_what_did_not_stand_its_watch_too() {
    let mut world = World::new(APPLY, &["changes"]);
    let before = world.specs();
    world.set_spec(json!({"verify": {"autoRollback": false}}));
    world.run();
    let hash = world.plan_hash();
    world.approve(&hash);
    world.run_until(|world| world.item("changes").state == Some(ItemState::Verifying));
    world.set_pods("changes", &[]);
    world.run();
    assert_eq!(world.item("changes").state, Some(ItemState::Failed));
    world.set_spec(json!({"rollback": true}));
    world.run();
    assert_eq!(world.specs(), before);
    assert_eq!(world.phase(), Some(MigrationPhase::RolledBack));
}

#[test]
fn a_change_that_cannot_be_undone_fails_once_and_says_why() {
    let mut world = done(&["safe"]);
    world.edit_service("safe", |service| {
        let key = "service.beta.kubernetes.io/external-traffic".to_owned();
        service.metadata.annotations.get_or_insert_default().insert(key, "OnlyLocal".to_owned());
    });
    world.set_spec(json!({"rollback": true}));
    world.run();
    assert!(world.item("safe").message.unwrap().starts_with("Cannot be undone: annotation"));
    assert_eq!(world.phase(), Some(MigrationPhase::Failed));
}

#[test]
fn what_failed_before_it_was_applied_does_not_stop_a_rollback() {
    let mut world = World::new(APPLY, &["safe", "changes"]);
    let before = world.specs();
    world.run();
    world.always_conflict = true;
    let hash = world.plan_hash();
    world.approve(&hash);
    world.run();
    assert_eq!(world.phase(), Some(MigrationPhase::Failed));
    world.always_conflict = false;
    world.set_spec(json!({"rollback": true}));
    world.run();
    assert_eq!(world.phase(), Some(MigrationPhase::RolledBack));
    assert_eq!(world.specs(), before);
}

#[test]
fn completed_tells_what_was_not_applied() {
    let world = done(&["safe", "owned", "invalid"]);
    let (_, message) = world.condition("Ready");
    let told =
        "1 item applied; 1 item only proposed, for the sources of the manifests; 1 item not readable and not touched.";
    assert_eq!(message, told);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, rng_algorithm: prop::test_runner::RngAlgorithm::ChaCha, ..ProptestConfig::default() })]

    #[test]
    fn whatever_fails_in_between_approved_items_end_applied_and_a_rollback_restores(
        troubles in prop::collection::vec(prop::sample::select(vec![
            Trouble::None, Trouble::None, Trouble::CrashAfterIntent, Trouble::CrashAfterPatch, Trouble::Touch, Trouble::CrashAtOnce,
        ]), 0..24),
        undo_troubles in prop::collection::vec(prop::sample::select(vec![
            Trouble::None, Trouble::CrashAfterPatch, Trouble::CrashAtOnce,
        ]), 0..12),
    ) {
        let mut world = World::new(APPLY, &["changes", "changes-b", "safe", "invalid"]);
        let before = world.specs();
        world.run();
        let hash = world.plan_hash();
        world.approve(&hash);
        let touches = troubles.iter().filter(|trouble| **trouble == Trouble::Touch).count();
        world.troubles = troubles.into();
        world.run();
        prop_assert!(world.most_verifying <= 1);
        prop_assert_eq!(world.plan_hash(), hash);
        if touches < usize::try_from(MOST_CONFLICTS).unwrap() {
            prop_assert_eq!(world.phase(), Some(MigrationPhase::Completed));
            for name in ["changes", "changes-b"] {
                prop_assert_eq!(world.policy(name), "Local");
                prop_assert!(world.item(name).applied_at.is_some(), "what we changed can be undone");
            }
        }
        world.set_spec(json!({"rollback": true}));
        world.troubles = undo_troubles.into();
        world.run();
        prop_assert_eq!(world.specs(), before);
    }
}
