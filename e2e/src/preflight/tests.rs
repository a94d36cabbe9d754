use super::*;

#[test]
fn everything_missing_is_named_at_once_with_one_apt_line() {
    let missing = programs(CLUSTER, &|program| !["containerd", "ctr", "nft"].contains(&program));
    let text = PreflightError(missing).to_string();
    for word in ["containerd (runs the Pods)", "ctr (imports images)", "nft ("] {
        assert!(text.contains(word), "{text}");
    }
    assert!(text.ends_with("apt-get install containerd nftables"), "{text}");
}

#[test]
fn a_complete_machine_lacks_nothing() {
    assert_eq!(programs(CLUSTER, &|_| true), []);
    assert_eq!(filesystems("nodev\tsysfs\nnodev\toverlay\nnodev\tbpf\n"), []);
}

#[test]
fn a_filesystem_must_be_listed_by_its_whole_name() {
    let missing = filesystems("nodev\toverlayfs2\n\tbpf\n");
    assert_eq!(missing.len(), 1);
    assert!(missing[0].what.starts_with("kernel filesystem overlay "));
    assert_eq!(missing[0].package, None);
}
