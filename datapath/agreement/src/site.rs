//! Clients, a node and its Pods in namespaces of their own, with nobody in them: packets are made by hand and caught on the
//! other side.
//!
//! The node sends on whatever comes to it, its own addresses included, so that a packet that nobody refused is always seen
//! among the Pods: at a Pod's address, or where a stand-in of kube-proxy behind our rules translated it, or untouched, as the
//! kernel leaves what it takes for no part of any connection. A bare one receives what is for it, since others have rules for
//! that; what is left then is sent on.

use crate::flows;
use crate::frame::{self, Outgoing, Sight};
use crate::namespace::Namespace;
use crate::world::{NODE_ADDRESSES, OTHER_LOCAL, POD_LINK};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, recvfrom, sendto,
    setsockopt, socket, sockopt,
};
use portreeve_table::{Applied, Engine, EngineError, Family, ForwardingTable, Goal, Interface, Op};
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::process::{Command, Stdio};

/// The stand-in of kube-proxy.
const PROXY: [&str; 2] = ["10.244.255.254", "fd00:244:ffff::fe"];
const CLIENTS: [&str; 4] = ["198.51.100.0/24", "203.0.113.0/24", "2001:db8:1::/64", "2001:db8:2::/64"];
/// `PACKET_OUTGOING` of linux/if_packet.h.
const OUTGOING: u8 = 4;
/// Room for a batch of packets and the kernel's own account of them.
const BUFFER: usize = 8 << 20;

/// Where a packet is sent from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Outside, by the link `eth0`.
    Uplink,
    /// Outside, by the link `eth1`.
    OtherLink,
    /// Among the Pods.
    Pods,
    /// A process of the node.
    Node,
}

impl Side {
    const ALL: [Self; 4] = [Self::Uplink, Self::OtherLink, Self::Pods, Self::Node];
}

/// What the node does with packets for its own addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Own {
    /// It sends them on among the Pods.
    SentOn,
    /// It receives them, as nodes do.
    Received,
}

pub(crate) struct Site {
    node: Namespace,
    /// Held so that they live as long as the site.
    _others: [Namespace; 2],
    /// By side, one of each family.
    senders: Vec<[OwnedFd; 2]>,
    outside: OwnedFd,
    pods: OwnedFd,
}

/// Where something was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Outside(Sight),
    AmongPods(Sight),
}

impl Site {
    pub(crate) fn new() -> Self {
        let site = Self::laid(Own::SentOn);
        stand_in(&site.node);
        site
    }

    pub(crate) fn bare() -> Self {
        let site = Self::laid(Own::Received);
        hand_on(&site.node);
        site
    }

    fn laid(own: Own) -> Self {
        let (outside, node, pods) = (Namespace::new(), Namespace::new(), Namespace::new());
        for namespace in [&outside, &node, &pods] {
            set(namespace, &["ipv6/conf/all/accept_dad", "ipv6/conf/default/accept_dad"], "0");
        }
        set(&node, &["ipv4/ip_forward", "ipv6/conf/all/forwarding"], "1");
        let off = ["rp_filter", "send_redirects"];
        let off = off.map(|name| ["all", "default"].map(|scope| format!("ipv4/conf/{scope}/{name}")));
        set(&node, &off.concat().iter().map(String::as_str).collect::<Vec<_>>(), "0");
        // Refusals are counted here, so none may be left out.
        set(&node, &["ipv4/icmp_ratemask", "ipv6/icmp/ratelimit"], "0");
        // Packet too big, of which there is none: the kernel wants to limit something.
        set(&node, &["ipv6/icmp/ratemask"], "2");
        lay(&outside, &node, &pods, own);
        // An association that is never answered must outlive a scenario.
        set(&node, &["netfilter/nf_conntrack_sctp_timeout_cookie_wait"], "300");
        let senders = Side::ALL.map(|side| {
            let (namespace, link) = match side {
                Side::Uplink => (&outside, Some("eth0")),
                Side::OtherLink => (&outside, Some("eth1")),
                Side::Pods => (&pods, Some("eth0")),
                Side::Node => (&node, None),
            };
            namespace.run(move || [AddressFamily::Inet, AddressFamily::Inet6].map(|family| sender(family, link)))
        });
        let (caught_outside, caught_pods) = (outside.run(catcher), pods.run(catcher));
        Self { node, _others: [outside, pods], senders: senders.into(), outside: caught_outside, pods: caught_pods }
    }

    pub(crate) const fn node(&self) -> &Namespace {
        &self.node
    }

    /// Opens an engine on the node.
    pub(crate) fn open(&self, open: fn() -> Box<dyn Engine>) -> Box<dyn Engine> {
        self.node.run(open)
    }

