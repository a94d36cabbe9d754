use super::simulate::simulate;
use super::*;
use crate::iptables::text::parse;
use crate::nftables::testing::{
    elsewhere, guarded, observed, port, sample, service, sticky, table, uplinks, without_local,
};
use portreeve_table::Protocol::{Sctp, Tcp, Udp};
use portreeve_table::{
    Action, Arrival, ForwardingTable, FrontendKind, Memory, OnNoLocal, Packet, PortEntry, Standing, diff, oracle,
};
use proptest::prelude::*;
use std::fmt::Write as _;

fn goal<'a>(table: &'a ForwardingTable, uplinks: &'a BTreeSet<Interface>) -> Goal<'a> {
    Goal { table, uplinks }
}

fn rendered(table: &ForwardingTable) -> Ruleset {
    Ruleset::render(goal(table, &uplinks(&["eth0"])))
}

fn text(ruleset: &Ruleset) -> String {
    let mut text = String::new();
    for (family, table) in Family::BOTH.into_iter().flat_map(|family| Table::ALL.map(|table| (family, table))) {
        let put = ruleset.chains(family, table);
        if !put.is_empty() {
            let section = Section { put, hook: Some(true), ..Section::new(table) };
            write!(text, "# {family}\n{section}").unwrap();
        }
    }
    text
}

#[test]
fn one_service_of_every_kind() {
    insta::assert_snapshot!(text(&rendered(&sample())));
}

#[test]
fn nothing_claimed_is_a_frame_in_nat_alone_in_which_every_packet_passes() {
    insta::assert_snapshot!(text(&rendered(&ForwardingTable::default())));
}

fn changes(old: &ForwardingTable, new: &ForwardingTable) -> String {
    let mut ruleset = rendered(old);
    let changes = ruleset.follow(goal(new, &uplinks(&["eth0"])), &diff(old, new));
    Family::BOTH.iter().flat_map(|family| changes.get(*family)).map(ToString::to_string).collect()
}

#[test]
fn another_pod_of_one_service_is_a_change_of_one_chain() {
    let web = |pods: &[&str]| table([("web", service([port(Tcp, &["192.0.2.10"], 80, 30080, pods)]))]);
    let (two, others) = (["10.244.0.2:80", "10.244.0.3:80"], ["10.244.0.2:80", "10.244.0.4:80"]);
    insta::assert_snapshot!(changes(&web(&two), &web(&others)));
}

#[test]
fn what_is_refused_is_so_until_it_is_delivered_and_as_soon_as_it_is_not() {
    let web = |pods: &[&str]| table([("web", service([port(Tcp, &["192.0.2.10"], 80, 0, pods)]))]);
    let dropped = table([("web", service([elsewhere(Tcp, &["192.0.2.10"], 80)]))]);
    let order = |old: &ForwardingTable, new: &ForwardingTable| -> Vec<String> {
        changes(old, new).lines().filter_map(|line| line.strip_prefix('*')).map(Into::into).collect()
    };
    assert_eq!(order(&dropped, &web(&["10.244.0.2:80"])), ["nat", "mangle"]);
    assert_eq!(order(&web(&["10.244.0.2:80"]), &dropped), ["mangle", "nat"]);
    assert_eq!(order(&web(&["10.244.0.2:80"]), &web(&[])), ["filter", "nat"]);
    assert_eq!(order(&web(&[]), &dropped), ["mangle", "nat", "filter"]);
    assert_eq!(order(&dropped, &web(&[])), ["filter", "nat", "mangle"]);
}

#[test]
fn names_are_short_enough_and_two_things_have_two() {
    let ruleset = rendered(&sample());
    for (family, table) in Family::BOTH.into_iter().flat_map(|family| Table::ALL.map(|table| (family, table))) {
        for name in ruleset.chains(family, table).keys() {
            assert!(name.as_str().len() <= Name::LONGEST && Name::new(name.as_str()).as_ref() == Some(name), "{name}");
        }
    }
    let own = names::Own::service(&ServiceKey::new("a", "bc"));
    let other = names::Own::service(&ServiceKey::new("ab", "c"));
    assert_ne!(own.name(names::Word::Svc), other.name(names::Word::Svc));
}

