//! What others do to our chains is told in sentences that name the Service.

use super::Variant;
use crate::namespace::Namespace;
use crate::nftables::testing::{Driven, port, sample, service, sticky, table};
use portreeve_table::Protocol;

/// Names of chains that begin with a word, in the order of the alphabet.
fn own(variant: Variant, word: &str) -> Vec<String> {
    let begins = format!(" :PORTREEVE-{word}");
    let chains =
        variant.listed().into_iter().filter(|line| line.starts_with("iptables-save nat") && line.contains(&begins));
    chains.map(|line| line.split([':', ' ']).find(|word| word.starts_with("PORTREEVE")).unwrap().to_owned()).collect()
}

/// The first rule of ours in nat that contains a text, and its chain.
fn rule(variant: Variant, what: &str) -> (String, String) {
    let line = variant.listed().into_iter().find(|line| line.contains("-save nat") && line.contains(what)).unwrap();
    let (chain, rule) = line.split_once(" -A ").unwrap().1.split_once(' ').unwrap();
    (chain.to_owned(), rule.to_owned())
}

pub(super) fn tampered(variant: Variant) {
    Namespace::new().run(move || {
        let mut driven = Driven::by(variant.open(), "eth0");
        let told = |driven: &mut Driven<_>| -> Vec<String> {
            let differences = driven.read_back();
            differences.into_iter().map(|(of, what)| format!("{}: {what}", of.as_deref().unwrap_or("-"))).collect()
        };
        driven.apply(&table([("alone", service([port(Protocol::Tcp, &["192.0.2.9"], 80, 0, &["10.244.0.2:80"])]))])).unwrap();
        assert_eq!(told(&mut driven), [""; 0]);
        let first = own(variant, "SVC-");
        driven.apply(&sample()).unwrap();
        assert_eq!(told(&mut driven), [""; 0], "untouched");
        assert!(!own(variant, "SVC-").contains(&first[0]));
        let (pod, in_nat) = (&own(variant, "POD-")[0], "in table nat of IPv4");
        let (leaf_chain, leaf) = rule(variant, "-d 192.0.2.10/32 -p sctp -m sctp --dport 36412 ");
        let (choice, first_choice) = rule(variant, "--probability 0.5");
        let drop = variant.listed().into_iter().find(|line| line.contains("192.0.2.40/32") && line.contains("-j DROP"));
        let drop = drop.unwrap().split_once(" -A ").unwrap().1.to_owned();
        let (drop_chain, dropped) = drop.split_once(' ').unwrap();
        let of = if first_choice.contains("-g ") { "sticky" } else { "web" };
        let changed = leaf.replace("-g ", "-j ");
        let ways: Vec<(String, Vec<String>)> = vec![
            (
                format!("*mangle\n-D {drop}\nCOMMIT\n"),
                vec![format!("dropped: chain {drop_chain} lacks the rule `{dropped}` in table mangle of IPv4")],
            ),
            (
                format!("*nat\n-D {leaf_chain} {leaf}\n-A {leaf_chain} {changed}\nCOMMIT\n"),
                vec![
                    format!("signal: chain {leaf_chain} lacks the rule `{leaf}` {in_nat}"),
                    format!("signal: chain {leaf_chain} has the rule `{changed}`, which is not ours, {in_nat}"),
                ],
            ),
            (format!("*nat\n-F {pod}\nCOMMIT\n"), vec![format!("sticky: chain {pod} has 0 rules instead of 1 {in_nat}")]),
            (
                format!("*nat\n-I {choice} 1 -j LOG\nCOMMIT\n"),
                vec![format!("{of}: chain {choice} has {} rules instead of {} {in_nat}", rules(variant, &choice) + 1, rules(variant, &choice))],
            ),
            (
                format!("*nat\n-D {choice} {first_choice}\n-A {choice} -j RETURN\nCOMMIT\n"),
                vec![format!("{of}: chain {choice} has another rule {} instead of `{}` {in_nat}", number(variant, &choice, &first_choice), first_choice)],
            ),
            (
                "*filter\n:PORTREEVE-MORE - [0:0]\n:PORTREEVE-more_of_it - [0:0]\nCOMMIT\n".to_owned(),
                vec![
                    "-: there is a chain PORTREEVE-MORE, which is not ours, in table filter of IPv4".to_owned(),
                    "-: there is a chain PORTREEVE-more_of_it, which is not ours, in table filter of IPv4".to_owned(),
                ],
            ),
            (
                "*nat\n-A PORTREEVE-ARRIVAL -m comment --comment theirs -j RETURN\nCOMMIT\n".to_owned(),
                vec![format!("-: chain PORTREEVE-ARRIVAL has a rule that is not ours {in_nat}")],
            ),
            (
                "*nat\n-I PREROUTING 1 -p udp -j ACCEPT\nCOMMIT\n".to_owned(),
                vec![format!("-: what leads to our chains is missing, is not the first rule, or is there more than once, {in_nat}")],
            ),
        ];
        for (way, expected) in ways {
            variant.load(&way);
            assert_eq!(told(&mut driven), expected, "{way}");
            driven.remove();
            variant.load("*nat\n-F PREROUTING\nCOMMIT\n");
            // A name that we give to nothing is nothing that we take away.
            if way.contains("more_of_it") {
                variant.load("*filter\n-X PORTREEVE-more_of_it\nCOMMIT\n");
            }
            driven.apply(&sample()).unwrap();
            assert_eq!(told(&mut driven), [""; 0]);
        }
        driven.apply(&table([("b", sticky(service([port(Protocol::Tcp, &["192.0.2.9"], 80, 0, &["10.244.0.2:80"])])))])).unwrap();
        let alone = own(variant, "");
        variant.load("*nat\n-F PREROUTING\nCOMMIT\n");
        variant.load(&format!("*nat\n{}COMMIT\n", alone.iter().map(|name| format!("-F {name}\n")).collect::<String>()));
        variant.load(&format!("*nat\n{}COMMIT\n", alone.iter().map(|name| format!("-X {name}\n")).collect::<String>()));
        let told = told(&mut driven);
        assert_eq!(told.iter().filter(|what| what.contains("is missing in")).count(), alone.len(), "{told:?}");
        assert_eq!(told.iter().filter(|what| what.starts_with("b: ")).count(), 2, "its own two: {told:?}");
    });
}

fn of_chain(variant: Variant, chain: &str) -> Vec<String> {
    let begins = format!(" -A {chain} ");
    let lines = variant.listed().into_iter().filter_map(|line| Some(line.split_once(&begins)?.1.to_owned()));
    lines.collect()
}

fn rules(variant: Variant, chain: &str) -> usize {
    of_chain(variant, chain).len()
}

/// The place of the first rule that is another when this one goes from its chain and another comes behind the last.
fn number(variant: Variant, chain: &str, rule: &str) -> usize {
    of_chain(variant, chain).iter().position(|have| have == rule).unwrap() + 1
}
