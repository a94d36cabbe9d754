//! Health check node ports: connections to them come to listeners of ours as long as these are alive.
//!
//! They are keys of the maps of node ports, so that they cost other packets nothing, and lead to a chain that is empty until
//! somebody has listeners to [steer](steering) to. `tproxy` rather than a translation: the packet stays as it is, so that
//! rules behind us which accept this port still do, and the kernel looks for the listener packet by packet, so that a process
//! that was killed is passed by at once. The lease is for one that hangs. `tproxy` works in a nat chain too, as at any
//! prerouting hook (`nft_tproxy_validate`), and there no packet but the first of a connection is asked.

use super::changes::Command;
use super::model::{Datum, Field, Key, Part, Rule, SetKind, Statement, Value};
use super::names::{self, Place};
use portreeve_table::{ClaimedMode, Family, HEALTH_CHECK_LEASE, Protocol, ServiceEntry};
use std::net::SocketAddr;

/// The chain that health check node ports lead to.
pub(crate) const CHAIN: &str = "health-checks";
/// The set whose one key says that somebody answers.
const LEASES: &str = "health-leases";

/// What the frame has for them.
pub(super) fn entrance(frame: &mut Part) {
    let kind = SetKind::Leases { seconds: HEALTH_CHECK_LEASE.as_secs() };
    frame.set(names::shared(LEASES), vec![Field::Protocol], kind);
    frame.chain(names::shared(CHAIN), Vec::new());
}

/// The health check node port of one Service, in the families that are claimed: kube-proxy too has a listener of each family,
/// which knows the Pods of that family alone. What is only observed is left alone.
pub(super) fn of_service(part: &mut Part, entry: &ServiceEntry) {
    let (Some(port), ClaimedMode::Local | ClaimedMode::Balance) = (entry.health_check_node_port, entry.mode) else {
        return;
    };
    for family in Family::BOTH.into_iter().filter(|family| entry.ports.iter().any(|port| port.family == *family)) {
        let key = Key::Exact(names::frontend_key(None, Protocol::Tcp, port));
        part.element(Place::NodePort(family).frontends(), key, Datum::Goto(names::shared(CHAIN)));
    }
}

/// The steps after which health checks go to `listeners`, with a fresh lease.
pub(crate) fn steering(listeners: &[SocketAddr]) -> Vec<Command> {
    let chain = names::shared(CHAIN);
    let rules = rules(listeners).into_iter().map(|rule| Command::AddRule(chain.clone(), rule));
    [Command::FlushChain(chain.clone())].into_iter().chain(rules).chain(renewed(true)).collect()
}

/// What that chain then holds.
pub(crate) fn rules(listeners: &[SocketAddr]) -> Vec<Rule> {
    let leased = || Statement::In(vec![Field::Protocol], names::shared(LEASES));
    let rules = listeners.iter().map(|to| {
        let family = Statement::Family(Family::of(to.ip()));
        Rule(vec![family, leased(), Statement::Protocol(Protocol::Tcp), Statement::Steer(*to)])
    });
    rules.collect()
}

/// The steps that renew the lease or end it. A key that is there is taken out and put in again, all in one transaction: not
/// every kernel gives it a new time otherwise (Linux 6.12 is the first).
pub(crate) fn renewed(alive: bool) -> Vec<Command> {
    let set = names::shared(LEASES);
    let key = Key::Exact(vec![Value::Protocol(Protocol::Tcp)]);
    let add = alive.then(|| Command::AddElements(set.clone(), vec![(key, Datum::Nothing)]));
    [Command::EmptySet(set.clone())].into_iter().chain(add).collect()
}