    /// Lets an engine put a table in force, and sweep where it is new.
    pub(crate) fn apply(
        &self,
        mut engine: Box<dyn Engine>,
        table: &ForwardingTable,
        links: &BTreeSet<Interface>,
        steps: Vec<Op>,
        sweep: bool,
    ) -> (Box<dyn Engine>, Result<Applied, EngineError>) {
        let (table, links) = (table.clone(), links.clone());
        self.node.run(move || {
            let goal = Goal { table: &table, uplinks: &links };
            let mut applied = engine.apply(goal, &steps);
            applied = applied.and_then(|applied| engine.end_flows(&table).map(|()| applied));
            if sweep {
                let swept = engine.sweep(&table, &|service, protocol, pod| {
                    table.services.get(service).is_none_or(|entry| entry.keeps(protocol, pod))
                });
                applied = applied.and_then(|applied| swept.map(|_| applied));
            }
            (engine, applied)
        })
    }

    /// Takes the engine's rules and all connections away.
    pub(crate) fn clear(&self, clear: fn()) {
        self.node.run(move || {
            clear();
            flows::forget_all();
        });
    }

    pub(crate) fn send(&self, side: Side, packet: &Outgoing, in_fragments: bool) {
        let [four, six] = &self.senders[side as usize];
        for frame in frame::frames(packet, in_fragments) {
            // Raw sockets of IPv6 take the port for a protocol.
            let sent = match SocketAddr::new(packet.destination.ip(), 0) {
                SocketAddr::V4(to) => sendto(four.as_raw_fd(), &frame, &SockaddrIn::from(to), MsgFlags::empty()),
                SocketAddr::V6(to) => sendto(six.as_raw_fd(), &frame, &SockaddrIn6::from(to), MsgFlags::empty()),
            };
            sent.unwrap_or_else(|error| panic!("{packet:?} cannot be sent from {side:?}: {error}"));
        }
    }

    /// What has been caught since the last time.
    pub(crate) fn caught(&self) -> Vec<Seen> {
        let mut seen = Vec::new();
        drain(&self.pods, |sight| seen.push(Seen::AmongPods(sight)));
        drain(&self.outside, |sight| seen.push(Seen::Outside(sight)));
        seen
    }

    /// Waits a moment for more to be caught.
    pub(crate) fn wait(&self) {
        let mut both = [&self.pods, &self.outside].map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        poll(&mut both, PollTimeout::from(1_u8)).unwrap();
    }

    /// Whether the stand-in of kube-proxy is there.
    pub(crate) fn is_proxy(address: IpAddr) -> bool {
        PROXY.iter().any(|proxy| proxy.parse() == Ok(address))
    }
}

fn set(namespace: &Namespace, names: &[&str], value: &'static str) {
    for name in names {
        let path = format!("/proc/sys/net/{name}");
        namespace.run(move || fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}")));
    }
}

/// Links and routes. Neighbours are fixed, so that nobody is asked and nothing waits.
fn lay(outside: &Namespace, node: &Namespace, pods: &Namespace, to_itself: Own) {
    let (outside_thread, pods_thread) = (outside.thread(), pods.thread());
    node.ip(&format!(
        "link set lo up
         link add eth0 address 02:00:00:00:00:01 type veth peer name eth0 address 02:00:00:00:00:02 netns {outside_thread}
         link add eth1 address 02:00:00:00:00:03 type veth peer name eth1 address 02:00:00:00:00:04 netns {outside_thread}
         link add pods address 02:00:00:00:00:05 type veth peer name eth0 address 02:00:00:00:00:06 netns {pods_thread}
         link set eth0 up
         link set eth1 up
         link set pods up
         neigh add 198.51.100.1 lladdr 02:00:00:00:00:02 dev eth0
         neigh add 2001:db8:1::1 lladdr 02:00:00:00:00:02 dev eth0
         neigh add 10.244.0.2 lladdr 02:00:00:00:00:06 dev pods
         neigh add fd00:244::2 lladdr 02:00:00:00:00:06 dev pods"
    ));
    let own = NODE_ADDRESSES.iter().chain(&OTHER_LOCAL).map(|address| (address, "eth0"));
    for (address, link) in own.chain(POD_LINK.iter().map(|address| (address, "pods"))) {
        node.ip(&format!("addr add {address} dev {link}{}", if address.contains(':') { " nodad" } else { "" }));
    }
    let tables: &[&str] = if to_itself == Own::SentOn { &["", " table 7"] } else { &[""] };
    for table in tables {
        for range in CLIENTS {
            let to = if range.contains(':') { "2001:db8:1::1" } else { "198.51.100.1" };
            node.ip(&format!("route add {range} via {to} dev eth0 onlink{table}"));
        }
        node.ip(&format!(
            "route add default via 10.244.0.2 dev pods onlink{table}
             route add default via fd00:244::2 dev pods onlink{table}"
        ));
    }
    if to_itself == Own::SentOn {
        send_on(node);
    }
    let hosts = [
        (outside, "eth0", "198.51.100.1", "2001:db8:1::1", "198.51.100.254", "2001:db8:1::fe", "01", 1),
        (outside, "eth1", "169.254.2.1", "2001:db8:3::1", "198.51.100.254", "2001:db8:1::fe", "03", 2),
        (pods, "eth0", "10.244.0.2", "fd00:244::2", "169.254.1.1", "fd00:244::1", "05", 1),
    ];
    for (namespace, link, four, six, to_four, to_six, mac, metric) in hosts {
        namespace.ip(&format!(
            "link set {link} up
             addr add {four}/32 dev {link}
             addr add {six}/128 dev {link} nodad
             neigh add {to_four} lladdr 02:00:00:00:00:{mac} dev {link}
             neigh add {to_six} lladdr 02:00:00:00:00:{mac} dev {link}
             route add default via {to_four} dev {link} onlink metric {metric}
             route add default via {to_six} dev {link} onlink metric {metric}"
        ));
    }
}