/// Addresses and ports are few, so that frontends meet each other, node ports and load balancers' alike.
fn some_port() -> impl Strategy<Value = PortEntry> {
    let at = prop::sample::select(vec!["192.0.2.1", "192.0.2.2", "198.51.100.254", "2001:db8::1", "2001:db8:1::fe"]);
    let protocol = prop::sample::select(vec![Tcp, Udp, Sctp]);
    let standing = prop::sample::select(vec![
        Standing::LocalReady,
        Standing::LocalReady,
        Standing::LocalDraining,
        Standing::Elsewhere,
        Standing::Nowhere,
    ]);
    (at, protocol, 79..82_u16, prop::option::of(79..83_u16), 1..4_usize, standing, any::<bool>()).prop_map(
        |(at, protocol, number, node_port, pods, standing, guarded)| {
            let pods: Vec<String> = (1..=pods)
                .map(
                    |pod| if at.contains(':') { format!("[fd00:244::{pod}]:80") } else { format!("10.244.0.{pod}:80") },
                )
                .collect();
            let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
            let local = matches!(standing, Standing::LocalReady | Standing::LocalDraining);
            let mut port = port(protocol, &[at], number, node_port.unwrap_or(0), if local { &pods } else { &[] });
            port.standing = standing;
            for front in &mut port.frontends {
                front.guarded = guarded || front.kind == FrontendKind::LoadBalancer;
            }
            port
        },
    )
}

fn some_service() -> impl Strategy<Value = ServiceEntry> {
    let on_no_local =
        prop::sample::select(vec![OnNoLocal::Drop, OnNoLocal::Reject, OnNoLocal::Passthrough, OnNoLocal::Forward]);
    (prop::collection::vec(some_port(), 1..4), on_no_local, any::<[bool; 4]>()).prop_map(
        |(ports, on_no_local, [sources, own, affinity, observe])| {
            let named = |(number, port): (usize, PortEntry)| PortEntry { name: number.to_string().into(), ..port };
            let ports: Vec<PortEntry> = ports.into_iter().enumerate().map(named).collect();
            let mut entry = without_local(service(ports), on_no_local);
            if sources {
                entry = guarded(entry, &["203.0.113.0/25", "203.0.113.128/25"], own);
            }
            entry = if affinity { sticky(entry) } else { entry };
            if observe && own { observed(entry) } else { entry }
        },
    )
}

/// A table in which no two Services have the same frontend, as the compiler leaves them.
fn some_table() -> impl Strategy<Value = ForwardingTable> {
    (prop::collection::vec(some_service(), 0..8), any::<bool>()).prop_map(|(services, moved)| {
        let mut taken = BTreeSet::new();
        let names: Vec<String> = (0..services.len()).map(|number| number.to_string()).collect();
        let mut table = table(names.iter().map(String::as_str).zip(services.into_iter().map(|mut entry| {
            for port in &mut entry.ports {
                port.frontends.retain(|front| taken.insert(front.frontend));
            }
            entry
        })));
        if moved {
            table.node_addresses = vec!["192.0.2.2".parse().unwrap()];
        }
        table
    })
}

