//! Our chains in a kernel, by both variants of the programs: in network namespaces of the tests' own, as root or as root of
//! a user namespace.

mod beside;
mod cost;
mod read_back;
mod unread;

use super::Programmed;
use crate::namespace::{Namespace, privileged};
use crate::nftables::testing::{Driven, elsewhere, guarded, port, sample, service, sticky, table, without_local};
use crate::packets;
use portreeve_table::{Applied, ForwardingTable, Integrity, OnNoLocal, Protocol};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fs};

/// One of the two variants of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Variant(&'static str);

const NF_TABLES: Variant = Variant("nft");
const LEGACY: Variant = Variant("legacy");

impl Variant {
    /// A directory in which this variant has the plain names.
    fn directory(self) -> PathBuf {
        let name = format!("portreeve-iptables-{}", self.0);
        let directory = env::current_exe().unwrap().with_file_name(name);
        fs::create_dir_all(&directory).unwrap();
        let path = env::var_os("PATH").unwrap();
        for (program, does) in
            [("iptables", "restore"), ("iptables", "save"), ("ip6tables", "restore"), ("ip6tables", "save")]
        {
            let wanted = format!("{program}-{}-{does}", self.0);
            let found = env::split_paths(&path).find_map(|at| at.join(&wanted).canonicalize().ok());
            let found = found.unwrap_or_else(|| panic!("this test needs {wanted}"));
            // Another test may have been here first.
            drop(symlink(found, directory.join(format!("{program}-{does}"))));
        }
        directory
    }

    fn open(self) -> Programmed {
        Programmed::open(self.directory().as_os_str()).unwrap()
    }

    /// What the programs see of ours, without what tells of time, in an order of its own.
    fn listed(self) -> Vec<String> {
        let mut lines = Vec::new();
        for program in ["iptables-save", "ip6tables-save"] {
            let output = Command::new(self.directory().join(program)).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let (mut table, mut chain, mut number) = (String::new(), String::new(), 0);
            for line in String::from_utf8(output.stdout).unwrap().lines() {
                if let Some(name) = line.strip_prefix('*') {
                    table = name.to_owned();
                }
                if !line.contains("PORTREEVE") {
                    continue;
                }
                let of = line.split(' ').nth(1).unwrap_or_default().to_owned();
                number = if chain == of { number + 1 } else { 0 };
                chain = of;
                // Rules of one chain stay in order.
                let rank = if line.starts_with(':') { String::new() } else { format!("{chain} {number:05} ") };
                lines.push(format!("{program} {table} {rank}{line}"));
            }
        }
        lines.sort();
        lines
    }

    /// Feeds lines to iptables-restore.
    fn load(self, text: &str) {
        load(&self.directory().join("iptables-restore"), &["--noflush", "-w", "5"], text);
    }
}

fn load(program: &std::path::Path, arguments: &[&str], text: &str) {
    let mut child = Command::new(program).args(arguments).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "refused:\n{text}");
}

/// Whether one packet that opens a TCP connection has been counted as one that would be delivered.
fn counted(variant: Variant) -> bool {
    let output = Command::new(variant.directory().join("iptables-save")).arg("-c").output().unwrap();
    String::from_utf8(output.stdout).unwrap().contains("[1:60] -A PORTREEVE-WOULD-DELIVER -j RETURN")
}

/// What is seen of a table that was put in force at once.
fn fresh(variant: Variant, table: ForwardingTable) -> Vec<String> {
    Namespace::new().run(move || {
        Driven::by(variant.open(), "eth0").apply(&table).unwrap();
        variant.listed()
    })
}

