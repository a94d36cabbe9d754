use super::*;
use std::fs;
use std::io;

fn held() -> Capabilities {
    Capabilities::parse(&fs::read_to_string("/proc/thread-self/status").unwrap()).unwrap()
}

fn refused(kind: io::ErrorKind) -> Result<(), NetlinkError> {
    Err(NetlinkError::Refused(kind.into()))
}

#[test]
fn a_refusal_names_the_capability_only_when_it_is_missing() {
    let denied = io::ErrorKind::PermissionDenied;
    assert_eq!(tried(refused(denied), Capabilities::default(), "").unwrap_err(), "this process lacks CAP_NET_ADMIN");
    let held = tried(refused(denied), Capabilities::NET_ADMIN, "").unwrap_err();
    assert!(held.starts_with("the kernel refuses it"), "{held}");
    let other = tried(refused(io::ErrorKind::Unsupported), Capabilities::default(), "").unwrap_err();
    assert!(other.starts_with("the kernel refuses it"), "{other}");
}

#[test]
fn the_probe_finds_both_features_or_says_why_not() {
    let probe = Nftables.probe(held());
    assert_eq!(probe.features.iter().map(|feature| feature.name).collect::<Vec<_>>(), ["nf-tables", "nft-inet-nat"]);
    for feature in &probe.features {
        assert!(!feature.detail.is_empty());
        if !held().may_net_admin() {
            assert!(!feature.available, "{}: the kernel asks for CAP_NET_ADMIN", feature.name);
        }
    }
}

#[test]
fn the_dry_run_makes_no_table() {
    let batch = message::nat_chain_dry_run(PROBE_TABLE, BEFORE_DSTNAT);
    let dry_run = || Connection::open()?.ask(&batch, DRY_RUN_LAST);
    let (first, second) = (dry_run(), dry_run());
    // The batch creates exclusively: had the first run left the table, the second would be refused.
    assert_eq!(first.is_ok(), second.is_ok(), "{first:?} {second:?}");
}
