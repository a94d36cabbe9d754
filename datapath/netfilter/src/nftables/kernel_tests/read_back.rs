//! What others do to our table is told in sentences that name the Service; nft(8) is the other, and the judge that our own
//! reading has no say in.

use super::super::testing::{Driven, port, sample, service, sticky, table};
use super::{listed, load};
use crate::namespace::{Namespace, initial_user_namespace, privileged};
use portreeve_table::{ForwardingTable, Protocol};
use std::time::Instant;

/// Names of what a Service has for itself, that begin with a word, in the order of nft(8).
fn own(what: &str) -> Vec<String> {
    let blocks = listed();
    let named = blocks.iter().filter_map(|block| block.split(' ').nth(1)).filter(|name| name.starts_with(what));
    named.map(str::to_owned).collect()
}

fn told(driven: &mut Driven) -> Vec<String> {
    let differences = driven.read_back();
    differences.into_iter().map(|(service, what)| format!("{}: {what}", service.as_deref().unwrap_or("-"))).collect()
}

#[test]
fn an_untouched_table_is_read_back_without_a_difference() {
    privileged("an_untouched_table_is_read_back_without_a_difference", || {
        Namespace::new().run(|| {
            let mut driven = Driven::on("eth0");
            let web = |pods: &[&str]| service([port(Protocol::Tcp, &["192.0.2.10"], 80, 30080, pods)]);
            let two = ["10.244.0.2:80", "10.244.0.3:80"];
            for table in [ForwardingTable::default(), sample(), table([("web", sticky(web(&two)))]), sample()] {
                driven.apply(&table).unwrap();
                assert_eq!(told(&mut driven), [""; 0]);
            }
            let listeners = ["127.0.0.1:9811", "[::1]:9811"].map(|at| at.parse().unwrap());
            driven.steer(&listeners).unwrap();
            load("table inet theirs { set s { type ipv4_addr; }; chain c { type nat hook prerouting priority 0; accept; }; }");
            load("table ip portreeve { set s { type ipv4_addr; }; chain c { accept; }; }");
            for bound in own("bound-") {
                let client = ["198.51.100.1", "2001:db8:1::1"];
                let six = listed().iter().any(|block| block.contains(&bound) && block.contains("type ipv6_addr"));
                load(&format!("add element inet portreeve {bound} {{ {} }}", client[usize::from(six)]));
            }
            assert_eq!(told(&mut driven), [""; 0], "clients, leases and other tables");
            driven.steer(&[]).unwrap();
            assert_eq!(told(&mut driven), [""; 0]);
        });
    });
}

