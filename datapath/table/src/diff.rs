//! What an engine must do to come from one table to another.

use crate::key::{Protocol, ServiceKey};
use crate::table::{ForwardingTable, ServiceEntry};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// One step. A Service changes as a whole, so that no engine ever has half of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The addresses that node ports stand for become these.
    NodeAddresses(Vec<IpAddr>),
    /// The ranges of the cluster's Pods become these.
    PodRanges(Vec<IpNet>),
    /// A Service leaves the table. Its flows go on: whether their Pods are still there is a question to
    /// [`Input::keeps`](crate::Input::keeps), since a Service may leave for many reasons.
    Remove(ServiceKey),
    /// A Service's entry becomes this one.
    Replace(ServiceKey, Arc<ServiceEntry>),
    /// A Service comes into the table.
    Add(ServiceKey, Arc<ServiceEntry>),
    /// A Pod no longer keeps the flows it has. Those of UDP are forgotten at once; clients of the others get a RST (for
    /// SCTP an ABORT) with their next packet, or earlier.
    Gone {
        /// Service whose flows are meant; another may have the same Pod still.
        service: ServiceKey,
        /// Transport.
        protocol: Protocol,
        /// The Pod.
        pod: SocketAddr,
    },
}

impl fmt::Display for Op {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeAddresses(addresses) => write!(out, "node addresses: {}", list(addresses)),
            Self::PodRanges(ranges) => write!(out, "Pod ranges: {}", list(ranges)),
            Self::Remove(key) => write!(out, "remove {key}"),
            Self::Replace(key, _) => write!(out, "replace {key}"),
            Self::Add(key, _) => write!(out, "add {key}"),
            Self::Gone { service, protocol, pod } => write!(out, "gone: {pod}/{protocol} of {service}"),
        }
    }
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

/// The steps from `old` to `new`; none if they are equal, and never one for a Service that is in both and equal.
///
/// They are one transaction: two Services may swap frontends, which no order of steps can do without a gap. For engines
/// that go step by step the order is: addresses, what gives room, what may need it, and, when the new table is in force so
/// that no flow comes back to them, the Pods that are gone.
#[must_use]
pub fn diff(old: &ForwardingTable, new: &ForwardingTable) -> Vec<Op> {
    let both: BTreeSet<&ServiceKey> = old.services.keys().chain(new.services.keys()).collect();
    diff_of(old, new, both)
}

/// The steps from `old` to `new`, when no Services but `touched` can differ: their number is the cost, and not that of all
/// Services.
#[must_use]
pub fn diff_of<'a>(
    old: &ForwardingTable,
    new: &ForwardingTable,
    touched: impl IntoIterator<Item = &'a ServiceKey>,
) -> Vec<Op> {
    let mut steps = Vec::new();
    if old.node_addresses != new.node_addresses {
        steps.push(Op::NodeAddresses(new.node_addresses.clone()));
    }
    if old.pod_ranges != new.pod_ranges {
        steps.push(Op::PodRanges(new.pod_ranges.clone()));
    }
    let (mut replaced, mut added, mut gone) = (Vec::new(), Vec::new(), Vec::new());
    for key in touched {
        match (old.services.get(key), new.services.get(key)) {
            (None, None) => {}
            (Some(_), None) => steps.push(Op::Remove(key.clone())),
            (None, Some(entry)) => added.push(Op::Add(key.clone(), Arc::clone(entry))),
            (Some(before), Some(entry)) if Arc::ptr_eq(before, entry) || before == entry => {}
            (Some(before), Some(entry)) => {
                replaced.push(Op::Replace(key.clone(), Arc::clone(entry)));
                gone.extend(gone_between(before, entry).into_iter().map(|(protocol, pod)| Op::Gone {
                    service: key.clone(),
                    protocol,
                    pod,
                }));
            }
        }
    }
    steps.append(&mut replaced);
    steps.append(&mut added);
    steps.append(&mut gone);
    steps
}

/// Pods whose flows went on with `before` and do not with `after`.
fn gone_between(before: &ServiceEntry, after: &ServiceEntry) -> BTreeSet<(Protocol, SocketAddr)> {
    before.keeping().filter(|(protocol, pod)| !after.keeps(*protocol, *pod)).collect()
}

/// Takes `steps` to a table. Reading a table back from an engine must give the same.
pub fn apply(table: &mut ForwardingTable, steps: &[Op]) {
    for step in steps {
        match step {
            Op::NodeAddresses(addresses) => table.node_addresses.clone_from(addresses),
            Op::PodRanges(ranges) => table.pod_ranges.clone_from(ranges),
            Op::Remove(key) => {
                table.services.remove(key);
            }
            Op::Replace(key, entry) | Op::Add(key, entry) => {
                table.services.insert(key.clone(), Arc::clone(entry));
            }
            Op::Gone { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests;
