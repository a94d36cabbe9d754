//! Random worlds: events, and the objects they carry.

use super::{ip, pod, service};
use crate::index::Event;
use crate::input::{
    Capacity, Directive, EndpointInput, Mode, OnNoLocal, PortInput, ServiceInput, ServiceKind, SliceInput, SlicePort,
    ThisNode,
};
use crate::key::{PerFamily, Protocol, ServiceKey};
use proptest::prelude::*;
use std::sync::Arc;

/// Few names and numbers, so that Services collide, slices move and capacity runs out often.
pub(crate) fn event() -> impl Strategy<Value = Event> {
    let key = || (0..2_u8, 0..4_u8).prop_map(|(ns, name)| ServiceKey::new(&format!("ns{ns}"), &format!("s{name}")));
    let slice_name = || (0..5_u8).prop_map(|number| Arc::<str>::from(number.to_string()));
    prop_oneof![
        6 => (key(), any_service()).prop_map(|(key, service)| Event::Service(key, service)),
        2 => key().prop_map(Event::ServiceGone),
        6 => (key(), slice_name(), any_slice()).prop_map(|(service, name, slice)| Event::Slice { service, name, slice }),
        2 => (0..2_u8, slice_name())
            .prop_map(|(ns, name)| Event::SliceGone { namespace: format!("ns{ns}").into(), name }),
        4 => (key(), any_directive()).prop_map(|(key, directive)| Event::Directive(key, directive)),
        1 => key().prop_map(Event::DirectiveGone),
        1 => any::<[bool; 2]>().prop_map(|have| Event::ThisNode(ThisNode {
            name: "n1".into(),
            addresses: ["10.0.0.1", "fd00::1"].iter().zip(have).filter(|(_, have)| *have).map(|(a, _)| ip(a)).collect(),
        })),
        1 => any::<[bool; 2]>().prop_map(|have| Event::PodRanges(
            ["10.1.0.0/16", "fd01::/64"].iter().zip(have).filter(|(_, have)| *have).map(|(r, _)| r.parse().unwrap()).collect(),
        )),
        1 => (0..12_usize, 0..12_usize)
            .prop_map(|(frontends, backends)| Event::Capacity(Capacity { frontends, backends })),
    ]
}

pub(crate) fn any_service() -> impl Strategy<Value = ServiceInput> {
    let kind = prop_oneof![
        4 => Just(ServiceKind::LoadBalancer),
        2 => Just(ServiceKind::NodePort),
        1 => Just(ServiceKind::ClusterIp),
        1 => Just(ServiceKind::ExternalName),
    ];
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp), Just(Protocol::Sctp)];
    let port = (protocol, 80..83_u16, prop::option::of(30080..30083_u16))
        .prop_map(|(protocol, port, node_port)| PortInput { name: port.to_string().into(), protocol, port, node_port });
    let addresses = || prop::collection::vec(prop::sample::select(vec!["192.0.2.1", "192.0.2.2", "2001:db8::1"]), 0..3);
    let range = prop::sample::select(vec!["10.0.0.0/8", "203.0.113.0/24", "0.0.0.0/0", "2001:db8::/32"]);
    (
        (0..4_i64, kind, prop::bool::weighted(0.9), any::<(bool, bool)>()),
        (prop::collection::vec(port, 1..3), addresses(), addresses()),
        (prop::collection::vec(range, 0..2), prop::bool::weighted(0.1), 0..2_u16),
    )
        .prop_map(
            |((created, kind, external_local, (v4, v6)), (ports, vips, external), (ranges, flag, proxied))| {
                let addresses = |texts: Vec<&str>| texts.into_iter().map(ip).collect();
                ServiceInput {
                    created,
                    kind,
                    external_local,
                    ignored: flag,
                    families: PerFamily { v4, v6 },
                    ports: ports.into(),
                    load_balancer: addresses(vips),
                    external_ips: addresses(external),
                    proxied_addresses: proxied,
                    source_ranges: ranges.into_iter().map(|range| range.parse().unwrap()).collect(),
                    ..service()
                }
            },
        )
}

pub(crate) fn any_slice() -> impl Strategy<Value = SliceInput> {
    let endpoint = (
        prop::sample::select(vec!["10.1.0.1", "10.1.0.2", "fd01::1"]),
        prop::sample::select(vec![Some("n1"), Some("n2"), None]),
        any::<(bool, bool, bool)>(),
    )
        .prop_map(|(address, node, (ready, serving, terminating))| EndpointInput {
            node: node.map(Into::into),
            ready,
            serving,
            terminating,
            ..pod(address, "n1")
        });
    let port = (80..83_u16, prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]))
        .prop_map(|(port, protocol)| SlicePort { name: port.to_string().into(), protocol, port: port + 8000 });
    (prop::collection::vec(port, 1..3), prop::collection::vec(endpoint, 0..4))
        .prop_map(|(ports, endpoints)| SliceInput { ports: ports.into(), endpoints: endpoints.into() })
}

pub(crate) fn any_directive() -> impl Strategy<Value = Directive> {
    let mode = prop::sample::select(vec![Mode::Off, Mode::Observe, Mode::Local, Mode::Local, Mode::Balance]);
    (mode, any::<bool>(), any::<bool>()).prop_map(|(mode, reject, source_ranges_on_node_ports)| Directive {
        mode,
        on_no_local: if reject { OnNoLocal::Reject } else { OnNoLocal::Drop },
        source_ranges_on_node_ports,
    })
}