#[test]
fn whatever_somebody_does_to_our_table_is_told_with_the_service_that_it_touches() {
    privileged("whatever_somebody_does_to_our_table_is_told_with_the_service_that_it_touches", || {
        Namespace::new().run(|| {
            let mut driven = Driven::on("eth0");
            driven.apply(&sample()).unwrap();
            let (pod, choice) = (&own("pod-")[0], &own("sticky-")[0]);
            let (bound, sources) = (&own("bound-")[0], &own("sources4-")[0]);
            let guard = &sources.replace("sources4-", "guard4-");
            let has_rule = |chain: &str, what: &str| listed().iter().any(|it| it.starts_with(&format!("chain {chain} ")) && it.contains(what));
            // Of the two Services with sources this is the one that is not only observed.
            let guarded = if has_rule(guard, "goto do-drop") { "guarded" } else { "observed" };
            let swap = |from: &str, to: &str| {
                let element = format!("{{ 192.0.2.10 . tcp . 80 : {from} }}");
                format!("delete element inet portreeve slot4-0 {element}; add element inet portreeve slot4-0 {{ 192.0.2.10 . tcp . 80 : {to} }}")
            };
            let ways: Vec<(String, Vec<String>)> = vec![
                (
                    "delete element inet portreeve frontends4 { 192.0.2.40 . tcp . 80 }".into(),
                    vec!["dropped: frontends4 lacks 192.0.2.40 . tcp . 80 : goto do-drop".into()],
                ),
                (
                    swap("10.244.0.2 . 8080", "10.244.0.9 . 8081"),
                    vec!["web: slot4-0 has 192.0.2.10 . tcp . 80 : 10.244.0.9 . 8081 instead of 192.0.2.10 . tcp . 80 : 10.244.0.2 . 8080".into()],
                ),
                (
                    "add element inet portreeve slot4-1 { 192.0.2.10 . udp . 53 : 10.244.0.9 . 53 }".into(),
                    vec!["dns: slot4-1 has 192.0.2.10 . udp . 53 : 10.244.0.9 . 53, which is not ours".into()],
                ),
                (
                    "add element inet portreeve frontends6 { 2001:db8::99 . tcp . 80 : jump do-drop }".into(),
                    vec!["-: frontends6 has 2001:db8::99 . tcp . 80 : do-drop, which is not ours".into()],
                ),
                (
                    "add element inet portreeve uplinks { \"eth9\" }".into(),
                    vec!["-: uplinks has \"eth9\", which is not ours".into()],
                ),
                (
                    format!("flush set inet portreeve {sources}"),
                    vec![format!("{guarded}: set {sources} has other ranges than it should")],
                ),
                (
                    format!("flush chain inet portreeve {choice}"),
                    vec![format!("sticky: chain {choice} has 0 rules instead of {}", if has_rule(choice, "mod 2") { 3 } else { 2 })],
                ),
                (
                    format!("insert rule inet portreeve {pod} drop"),
                    vec![format!("sticky: chain {pod} has 3 rules instead of 2")],
                ),
                (
                    "flush chain inet portreeve do-drop; add rule inet portreeve do-drop counter accept".into(),
                    vec!["-: chain do-drop has another rule 1 instead of `counter drop`".into()],
                ),
                (
                    "flush chain inet portreeve choose-2; add rule inet portreeve choose-2 numgen random mod 2 vmap { 0 : goto slot-1, 1 : goto slot-1 }".into(),
                    vec!["-: chain choose-2 has another rule 1 instead of `numgen random mod 2 vmap { 0 : goto slot-0, 1 : goto slot-1 }`".into()],
                ),
                (
                    format!("flush chain inet portreeve {choice}; flush chain inet portreeve {pod}; delete set inet portreeve {}", bound_of(pod)),
                    vec![
                        format!("sticky: set {} is missing", bound_of(pod)),
                        format!("sticky: chain {pod} has 0 rules instead of 2"),
                        format!("sticky: chain {choice} has 0 rules instead of {}", if has_rule(choice, "mod 2") { 3 } else { 2 }),
                    ],
                ),
                (
                    "add chain inet portreeve theirs; add set inet portreeve more { type ipv4_addr; }".into(),
                    vec![
                        "-: there is a set more, which is not ours".into(),
                        "-: there is a chain theirs, which is not ours".into(),
                    ],
                ),
                ("add table inet portreeve { flags dormant; }".into(), vec!["-: table inet portreeve is dormant: no packet comes to it".into()]),
                ("delete table inet portreeve".into(), vec!["-: there is no table inet portreeve".into()]),
            ];
            assert!(bound.starts_with("bound-10800-"));
            let before = listed();
            for (way, expected) in ways {
                load(&way);
                assert_eq!(told(&mut driven), expected, "{way}");
                assert_ne!(listed(), before, "{way}");
                assert_eq!(driven.integrity(), portreeve_table::Integrity::Lost);
                driven.apply(&sample()).unwrap();
                assert_eq!(told(&mut driven), [""; 0]);
                assert_eq!(listed(), before);
            }
        });
    });
}

/// The set of the clients that the Pod with this chain remembers.
fn bound_of(pod: &str) -> String {
    pod.replace("pod-", "bound-10800-")
}

#[test]
fn before_anything_is_in_force_there_is_nothing_to_count() {
    privileged("before_anything_is_in_force_there_is_nothing_to_count", || {
        Namespace::new().run(|| {
            let mut driven = Driven::on("eth0");
            let error = driven.flows("web").unwrap_err().to_string();
            assert!(error.contains("nothing is programmed yet"), "{error}");
        });
    });
}

#[test]
#[expect(clippy::print_stdout, reason = "how long it takes is of interest, and no reason to fail on a busy machine")]
fn ten_thousand_services_are_read_back() {
    privileged("ten_thousand_services_are_read_back", || {
        // The buffer for so large a transaction is given to the root of the first user namespace alone.
        let count = if initial_user_namespace() { 10_000_u32 } else { 100 };
        let names: Vec<String> = (0..count).map(|number| number.to_string()).collect();
        let many = table(names.iter().zip(0..).map(|(name, number)| {
            let address = std::net::Ipv4Addr::from(0xc000_0200 + number).to_string();
            let entry = service([port(Protocol::Tcp, &[&address], 80, 0, &["10.244.0.2:80", "10.244.0.3:80"])]);
            (name.as_str(), if number % 100 == 0 { sticky(entry) } else { entry })
        }));
        Namespace::new().run(move || {
            let mut driven = Driven::on("eth0");
            let start = Instant::now();
            driven.apply(&many).unwrap();
            let applied = start.elapsed();
            let start = Instant::now();
            assert_eq!(driven.read_back(), []);
            let read_back = start.elapsed();
            let start = Instant::now();
            assert_eq!(driven.flows("77").unwrap().len(), 2);
            println!(
                "{count} Services in {applied:?}, read back in {read_back:?}, flows of one in {:?}",
                start.elapsed()
            );
            load("delete element inet portreeve slot4-1 { 192.0.2.77 . tcp . 80 }");
            let what = "slot4-1 lacks 192.0.2.77 . tcp . 80 : 10.244.0.3 . 80";
            assert_eq!(driven.read_back(), [(Some("77".to_owned()), what.to_owned())]);
        });
    });
}