fn step_by_step(variant: Variant) {
    let web = |pods: &[&str]| service([port(Protocol::Tcp, &["192.0.2.10"], 80, 30080, pods)]);
    let (one, two) = (["10.244.0.2:80"], ["10.244.0.2:80", "10.244.0.3:80"]);
    let closed = || service([elsewhere(Protocol::Tcp, &["192.0.2.10"], 80)]);
    let tables = [
        ForwardingTable::default(),
        sample(),
        table([("web", web(&two))]),
        table([("web", web(&one))]),
        table([("web", sticky(web(&two)))]),
        table([("other", sticky(web(&one)))]),
        table([("web", guarded(web(&two), &["10.0.0.0/8", "11.0.0.0/8", "255.0.0.0/8"], false))]),
        table([("web", guarded(closed(), &["0.0.0.0/1", "12.0.0.0/8"], true))]),
        table([("web", without_local(closed(), OnNoLocal::Reject))]),
        sample(),
        ForwardingTable::default(),
    ];
    let expected: Vec<_> = tables.iter().cloned().map(|table| fresh(variant, table)).collect();
    Namespace::new().run(move || {
        let mut driven = Driven::by(variant.open(), "eth0");
        for (table, expected) in tables.iter().zip(&expected) {
            driven.apply(table).unwrap();
            similar(&variant.listed(), expected);
            assert_eq!(driven.integrity(), Integrity::Intact);
            assert_eq!(driven.apply(table).unwrap(), Applied::Nothing);
        }
    });
}

fn similar(ours: &[String], theirs: &[String]) {
    for (ours, theirs) in ours.iter().zip(theirs) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
}

fn others_changes(variant: Variant) {
    Namespace::new().run(move || {
        let mut driven = Driven::by(variant.open(), "eth0");
        assert_eq!(driven.integrity(), Integrity::Unknown);
        driven.apply(&sample()).unwrap();
        let before = variant.listed();
        for _ in 0..2 {
            assert_eq!(driven.integrity(), Integrity::Intact);
        }
        let jump = "PREROUTING -m conntrack --ctstate NEW ! --ctstatus CONFIRMED -j PORTREEVE-ENTRY";
        for moves in [
            ":THEIRS - [0:0]\n-I PREROUTING 1 -j THEIRS".to_owned(),
            format!("-D {jump}"),
            format!("-D {jump}\n-A {jump}"),
            format!("-A {jump}"),
        ] {
            variant.load(&format!("*nat\n{moves}\nCOMMIT\n"));
            assert_eq!(driven.integrity(), Integrity::Intact, "{moves}");
            similar(&variant.listed(), &before);
        }
        let first = before.iter().find(|line| line.contains("-j DROP")).unwrap().split(" -A ").nth(1).unwrap();
        for breaks in [
            format!("*mangle\n-D {first}\nCOMMIT\n"),
            "*nat\n-F PORTREEVE-ARRIVAL\nCOMMIT\n".to_owned(),
            "*nat\n-I PORTREEVE-ENTRY 1 -j RETURN\nCOMMIT\n".to_owned(),
            "*filter\n:PORTREEVE-MORE - [0:0]\nCOMMIT\n".to_owned(),
        ] {
            variant.load(&breaks);
            assert_eq!(driven.integrity(), Integrity::Lost, "{breaks}");
            assert_eq!(driven.apply(&sample()).unwrap(), Applied::Replaced);
            similar(&variant.listed(), &before);
        }
        variant.load("*nat\n:PORTREEVE-OLD - [0:0]\n-A PORTREEVE-OLD -j PORTREEVE-HOLD\n-A PREROUTING -i eth9 -j PORTREEVE-OLD\nCOMMIT\n");
        Driven::by(variant.open(), "eth0").apply(&sample()).unwrap();
        similar(&variant.listed(), &before);
        driven.remove();
        driven.remove();
        assert_eq!(variant.listed(), [""; 0]);
    });
}

fn refused_step(variant: Variant) {
    Namespace::new().run(move || {
        let web = table([("web", service([port(Protocol::Tcp, &["192.0.2.10"], 80, 0, &["10.244.0.2:80"])]))]);
        let without = table([]);
        let mut driven = Driven::by(variant.open(), "eth0");
        driven.apply(&web).unwrap();
        let before = variant.listed();
        let chain =
            before.iter().find_map(|line| line.split(" :").nth(1).filter(|name| name.contains("-SVC-"))).unwrap();
        let chain = chain.split(' ').next().unwrap();
        variant.load(&format!("*nat\n-A OUTPUT -j {chain}\nCOMMIT\n"));
        let held = variant.listed();
        let error = driven.apply(&without).unwrap_err().to_string();
        assert!(error.contains(&format!("`-X {chain}`")) || error.contains("`COMMIT`"), "{error}");
        similar(&variant.listed(), &held);
        assert_eq!(driven.apply(&without).unwrap(), Applied::Replaced);
        assert_eq!(driven.integrity(), Integrity::Intact);
    });
}

