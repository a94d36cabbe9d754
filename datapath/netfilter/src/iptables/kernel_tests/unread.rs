//! What is not read again.

use super::{NF_TABLES, load};
use crate::iptables::Programmed;
use crate::namespace::{Namespace, privileged};
use crate::nftables::testing::{port, service, table};
use portreeve_table::{Applied, Engine as _, ForwardingTable, Goal, Integrity, Interface, Protocol, diff};
use std::fs;
use std::os::unix::fs::symlink;

fn web(pods: &[&str]) -> ForwardingTable {
    table([("web", service([port(Protocol::Tcp, &["192.0.2.10"], 80, 30080, pods)]))])
}

/// Programs that cannot read any more tell by an error whether the rules were to be read.
#[test]
fn our_own_changes_are_not_read_again_and_those_of_others_are() {
    privileged("iptables::kernel_tests::unread::our_own_changes_are_not_read_again_and_those_of_others_are", || {
        let whole = NF_TABLES.directory();
        let directory = whole.with_file_name(format!("portreeve-iptables-unread-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let reads = ["iptables-save", "ip6tables-save"].map(|name| directory.join(name));
        for program in ["iptables-restore", "ip6tables-restore", "iptables-save", "ip6tables-save"] {
            symlink(whole.join(program).canonicalize().unwrap(), directory.join(program)).unwrap();
        }
        let path = directory.clone();
        let told = Namespace::new().run(move || {
            let (uplinks, mut before) = ([Interface::new("eth0").unwrap()].into(), ForwardingTable::default());
            let mut engine = Programmed::open(path.as_os_str()).unwrap();
            for pods in [["10.244.0.2:80", "10.244.0.3:80"], ["10.244.0.3:80", "10.244.0.4:80"]] {
                let web = web(&pods);
                let applied = engine.apply(Goal { table: &web, uplinks: &uplinks }, &diff(&before, &web)).unwrap();
                assert_ne!(applied, Applied::Nothing);
                assert_eq!(engine.integrity().unwrap(), Integrity::Intact);
                // Only the first ruleset has to be read.
                reads.iter().for_each(|read| drop(fs::remove_file(read)));
                before = web;
            }
            load(&path.join("iptables-restore"), &["--noflush"], "*nat\n-F PORTREEVE-ARRIVAL\nCOMMIT\n");
            engine.integrity().unwrap_err().to_string()
        });
        fs::remove_dir_all(&directory).unwrap();
        assert!(told.contains("iptables-save cannot be run"), "{told}");
    });
}