/// What comes from a link goes by table 7, in which nothing is local.
fn send_on(node: &Namespace) {
    for address in NODE_ADDRESSES.iter().chain(&OTHER_LOCAL) {
        let to = if address.contains(':') { "fd00:244::2" } else { "10.244.0.2" };
        node.ip(&format!("route add {address} via {to} dev pods onlink table 7"));
    }
    // The local table is asked behind the links' own.
    for version in ["-4", "-6"] {
        for link in ["eth0", "eth1", "pods"] {
            node.ip(&format!("{version} rule add pref 10 iif {link} lookup 7"));
        }
        node.ip(&format!(
            "{version} rule add pref 20 lookup local
             {version} rule del pref 0"
        ));
    }
}

/// Rules behind all others that send what the node has received on to the Pods, before a process or the kernel answers it.
fn hand_on(node: &Namespace) {
    let table = |family: &str, to: &str| {
        format!(
            "table {family} hand-on {{
               chain received {{
                 type filter hook input priority 300
                 iifname eth0 dup to {to} device pods
                 iifname eth0 drop
               }}
             }}
            "
        )
    };
    load(node, [table("ip", "10.244.0.2"), table("ip6", "fd00:244::2")].concat());
}

/// Rules behind those of iptables, whose nat chains are at -100 as kube-proxy's are, that take all that is left to them.
fn stand_in(node: &Namespace) {
    let [four, six] = PROXY;
    let rules = format!(
        "table inet stand-in {{
           chain services {{
             type nat hook prerouting priority -99
             meta nfproto ipv4 dnat ip to {four}
             meta nfproto ipv6 dnat ip6 to {six}
           }}
         }}"
    );
    load(node, rules);
}

fn load(node: &Namespace, rules: String) {
    node.run(move || {
        let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success());
    });
}

/// A socket for packets with headers, by one link if one is named.
fn sender(family: AddressFamily, link: Option<&str>) -> OwnedFd {
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw).unwrap();
    if let Some(link) = link {
        setsockopt(&socket, sockopt::BindToDevice, &link.into()).unwrap();
    }
    socket
}

/// A socket that hears every packet of the namespace's links, from the network header on.
fn catcher() -> OwnedFd {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Packet, SockType::Datagram, flags, SockProtocol::EthAll).unwrap();
    // More than others may have is given to the root of the first user namespace alone.
    if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
        setsockopt(&socket, sockopt::RcvBuf, &BUFFER).unwrap();
    }
    socket
}

fn drain(socket: &OwnedFd, mut catch: impl FnMut(Sight)) {
    let mut bytes = [0; 2048];
    loop {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut bytes) {
            Ok((length, Some(from))) if from.pkttype() != OUTGOING => {
                frame::read(&bytes[..length]).into_iter().for_each(&mut catch);
            }
            Ok(_) => {}
            Err(Errno::EAGAIN) => return,
            Err(error) => panic!("packets cannot be caught: {error}"),
        }
    }
}

/// The address at which packets are passed on for sure, to tell that all before it have gone their way.
pub(crate) fn fence(family: Family) -> SocketAddr {
    match family {
        Family::V4 => SocketAddr::new([192, 0, 2, 200].into(), 9),
        Family::V6 => SocketAddr::new([0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 200].into(), 9),
    }
}
