//! Builders for tests: a claimed LoadBalancer Service and endpoints around node `n1`.

pub(crate) mod world;

use crate::input::{
    Directive, EndpointInput, Input, Mode, PortInput, ServiceInput, ServiceKind, SliceInput, SlicePort, ThisNode,
};
use crate::key::{PerFamily, Protocol, ServiceKey};
use std::net::IpAddr;

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("invariant: tests write addresses by hand")
}

pub(crate) fn web() -> ServiceKey {
    ServiceKey::new("shop", "web")
}

pub(crate) fn service() -> ServiceInput {
    ServiceInput {
        created: 100,
        kind: ServiceKind::LoadBalancer,
        external_local: true,
        headless: false,
        other_proxy: false,
        ignored: false,
        families: PerFamily { v4: true, v6: false },
        ports: [port("http", Protocol::Tcp, 80, 30080)].into(),
        load_balancer: [ip("192.0.2.10")].into(),
        proxied_addresses: 0,
        external_ips: [].into(),
        source_ranges: [].into(),
        affinity_seconds: None,
        health_check_node_port: Some(32000),
    }
}

pub(crate) fn port(name: &str, protocol: Protocol, port: u16, node_port: u16) -> PortInput {
    PortInput { name: name.into(), protocol, port, node_port: Some(node_port) }
}

pub(crate) fn pod(address: &str, node: &str) -> EndpointInput {
    EndpointInput { address: ip(address), node: Some(node.into()), ready: true, serving: true, terminating: false }
}

pub(crate) fn draining(address: &str, node: &str) -> EndpointInput {
    EndpointInput { ready: false, terminating: true, ..pod(address, node) }
}

pub(crate) fn unready(address: &str, node: &str) -> EndpointInput {
    EndpointInput { ready: false, serving: false, ..pod(address, node) }
}

pub(crate) fn slice(endpoints: impl Into<Box<[EndpointInput]>>) -> SliceInput {
    let http = SlicePort { name: "http".into(), protocol: Protocol::Tcp, port: 8080 };
    SliceInput { ports: [http].into(), endpoints: endpoints.into() }
}

pub(crate) fn local() -> Directive {
    Directive { mode: Mode::Local, ..Directive::default() }
}

/// One Service with its slices (named by number) and the directive Local, seen from node `n1` at 10.0.0.1.
pub(crate) fn input(service: ServiceInput, slices: impl IntoIterator<Item = SliceInput>) -> Input {
    let named = slices.into_iter().enumerate().map(|(number, slice)| (number.to_string().into(), slice)).collect();
    Input {
        this_node: ThisNode { name: "n1".into(), addresses: vec![ip("10.0.0.1"), ip("fd00::1")] },
        services: [(web(), service)].into(),
        slices: [(web(), named)].into(),
        directives: [(web(), local())].into(),
        ..Input::default()
    }
}