fn packets() -> Vec<Packet> {
    let mut packets = Vec::new();
    let sources = ["203.0.113.200", "198.51.100.1", "192.0.2.1", "10.244.0.9", "2001:db8::7", "fd00:244::9"];
    let destinations = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.254", "2001:db8::1", "2001:db8:1::fe"];
    for source in sources {
        for destination in destinations.into_iter().filter(|to| to.contains(':') == source.contains(':')) {
            for (protocol, opening) in [(Tcp, true), (Tcp, false), (Udp, false), (Sctp, true), (Sctp, false)] {
                for number in 79..83 {
                    let [source, destination] = [(source, 40_000), (destination, number)]
                        .map(|(host, port)| std::net::SocketAddr::new(host.parse().unwrap(), port));
                    let arrival = Arrival::Uplink;
                    packets.push(Packet { arrival, protocol, source, destination, opening, fragment: false });
                }
            }
        }
    }
    packets
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_chains_do_what_the_oracle_says(table in some_table()) {
        let ruleset = rendered(&table);
        let [uplink, other] = ["eth0", "eth1"].map(|name| Interface::new(name).unwrap());
        for packet in packets() {
            let wanted = match oracle(&table, &packet, &Memory::default()).action {
                Action::Observe { .. } | Action::Forward => Action::Pass,
                action => action,
            };
            prop_assert_eq!(simulate(&ruleset, &uplink, &packet), wanted, "{:?}", packet);
            prop_assert_eq!(simulate(&ruleset, &other, &packet), Action::Pass);
        }
    }

    /// Step by step leads where a new start leads; between the tables' transactions nothing that both tables refuse passes,
    /// and nothing is refused that neither does.
    #[test]
    fn the_steps_lead_from_any_table_to_any_other(old in some_table(), new in some_table()) {
        let eth0 = uplinks(&["eth0"]);
        let (uplink, before) = (Interface::new("eth0").unwrap(), rendered(&old));
        let mut ruleset = before.clone();
        let changes = ruleset.follow(goal(&new, &eth0), &diff(&old, &new));
        let after = rendered(&new);
        prop_assert_eq!(&ruleset, &after);
        let mut state: BTreeMap<(Family, Table), Chains> = BTreeMap::new();
        for (family, table) in Family::BOTH.into_iter().flat_map(|family| Table::ALL.map(|table| (family, table))) {
            state.insert((family, table), before.chains(family, table));
        }
        for family in Family::BOTH {
            for section in changes.get(family) {
                let chains = state.get_mut(&(family, section.table)).unwrap();
                prop_assert_eq!(section.hook, match (chains.is_empty(), chains.len() == section.remove.len()) {
                    (true, _) => Some(true),
                    (false, true) if section.put.is_empty() => Some(false),
                    _ => None,
                });
                for name in &section.remove {
                    prop_assert!(chains.remove(name).is_some(), "{} is not there", name);
                }
                chains.extend(section.put.clone());
                for rule in chains.values().flatten() {
                    if let Verdict::Jump(chain) | Verdict::Goto(chain) = &rule.verdict {
                        prop_assert!(chains.contains_key(chain), "{} is led to", chain);
                    }
                }
            }
        }
        for ((family, table), chains) in state {
            prop_assert_eq!(chains, after.chains(family, table));
        }
        for packet in packets() {
            prop_assert_eq!(simulate(&ruleset, &uplink, &packet), simulate(&after, &uplink, &packet));
        }
    }

    /// Names of namespaces, Services and ports decide names of chains through a hash alone, and every line is read back as
    /// exactly the rule that it was written for.
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
        let lines = text(&ruleset);
        prop_assert_eq!(lines.lines().count(), text(&rendered(&sample())).lines().count());
        for (family, of) in Family::BOTH.into_iter().flat_map(|family| Table::ALL.map(|table| (family, table))) {
            for rule in ruleset.chains(family, of).into_values().flatten() {
                prop_assert_eq!(parse(&rule.to_string()), Some(rule));
            }
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || " -_:.,!*#[]/\n".contains(c);
        prop_assert!(lines.chars().all(plain), "{}", lines);
    }

    #[test]
    fn whatever_is_read_can_be_written_and_read_again(words in prop::collection::vec(
        prop::sample::select(vec![
            "-s", "-d", "-i", "-p", "-m", "-j", "-g", "!", "--dport", "tcp", "udp", "10.0.0.0/8", "80:90", "eth0", "RETURN",
            "PORTREEVE-ENTRY", "KUBE-SERVICES", "comment", "--comment", "\"x", "recent", "--set", "DNAT", "--to-destination",
        ]), 0..12)) {
        let line = words.join(" ");
        if let Some(rule) = parse(&line) {
            prop_assert_eq!(parse(&rule.to_string()), Some(rule));
        }
    }
}
