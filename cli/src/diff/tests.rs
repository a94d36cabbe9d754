use super::compare::{Asked, NodeLook, Outcome, Repair, look};
use super::show;
use crate::agents::Said;
use crate::exit::Exit;
use crate::source::parse;
use crate::world::{Objects, World};
use portreeve_ask::{Answer, KernelDifference, ReadBack, Standing, TablePage, page};
use portreeve_table::ServiceKey;
use std::collections::{BTreeMap, BTreeSet};

const CLUSTER: &str = include_str!("../explain/tests/cluster.yaml");

fn world() -> World {
    World::new(Objects::of_documents(&parse("a.yaml", CLUSTER).unwrap(), Some("shop")).unwrap())
}

/// What the agent of `node` says that is in step.
fn table(node: &str) -> TablePage {
    let mut world = world();
    world.input.this_node = world.sites.iter().find(|site| *site.node.name == *node).unwrap().node.clone();
    let standing = Standing::InForce { backend: "nftables".to_owned() };
    page(&portreeve_table::compile(&world.input), standing, &BTreeSet::new(), None)
}

fn kernel(differences: &[(Option<&str>, &str)]) -> Said {
    let one = |(service, what): &(Option<&str>, &str)| KernelDifference {
        service: service.map(str::to_owned),
        what: (*what).to_owned(),
    };
    let standing = Standing::InForce { backend: "nftables".to_owned() };
    let differences = differences.iter().map(one).collect();
    Ok(vec![Answer::ReadBack(ReadBack { standing, differences, omitted: 0, milliseconds: 1 })])
}

fn looked(table: TablePage, kernel: Said, service: Option<&ServiceKey>) -> NodeLook {
    look(&mut world(), "a", Asked { service, table: Ok(vec![Answer::Table(table)]), kernel })
}

fn outcome(nodes: impl IntoIterator<Item = (&'static str, NodeLook)>) -> Outcome {
    Outcome::new(nodes.into_iter().map(|(node, look)| (node.to_owned(), look)).collect())
}

#[test]
fn an_agent_and_a_kernel_in_step_do_not_differ() {
    let node = world().sites[0].node.name.to_string();
    let own = table(&node);
    assert!(!own.services.is_empty(), "there is something to compare");
    let look =
        look(&mut world(), &node, Asked { service: None, table: Ok(vec![Answer::Table(own)]), kernel: kernel(&[]) });
    assert!(look.is_clean(), "{look:?}");
    assert_eq!(outcome([("a", look)]).exit(), Exit::Clean);
}

/// Everything that can differ, once.
fn spoilt() -> NodeLook {
    let mut table = table("a");
    let name = table.services.keys().next().unwrap().clone();
    let mut view = table.services[&name].clone();
    table.services.insert("shop/left-over".to_owned(), view.clone());
    view.on_no_local = "Reject".to_owned();
    view.ports.values_mut().next().unwrap().targets.clear();
    table.services.insert(name.clone(), view);
    let last = table.services.keys().rev().find(|last| **last != name && *last != "shop/left-over").unwrap().clone();
    table.services.remove(&last);
    table.refused.insert(last, "it needs 2 frontends and older Services leave room for 1".to_owned());
    table.node_addresses.clear();
    looked(table, kernel(&[(Some(&name), "node port 30080/tcp (IPv4) is missing"), (None, "the chain is empty")]), None)
}

#[test]
fn each_difference_names_its_service_its_field_and_both_values() {
    let silent = NodeLook { untold: ["no agent runs on it".to_owned()].into(), ..NodeLook::default() };
    let found = outcome([("a", spoilt()), ("b", silent), ("c", NodeLook { services: 2, ..NodeLook::default() })]);
    assert_eq!(found.exit(), Exit::Untold);
    insta::assert_snapshot!(show::people(&found, "portreeve-system"));
    insta::assert_json_snapshot!(show::json(&found));
}

#[test]
fn only_what_is_seen_twice_is_a_difference() {
    let before = spoilt();
    let calm = looked(table("a"), kernel(&[]), None);
    assert!(calm.clone().confirming(&before).is_clean());
    let other = looked(table("a"), kernel(&[(None, "another thing")]), None);
    assert!(other.confirming(&before).is_clean(), "each was there once");
    assert_eq!(spoilt().confirming(&before), before);
    let silent = NodeLook { untold: ["it starts".to_owned()].into(), ..NodeLook::default() };
    let late = spoilt().confirming(&silent);
    assert_eq!((late.differences.len(), late.untold.len()), (0, 1), "seen once, so it is not known");
}

#[test]
fn one_service_alone_is_compared_when_one_is_asked_for() {
    let name = table("a").services.keys().next().unwrap().clone();
    let key = portreeve_ask::service_key(&name).unwrap();
    let mut own = table("a");
    own.services.retain(|other, _| *other == name);
    own.node_addresses.clear();
    let said = kernel(&[(Some("shop/other-one"), "gone"), (None, "the chain is empty")]);
    let look = looked(own, said, Some(&key));
    let what: Vec<&str> = look.differences.keys().map(|place| place.what.as_str()).collect();
    assert_eq!((what, look.services), (vec!["the chain is empty"], 1));
}

#[test]
fn a_kernel_that_was_never_programmed_is_one_difference_and_an_answer_that_fails_is_none() {
    let mut own = table("a");
    own.standing = Standing::NotYet;
    let look = looked(own, Err("nothing is programmed yet".to_owned()), None);
    assert_eq!((look.differences.len(), look.untold.len()), (1, 0));
    let look = looked(table("a"), Err("no route".to_owned()), None);
    assert_eq!((look.differences.len(), look.untold.len()), (0, 1));
}

#[test]
fn after_a_repair_what_there_is_then_decides() {
    let mut found = outcome([("a", spoilt()), ("b", NodeLook { services: 1, ..NodeLook::default() })]);
    assert_eq!(found.exit(), Exit::Findings);
    assert_eq!(found.different(), BTreeSet::from(["a".to_owned()]));
    let done = Repair { backend: "nftables".to_owned(), milliseconds: 12 };
    let calm = looked(table("a"), kernel(&[]), None);
    found.repaired(BTreeMap::from([("a".to_owned(), Ok(done))]), outcome([("a", calm)]));
    assert_eq!(found.exit(), Exit::Clean);
    insta::assert_snapshot!(show::people(&found, "portreeve-system"));
    let failed = Err("not in force, it is tried again: no memory".to_owned());
    found.repaired(BTreeMap::from([("a".to_owned(), failed)]), outcome([("a", spoilt())]));
    assert_eq!(found.exit(), Exit::Untold);
}
