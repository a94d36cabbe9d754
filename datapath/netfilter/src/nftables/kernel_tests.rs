//! The ruleset in a kernel: in network namespaces of the tests' own, as root or as root of a user namespace.

mod packets;
mod read_back;

use super::ruleset::render;
use super::testing::{Driven, elsewhere, guarded, port, sample, service, sticky, table, uplinks};
use crate::namespace::{self, Namespace, initial_user_namespace, privileged};
use portreeve_table::{Applied, ForwardingTable, Goal, Integrity, Protocol};
use std::io::Write;
use std::process::{Command, Stdio};

/// What nft(8) sees, its sets and chains sorted: their order is that of creation.
fn listed() -> Vec<String> {
    let output = Command::new("nft").args(["list", "ruleset"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let inner = text.trim().strip_prefix("table inet portreeve {").and_then(|text| text.strip_suffix('}'));
    let mut blocks: Vec<String> =
        inner.unwrap_or_default().split("\n\n").map(|block| block.trim().to_owned()).collect();
    blocks.sort();
    blocks
}

fn load(text: &str) {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(nft.wait().unwrap().success(), "nft refuses the text:\n{text}");
}

/// What nft(8) sees of a table that was put in force at once.
fn fresh(table: ForwardingTable) -> Vec<String> {
    Namespace::new().run(move || {
        Driven::on("eth0").apply(&table).unwrap();
        listed()
    })
}

#[test]
fn our_messages_and_our_text_are_the_same_to_nft() {
    privileged("our_messages_and_our_text_are_the_same_to_nft", || {
        let text = render(Goal { table: &sample(), uplinks: &uplinks(&["eth0"]) }).to_string();
        let from_text = Namespace::new().run(move || {
            load(&text);
            listed()
        });
        assert!(from_text.len() > 40);
        similar(&fresh(sample()), &from_text);
    });
}

fn similar(ours: &[String], theirs: &[String]) {
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
}

#[test]
fn step_by_step_leads_where_a_new_start_leads() {
    privileged("step_by_step_leads_where_a_new_start_leads", || {
        let web = |pods: &[&str]| service([port(Protocol::Tcp, &["192.0.2.10"], 80, 30080, pods)]);
        let (one, two) = (["10.244.0.2:80"], ["10.244.0.2:80", "10.244.0.3:80"]);
        let closed = || service([elsewhere(Protocol::Tcp, &["192.0.2.10"], 80)]);
        let mut seconds = sticky(web(&two));
        seconds.affinity_seconds = Some(60);
        let tables = [
            ForwardingTable::default(),
            sample(),
            table([("web", web(&two))]),
            table([("web", web(&one))]),
            table([("web", sticky(web(&two)))]),
            table([("web", sticky(web(&one)))]),
            table([("web", seconds)]),
            table([("other", sticky(web(&one)))]),
            table([("web", guarded(web(&two), &["10.0.0.0/8", "11.0.0.0/8", "255.0.0.0/8"], false))]),
            table([("web", guarded(web(&two), &["11.0.0.0/8", "12.0.0.0/8"], true))]),
            table([("web", guarded(closed(), &["0.0.0.0/1", "12.0.0.0/8"], true))]),
            sample(),
            ForwardingTable::default(),
        ];
        let expected: Vec<_> = tables.iter().cloned().map(fresh).collect();
        Namespace::new().run(move || {
            let mut driven = Driven::on("eth0");
            for (table, expected) in tables.iter().zip(&expected) {
                driven.apply(table).unwrap();
                similar(&listed(), expected);
                assert_eq!(driven.apply(table).unwrap(), Applied::Nothing);
            }
        });
    });
}

#[test]
fn thousands_of_services_are_one_transaction_and_one_more_is_a_small_one() {
    privileged("thousands_of_services_are_one_transaction_and_one_more_is_a_small_one", || {
        // The buffer for so large a batch is given to the root of the first user namespace alone.
        let count = if initial_user_namespace() { 10_000 } else { 100 };
        let names: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        let many = |count: usize| {
            table(names.iter().take(count).enumerate().map(|(number, name)| {
                let address = std::net::Ipv4Addr::from(0xc000_0200 + u32::try_from(number).unwrap()).to_string();
                let pods = ["10.244.0.2:80", "10.244.0.3:80"];
                (name.as_str(), service([port(Protocol::Tcp, &[&address], 80, 0, &pods)]))
            }))
        };
        let (before, after) = (many(count - 1), many(count));
        Namespace::new().run(move || {
            let mut driven = Driven::on("eth0");
            assert_eq!(driven.apply(&before).unwrap(), Applied::Replaced);
            assert_eq!(driven.apply(&after).unwrap(), Applied::Changed(3));
        });
    });
}

#[test]
fn what_others_do_to_our_table_is_noticed_and_mended() {
    privileged("what_others_do_to_our_table_is_noticed_and_mended", || {
        Namespace::new().run(|| {
            let mut driven = Driven::on("eth0");
            assert_eq!(driven.integrity(), Integrity::Unknown);
            driven.apply(&sample()).unwrap();
            let before = listed();
            assert_eq!(driven.integrity(), Integrity::Intact);
            load("table inet theirs { }");
            assert_eq!(driven.integrity(), Integrity::Intact);
            assert_eq!(driven.integrity(), Integrity::Intact);
            let ways = [
                "flush ruleset",
                "flush chain inet portreeve prerouting",
                "delete element inet portreeve frontends4 { 192.0.2.10 . tcp . 80 }",
                "add rule inet portreeve prerouting accept",
                "insert rule inet portreeve choose-2 drop",
            ];
            for way in ways {
                load(way);
                assert_eq!(driven.integrity(), Integrity::Lost, "{way}");
                assert_eq!(driven.apply(&sample()).unwrap(), Applied::Replaced);
                assert_eq!(driven.integrity(), Integrity::Intact, "what we do ourselves is no disturbance");
                similar(&listed(), &before);
            }
            load("delete table inet portreeve; table inet portreeve { }");
            assert_eq!(driven.integrity(), Integrity::Lost);
            driven.remove();
            driven.remove();
            assert_eq!(listed(), [""]);
        });
    });
}

#[test]
fn clients_that_pods_remember_come_along_for_the_time_that_they_have_left() {
    privileged("clients_that_pods_remember_come_along_for_the_time_that_they_have_left", || {
        Namespace::new().run(|| {
            let web = |at: &str, pod: &str| sticky(service([port(Protocol::Tcp, &[at], 80, 0, &[pod])]));
            let both = || {
                table([
                    ("four", web("192.0.2.10", "10.244.0.2:80")),
                    ("six", web("2001:db8::10", "[fd00:244::2]:80")),
                    ("other", web("192.0.2.11", "10.244.0.2:80")),
                ])
            };
            Driven::on("eth0").apply(&both()).unwrap();
            let bound = |which: &str| {
                let (sets, set) = (listed(), format!("type {which}"));
                let sets = sets.iter().filter(|block| block.starts_with("set bound-") && block.contains(&set));
                let names = sets.map(|block| block.split(' ').nth(1).unwrap().to_owned());
                names.collect::<Vec<String>>()
            };
            let (four, six) = (bound("ipv4_addr"), bound("ipv6_addr"));
            assert_eq!((four.len(), six.len()), (2, 1));
            load(&format!("add element inet portreeve {} {{ 198.51.100.1 expires 50s }}", four[0]));
            // More than one datagram of the kernel, and one message of ours.
            let many: Vec<String> = (0..3_000).map(|number| format!("2001:db8:7::{number:x} expires 90m")).collect();
            load(&format!("add element inet portreeve {} {{ {} }}", six[0], many.join(", ")));
            assert_eq!(Driven::on("eth0").apply(&both()).unwrap(), Applied::Replaced);
            let block =
                |set: &str| listed().into_iter().find(|block| block.starts_with(&format!("set {set}"))).unwrap();
            let left = |set: &str| {
                let block = block(set);
                let words: Vec<&str> = block.split_whitespace().collect();
                let at = words.iter().position(|word| *word == "expires").unwrap();
                words[at + 1].trim_end_matches(',').to_owned()
            };
            assert!(left(&four[0]).starts_with("4") && left(&four[0]).contains('s'), "{}", left(&four[0]));
            assert!(left(&six[0]).starts_with("1h29m"), "{}", left(&six[0]));
            assert_eq!(block(&six[0]).matches("2001:db8:7::").count(), 3_000);
            assert!(!block(&four[1]).contains("elements"), "another Pod's");
            Driven::on("eth0").apply(&table([("six", web("2001:db8::10", "[fd00:244::2]:80"))])).unwrap();
            assert_eq!(block(&six[0]).matches("2001:db8:7::").count(), 3_000);
            Driven::on("eth0").apply(&table([])).unwrap();
            Driven::on("eth0").apply(&both()).unwrap();
            assert!(!block(&six[0]).contains("elements"), "who left is forgotten");
        });
    });
}

#[test]
fn a_refused_step_is_named_and_leaves_the_old_ruleset_in_force() {
    privileged("a_refused_step_is_named_and_leaves_the_old_ruleset_in_force", || {
        Namespace::new().run(|| {
            let web = |pod| table([("web", service([port(Protocol::Tcp, &["192.0.2.10"], 80, 0, &[pod])]))]);
            let mut driven = Driven::on("eth0");
            driven.apply(&web("10.244.0.2:80")).unwrap();
            load("delete element inet portreeve slot4-0 { 192.0.2.10 . tcp . 80 }");
            let before = listed();
            let error = driven.apply(&web("10.244.0.3:80")).unwrap_err();
            assert!(error.to_string().contains("remove 1 elements from slot4-0: No such file"), "{error}");
            similar(&listed(), &before);
            assert_eq!(driven.apply(&web("10.244.0.3:80")).unwrap(), Applied::Replaced);
        });
    });
}
