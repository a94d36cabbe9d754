//! Beside other proxies, and beside flows that were there before.

use super::{Variant, load};
use crate::nftables::testing::{Driven, elsewhere, port, service, table, without_local};
use crate::packets::{POD, World, answers, fails};
use portreeve_table::Protocol::{Tcp, Udp};
use portreeve_table::{Applied, Integrity, OnNoLocal};
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::path::Path;
use std::time::Duration;

/// A proxy that delivers our frontend 192.0.2.99:80 to the listener of another.
const IPTABLES_MODE: &str = "*nat
:KUBE-SERVICES - [0:0]
-I PREROUTING 1 -j KUBE-SERVICES
-A KUBE-SERVICES -d 192.0.2.99/32 -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.0.2.98:80
COMMIT
*filter
:KUBE-EXTERNAL-SERVICES - [0:0]
-I INPUT 1 -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES
-A KUBE-EXTERNAL-SERVICES -d 192.0.2.99/32 -p udp -m udp --dport 80 -j DROP
COMMIT
";

/// As kube-proxy in nftables mode has it, but for the name.
const NFTABLES: &str = "table ip NAME {
    chain nat-prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        ip daddr 192.0.2.99 tcp dport 80 dnat to 192.0.2.98:80
    }
}";

fn nft(text: String) {
    load(Path::new("nft"), &["-f", "-"], &text);
}

pub(super) fn iptables_mode(variant: Variant) {
    let world = World::new();
    world.node.run(move || variant.load(IPTABLES_MODE));
    let both = || service([elsewhere(Tcp, &["192.0.2.99"], 80), elsewhere(Udp, &["192.0.2.99"], 80)]);
    assert_eq!(answers(world.tcp("192.0.2.99:80")).0, "192.0.2.98:80", "the proxy alone");
    apply(&world, variant, &table([("a", both())]));
    assert_eq!(fails(world.tcp("192.0.2.99:80")), ErrorKind::TimedOut);
    apply(&world, variant, &table([("a", without_local(both(), OnNoLocal::Reject))]));
    assert_eq!(fails(world.tcp("192.0.2.99:80")), ErrorKind::ConnectionRefused);
    assert_eq!(fails(world.udp("198.51.100.1:0", "192.0.2.99:80")), ErrorKind::ConnectionRefused);
    apply(&world, variant, &table([("a", without_local(both(), OnNoLocal::Passthrough))]));
    assert_eq!(answers(world.tcp("192.0.2.99:80")).0, "192.0.2.98:80");
    apply(&world, variant, &table([("a", service([port(Tcp, &["192.0.2.99"], 80, 0, &POD[..1])]))]));
    assert_eq!(answers(world.tcp("192.0.2.99:80")).0, POD[0]);
}

pub(super) fn dropped(variant: Variant) {
    let world = World::new();
    world.node.run(|| nft(NFTABLES.replace("NAME", "theirs")));
    assert_eq!(answers(world.tcp("192.0.2.99:80")).0, "192.0.2.98:80", "the proxy alone");
    apply(&world, variant, &table([("a", service([elsewhere(Tcp, &["192.0.2.99"], 80)]))]));
    assert_eq!(fails(world.tcp("192.0.2.99:80")), ErrorKind::TimedOut);
}

/// kube-proxy comes, or changes to that mode, while we are there, and goes again.
pub(super) fn nftables_mode(variant: Variant) {
    let world = World::new();
    let ours = || table([("a", service([port(Tcp, &["192.0.2.99"], 80, 0, &POD[..1])]))]);
    let driven = world.node.run(move || {
        let mut driven = Driven::by(variant.open(), "eth0");
        driven.apply(&ours()).unwrap();
        driven
    });
    assert_eq!(answers(world.tcp("192.0.2.99:80")).0, POD[0]);
    let mut driven = world.node.run(move || {
        let mut driven = driven;
        nft(NFTABLES.replace("NAME", "kube-proxy"));
        assert_eq!(driven.integrity(), Integrity::Lost);
        for _ in 0..2 {
            let error = driven.apply(&ours()).unwrap_err().to_string();
            assert!(error.starts_with("kube-proxy programs nftables on this node (table ip kube-proxy)"), "{error}");
            assert!(error.contains("set spec.backend to Nftables or Auto in the DatapathConfig"), "{error}");
            assert_eq!(variant.listed(), [""; 0]);
        }
        driven
    });
    assert_eq!(answers(world.tcp("192.0.2.99:80")).0, "192.0.2.98:80", "it serves all");
    world.node.run(move || {
        let error = Driven::by(variant.open(), "eth0").apply(&ours()).unwrap_err().to_string();
        assert!(error.starts_with("kube-proxy"), "a new life sees it too: {error}");
        nft("delete table ip kube-proxy; table ip6 kube-proxy { chain c { type nat hook prerouting priority dstnat; }; }".into());
        let error = driven.apply(&ours()).unwrap_err().to_string();
        assert!(error.contains("(table ip6 kube-proxy)"), "{error}");
        nft("delete table ip6 kube-proxy; table inet kube-proxy { }; table ip kube-proxy-2 { }".into());
        assert_eq!(driven.apply(&ours()).unwrap(), Applied::Replaced);
        assert_eq!(driven.integrity(), Integrity::Intact);
    });
    assert_eq!(answers(world.tcp("192.0.2.99:80")).0, POD[0], "it has gone");
}

/// Until its Pod answers, all packets of a flow count as new ones to the kernel.
pub(super) fn one_way(variant: Variant) {
    let world = World::new();
    let sink = "10.244.0.3:514";
    apply(&world, variant, &table([("log", service([port(Udp, &["192.0.2.99"], 80, 0, &[sink])]))]));
    let at_pod = world.pods.run(move || {
        let socket = UdpSocket::bind(sink).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        socket
    });
    let client = world.client.run(|| {
        let socket = UdpSocket::bind("198.51.100.1:0").unwrap();
        socket.connect("192.0.2.99:80").unwrap();
        socket
    });
    let arrives = || client.send(b"?").is_ok() && at_pod.recv(&mut [0; 8]).is_ok();
    assert!(arrives());
    for refusal in [OnNoLocal::Drop, OnNoLocal::Reject] {
        let gone = without_local(service([elsewhere(Udp, &["192.0.2.99"], 80)]), refusal);
        apply(&world, variant, &table([("log", gone)]));
        assert!(arrives(), "{refusal:?} is for new flows");
        assert!(world.udp("198.51.100.1:0", "192.0.2.99:80").is_err());
    }
}

fn apply(world: &World, variant: Variant, table: &portreeve_table::ForwardingTable) {
    match variant {
        super::NF_TABLES => world.apply(|| super::NF_TABLES.open(), table),
        _ => world.apply(|| super::LEGACY.open(), table),
    }
}