#[test]
fn an_uplink_that_would_be_a_pattern_is_refused_by_name() {
    let error = Driven::by(NF_TABLES.open(), "eth+").apply(&sample()).unwrap_err().to_string();
    assert!(error.contains("`eth+`") && error.contains("rename the interface"), "{error}");
}

#[test]
fn without_the_programs_for_ipv6_what_needs_them_is_refused_before_anything_is_done() {
    let directory = NF_TABLES.directory().with_file_name("portreeve-iptables-v4");
    fs::create_dir_all(&directory).unwrap();
    for name in ["iptables-restore", "iptables-save"] {
        drop(symlink("/bin/false", directory.join(name)));
    }
    let error = Driven::by(Programmed::open(directory.as_os_str()).unwrap(), "eth0").apply(&sample()).unwrap_err();
    assert!(error.to_string().starts_with("there is no ip6tables-restore"), "{error}");
}

/// Name of a test without that of the crate.
fn full(module: &str, test: &str) -> String {
    let (_, module) = module.split_once("::").unwrap();
    format!("{module}::{test}")
}

/// The same tests by both variants.
macro_rules! by_both {
    ($($test:ident => $body:expr;)*) => {
        mod nf_tables {
            use super::*;
            const VARIANT: Variant = NF_TABLES;
            $(#[test] fn $test() { privileged(&full(module_path!(), stringify!($test)), || $body(VARIANT)); })*
            by_both!(@packets);
        }
        mod legacy {
            use super::*;
            const VARIANT: Variant = LEGACY;
            $(#[test] fn $test() { privileged(&full(module_path!(), stringify!($test)), || $body(VARIANT)); })*
            by_both!(@packets);
        }
    };
    (@packets) => {
        #[test]
        fn what_is_not_ours_is_passed_on() {
            privileged(&full(module_path!(), "what_is_not_ours_is_passed_on"), || {
                packets::what_is_not_ours_is_passed_on(|| VARIANT.open(), || counted(VARIANT));
            });
        }
        by_both!(@packet a_client_reaches_a_pod_and_keeps_its_address);
        by_both!(@packet without_a_local_pod_a_client_waits_is_refused_or_is_passed_on);
        by_both!(@packet an_established_connection_outlives_its_service);
        by_both!(@packet all_pods_are_chosen_and_a_bound_client_stays_with_one);
        by_both!(@packet as_many_new_flows_are_counted_as_came);
        by_both!(@packet a_bound_client_keeps_its_pod_when_another_engine_begins);
        by_both!(@packet a_guarded_address_accepts_its_ranges_alone);
    };
    (@packet $test:ident) => {
        #[test]
        fn $test() {
            privileged(&full(module_path!(), stringify!($test)), || packets::$test(|| VARIANT.open()));
        }
    };
}

by_both! {
    step_by_step_leads_where_a_new_start_leads => step_by_step;
    what_others_do_to_our_chains_is_noticed_and_mended => others_changes;
    a_refused_step_is_named_and_the_next_makes_everything_anew => refused_step;
    refusals_win_over_a_proxy_in_iptables_mode => beside::iptables_mode;
    what_is_dropped_is_so_before_a_proxy_in_nftables => beside::dropped;
    beside_a_kube_proxy_in_nftables_mode_all_is_left_to_it => beside::nftables_mode;
    a_sender_that_expects_no_answer_keeps_its_pod => beside::one_way;
    whatever_somebody_does_to_our_chains_is_told_with_the_service_that_it_touches => read_back::tampered;
    ten_thousand_services_are_written_and_one_more_is_a_small_change => cost::ten_thousand;
}
