use super::*;
use crate::fabric::plan;

#[test]
fn one_next_hop_per_node_in_the_family_of_the_address() {
    let paths = [Path { node: plan::node(1), weight: 1 }, Path { node: plan::node(3), weight: 2 }];
    assert_eq!(
        route("198.51.100.1".parse().unwrap(), &paths),
        "route replace 198.51.100.1/32 nexthop via 172.30.0.11 dev eth0 weight 1 nexthop via 172.30.0.13 dev eth0 weight 2\n"
    );
    assert_eq!(
        route("2001:db8:100::1".parse().unwrap(), &paths[..1]),
        "route replace 2001:db8:100::1/128 via fd30::b dev eth0\n"
    );
}

#[test]
fn without_a_healthy_node_the_address_is_unreachable() {
    assert_eq!(route("198.51.100.1".parse().unwrap(), &[]), "route replace unreachable 198.51.100.1/32\n");
}
