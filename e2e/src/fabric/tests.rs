use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::unistd::geteuid;

use super::*;

/// Unpins everything, also when the test fails.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        Fabric::remove_all(&self.0).unwrap();
        std::fs::remove_dir(&self.0).unwrap();
    }
}

fn connects(from: &NetNs, to: &NetNs, address: IpAddr) -> anyhow::Result<IpAddr> {
    let listener = to.enter(|| Ok::<_, anyhow::Error>(TcpListener::bind(SocketAddr::new(address, 0))?))?;
    let target = listener.local_addr()?;
    from.enter(|| Ok::<_, anyhow::Error>(TcpStream::connect_timeout(&target, Duration::from_secs(5))?))?;
    Ok(listener.accept()?.1.ip())
}

#[test]
fn a_client_reaches_every_node_through_the_router_with_its_own_address_and_a_node_returns_with_empty_tables() {
    if !geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let pins = Pins(std::env::temp_dir().join(format!("portreeve-fabric-{}", std::process::id())));
    std::fs::create_dir_all(&pins.0).unwrap();
    let fabric = Fabric::build(&pins.0, 2, 2).unwrap();
    for index in 1..=2 {
        let node = fabric.join_node(index, PodEgress::Masquerade).unwrap();
        for address in plan::node(index).both() {
            let seen = connects(&fabric.clients[1], &node, address).unwrap();
            assert_eq!(seen, plan::client(2).of_family(address));
        }
    }
    fabric.node(1).ip("addr add 203.0.113.1/32 dev lo\n").unwrap();
    fabric.drop_node(1).unwrap();
    let back = fabric.join_node(1, PodEgress::Masquerade).unwrap();
    back.ip("addr del 203.0.113.1/32 dev lo\n").unwrap_err();
    connects(&fabric.control_plane, &back, plan::node(1).v6.into()).unwrap();
}

#[test]
fn pods_keep_their_address_towards_clients_only_when_asked() {
    let plain = egress_rules(3, PodEgress::PlainToClients);
    assert!(
        plain.contains("ip saddr 10.244.3.0/24 ip daddr != { 10.244.0.0/16, 172.31.0.0/24 } masquerade"),
        "{plain}"
    );
    assert!(!egress_rules(3, PodEgress::Masquerade).contains("172.31."));
}
