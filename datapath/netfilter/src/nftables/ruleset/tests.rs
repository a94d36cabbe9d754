use super::super::testing::{elsewhere, guarded, port, sample, service, sticky, table, uplinks};
use super::*;
use portreeve_table::Protocol::{Tcp, Udp};
use portreeve_table::{Interface, diff};
use proptest::prelude::*;

fn rendered(table: &ForwardingTable) -> Ruleset {
    render(Goal { table, uplinks: &uplinks(&["eth0"]) })
}

/// The commands from one table to another; they leave the ruleset that the other one has by itself.
fn changes(old: &ForwardingTable, new: &ForwardingTable) -> Vec<Command> {
    let mut ruleset = rendered(old);
    let commands = ruleset.follow(Goal { table: new, uplinks: &uplinks(&["eth0"]) }, &diff(old, new));
    assert_eq!(ruleset, rendered(new));
    commands
}

fn texts(commands: &[Command]) -> Vec<String> {
    commands.iter().map(ToString::to_string).collect()
}

#[test]
fn one_service_of_every_kind() {
    insta::assert_snapshot!(rendered(&sample()));
}

#[test]
fn nothing_claimed_is_a_frame_in_which_every_packet_passes() {
    let ruleset = rendered(&ForwardingTable::default());
    assert_eq!(ruleset.whole(), *ruleset.frame());
    let elements: Vec<&str> = ruleset.frame().elements.keys().map(|(set, _)| set.as_str()).collect();
    assert_eq!(elements, ["uplinks"]);
}

#[test]
fn equal_rulesets_need_no_step() {
    assert_eq!(changes(&sample(), &sample()), []);
}

#[test]
fn another_pod_of_one_service_is_a_matter_of_elements() {
    let web = |pods: &[&str]| ("web", service([port(Tcp, &["192.0.2.10"], 80, 30080, pods)]));
    let other = || ("other", service([port(Tcp, &["192.0.2.11"], 80, 30081, &["10.244.0.9:80", "10.244.0.10:80"])]));
    let before = table([web(&["10.244.0.2:80", "10.244.0.3:80"]), other()]);
    let after = table([web(&["10.244.0.2:80", "10.244.0.4:80"]), other()]);
    assert_eq!(
        texts(&changes(&before, &after)),
        [
            "remove 1 elements from node-slot4-1",
            "remove 1 elements from slot4-1",
            "add 1 elements to node-slot4-1",
            "add 1 elements to slot4-1",
        ]
    );
}

#[test]
fn a_frontend_that_goes_from_one_service_to_another_is_free_before_it_is_taken() {
    let at = |name, address| (name, service([elsewhere(Tcp, &[address], 80)]));
    let before = table([at("a", "192.0.2.1"), at("b", "192.0.2.2")]);
    let mut swapped = table([at("a", "192.0.2.2"), at("b", "192.0.2.1")]);
    for entry in swapped.services.values_mut() {
        Arc::make_mut(entry).on_no_local = portreeve_table::OnNoLocal::Reject;
    }
    let steps = texts(&changes(&before, &swapped));
    assert_eq!(steps, ["remove 2 elements from frontends4", "add 2 elements to frontends4"]);
}

#[test]
fn a_pod_that_leaves_takes_the_clients_it_remembers_along_and_no_others() {
    let with = |pods: &[&str]| table([("web", sticky(service([port(Udp, &["192.0.2.10"], 80, 0, pods)])))]);
    let steps = texts(&changes(&with(&["10.244.0.2:80", "10.244.0.3:80"]), &with(&["10.244.0.3:80"])));
    let about = |what: &str| steps.iter().filter(|step| step.starts_with(what)).count();
    assert_eq!((about("remove set bound-10800-"), about("add set")), (1, 0), "{steps:?}");
}

#[test]
fn ranges_that_touch_or_contain_each_other_are_one() {
    let ranges = ["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16"];
    let ruleset = rendered(&table([("web", guarded(service([elsewhere(Tcp, &["192.0.2.1"], 80)]), &ranges, false))]));
    let part = ruleset.part(&ServiceKey::new("shop", "web")).unwrap();
    let ranges: Vec<String> = part
        .elements
        .keys()
        .filter(|(set, _)| set.as_str().starts_with("sources4-"))
        .map(|(_, key)| key.to_string())
        .collect();
    assert_eq!(ranges, ["10.0.0.0/8"]);
}

#[test]
fn an_interface_with_a_name_that_would_mean_something_is_none() {
    for name in ["", ".", "..", "a b", "a\"b", "eth*", "a/b", "a:b", "a\\b", "sixteen-letters-", "\u{e9}th0"] {
        assert_eq!(Interface::new(name), None, "{name}");
    }
    assert!(Interface::new("eth0.100@if7").is_some());
}

proptest! {
    /// Names of namespaces, Services and ports decide names of chains and sets through a hash alone.
    #[test]
    fn no_text_of_users_becomes_part_of_a_ruleset(namespace in ".*", name in ".*", port_name in ".*") {
        let mut table = sample();
        table.services = table
            .services
            .into_iter()
            .map(|(key, mut entry)| {
                for port in &mut Arc::make_mut(&mut entry).ports {
                    port.name = port_name.as_str().into();
                }
                (ServiceKey::new(&namespace, &format!("{name}{}", key.name)), entry)
            })
            .collect();
        let ruleset = rendered(&table);
        let whole = ruleset.whole();
        for own in whole.sets.keys().chain(whole.chains.keys()) {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            prop_assert!(own.as_str().bytes().all(plain) && own.as_str().len() < 64, "{own}");
        }
        let text = ruleset.to_string();
        prop_assert_eq!(text.lines().count(), rendered(&sample()).to_string().lines().count());
    }

    /// What the steps leave, taken one after the other, is the new ruleset, and no step needs a later one.
    #[test]
    fn the_steps_lead_from_any_of_these_tables_to_any_other(from in any::<u16>(), to in any::<u16>()) {
        let some = |mask: u16| {
            let mut table = sample();
            let mut bit = 0;
            table.services.retain(|_, _| { bit += 1; mask >> bit & 1 == 1 });
            table
        };
        let (old, new) = (some(from), some(to));
        let mut state = rendered(&old).whole();
        for command in changes(&old, &new) {
            take(&mut state, command);
        }
        prop_assert_eq!(state, rendered(&new).whole());
    }
}

fn take(state: &mut Part, command: Command) {
    match command {
        Command::AddTable => {}
        Command::ResetTable | Command::RemoveTable => *state = Part::default(),
        Command::RemoveElements(set, elements) => {
            for (key, datum) in elements {
                assert_eq!(state.elements.remove(&(set.clone(), key)), Some(datum));
            }
        }
        Command::EmptySet(set) => state.elements.retain(|(of, _), _| *of != set),
        Command::FlushChain(chain) => state.chains.get_mut(&chain).unwrap().rules.clear(),
        Command::RemoveChain(chain) => assert!(state.chains.remove(&chain).unwrap().rules.is_empty()),
        Command::RemoveSet(set) => {
            state.sets.remove(&set).unwrap();
            state.elements.retain(|(of, _), _| *of != set);
        }
        Command::AddSet(name, set) => assert_eq!(state.sets.insert(name, set), None),
        Command::AddChain(name, kind) => {
            assert_eq!(state.chains.insert(name, Chain { kind, rules: Vec::new() }), None);
        }
        Command::AddElements(set, elements) => {
            assert!(state.sets.contains_key(&set), "{set}");
            for (key, datum) in elements {
                if let Datum::Goto(chain) = &datum {
                    assert!(state.chains.contains_key(chain), "{chain}");
                }
                assert_eq!(state.elements.insert((set.clone(), key), datum), None);
            }
        }
        Command::Remind(set, _) => assert!(state.sets.contains_key(&set), "{set}"),
        Command::AddRule(chain, rule) => state.chains.get_mut(&chain).unwrap().rules.push(rule),
    }
}
