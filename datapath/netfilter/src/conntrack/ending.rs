//! Which flows must end: plain, from what the kernel tells and what the table says.

use super::flow::Flow;
use portreeve_table::{
    ClaimedMode, Family, ForwardingTable, Frontend, FrontendHost, Op, Protocol, ServiceEntry, ServiceKey,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Most frontends that are remembered after their Services have given them up.
const FORMER: usize = 4_096;
/// Most Services that are remembered after they have left the table.
const LEFT: usize = 1_024;

/// Pods that no longer keep the flows of a Service, each with the frontends through which they came.
#[derive(Debug, Default)]
pub(super) struct Endings {
    gone: BTreeMap<(Protocol, SocketAddr), BTreeMap<ServiceKey, Through>>,
    past: Past,
}

/// Frontends through which flows of a Service came.
#[derive(Debug, Default)]
struct Through {
    /// That it had when its Pod went, or got then.
    own: BTreeSet<Frontend>,
    /// That it had given up before: somebody else may have them.
    former: BTreeSet<Frontend>,
}

/// What was said in the steps so far. A flow outlives its frontend and the claim on its Service, and ends with its Pod.
#[derive(Debug, Default)]
struct Past {
    /// Entries in the table of the last goal.
    told: BTreeMap<ServiceKey, Arc<ServiceEntry>>,
    /// Services that have left the table, with their last entries, in the order in which they left.
    left: VecDeque<(ServiceKey, Arc<ServiceEntry>)>,
    /// Frontends that a Service no longer has, in the order in which they went.
    former: VecDeque<(ServiceKey, Frontend)>,
    /// All addresses that the node had.
    addresses: BTreeSet<IpAddr>,
}

impl Endings {
    /// Adds what `steps` say. A Service that was only observed until now has no flows of ours. One that comes back without
    /// some of its Pods has lost them while it was not looked at.
    pub(super) fn note(&mut self, steps: &[Op], goal: &ForwardingTable) {
        for step in steps {
            match step {
                Op::Gone { service, protocol, pod } => self.add(service, *protocol, *pod, goal),
                Op::Add(service, entry) => {
                    let left =
                        self.past.left.iter().find(|(key, _)| key == service).map(|(_, entry)| Arc::clone(entry));
                    for (protocol, pod) in left.iter().flat_map(|left| left.keeping()) {
                        if !entry.keeps(protocol, pod) {
                            self.add(service, protocol, pod, goal);
                        }
                    }
                }
                _ => {}
            }
        }
        self.past.turn_to(steps, goal);
    }

    fn add(&mut self, service: &ServiceKey, protocol: Protocol, pod: SocketAddr, goal: &ForwardingTable) {
        let Past { told, left, former, addresses: _ } = &self.past;
        let (before, now) = (told.get(service), goal.services.get(service));
        let mut entries = before.into_iter().chain(now).peekable();
        let observed = |entry: &&Arc<ServiceEntry>| entry.mode == ClaimedMode::Observe;
        if entries.peek().is_some_and(observed) {
            return;
        }
        let of = |frontend: &Frontend| frontend.protocol == protocol;
        let own = entries.flat_map(|entry| entry.frontends()).map(|front| front.frontend).filter(of);
        let former = former.iter().filter(|(key, _)| key == service).map(|(_, frontend)| *frontend);
        let left = left.iter().filter(|(key, _)| key == service).flat_map(|(_, entry)| entry.frontends());
        let former = former.chain(left.map(|front| front.frontend)).filter(of);
        let through = Through { own: own.collect(), former: former.collect() };
        if through.own.is_empty() && through.former.is_empty() {
            return;
        }
        let known = self.gone.entry((protocol, pod)).or_default().entry(service.clone()).or_default();
        known.own.extend(through.own);
        known.former.extend(through.former);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.gone.is_empty()
    }

    /// All have ended.
    pub(super) fn clear(&mut self) {
        self.gone.clear();
    }

    pub(super) fn pods(&self) -> impl Iterator<Item = (Protocol, SocketAddr)> {
        self.gone.keys().copied()
    }

    /// A Pod that came back before its flows were ended has them again.
    pub(super) fn drop_those_kept(&mut self, table: &ForwardingTable) {
        self.gone.retain(|(protocol, pod), services| {
            services
                .retain(|service, _| !table.services.get(service).is_some_and(|entry| entry.keeps(*protocol, *pod)));
            !services.is_empty()
        });
    }

    /// Leaves those of `flows` that must end. One through a frontend that another Service has by now is taken for a flow of
    /// that one, if that one has the Pod.
    pub(super) fn retain(&self, flows: &mut Vec<Flow>, table: &ForwardingTable) {
        let former = self.gone.values().flat_map(BTreeMap::values).any(|through| !through.former.is_empty());
        let owners = former.then(|| Owners::of(table));
        let kept = |flow: &Flow| {
            let owner = owners.as_ref().and_then(|owners| owners.find(flow));
            owner.is_some_and(|owner| table.services[owner].keeps(flow.protocol, flow.pod))
        };
        flows.retain(|flow| {
            let Some(services) = self.gone.get(&(flow.protocol, flow.pod)) else { return false };
            let through = |of: fn(&Through) -> &BTreeSet<Frontend>| {
                let hosts = hosts(flow.frontend.ip(), |address| self.past.addresses.contains(address));
                let mut frontends = hosts.map(|host| frontend(host, flow));
                frontends.any(|frontend| services.values().any(|through| of(through).contains(&frontend)))
            };
            from_outside(flow, table) && (through(|it| &it.own) || through(|it| &it.former) && !kept(flow))
        });
    }
}

impl Past {
    fn turn_to(&mut self, steps: &[Op], goal: &ForwardingTable) {
        self.addresses.extend(&goal.node_addresses);
        for step in steps {
            match step {
                Op::Remove(key) => {
                    let entry = self.told.remove(key).filter(|entry| entry.mode != ClaimedMode::Observe);
                    self.left.extend(entry.map(|entry| (key.clone(), entry)));
                }
                Op::Replace(key, entry) | Op::Add(key, entry) => {
                    let left = self.left.iter().position(|(left, _)| left == key).and_then(|at| self.left.remove(at));
                    let before = self.told.insert(key.clone(), Arc::clone(entry)).or(left.map(|(_, entry)| entry));
                    let before = before.filter(|before| before.mode != ClaimedMode::Observe);
                    // One that is only observed has its frontends for others.
                    let ours = (entry.mode != ClaimedMode::Observe).then_some(entry);
                    let now = ours.into_iter().flat_map(|entry| entry.frontends()).map(|front| front.frontend);
                    let now: BTreeSet<Frontend> = now.collect();
                    let given_up = before.iter().flat_map(|before| before.frontends()).map(|front| front.frontend);
                    self.former.extend(given_up.filter(|it| !now.contains(it)).map(|it| (key.clone(), it)));
                }
                Op::NodeAddresses(_) | Op::PodRanges(_) | Op::Gone { .. } => {}
            }
        }
        self.left.drain(..self.left.len().saturating_sub(LEFT));
        self.former.drain(..self.former.len().saturating_sub(FORMER));
    }
}

/// Which claimed Service has which frontend.
pub(super) struct Owners<'a> {
    table: &'a ForwardingTable,
    services: BTreeMap<Frontend, (&'a ServiceKey, ClaimedMode)>,
}

impl<'a> Owners<'a> {
    pub(super) fn of(table: &'a ForwardingTable) -> Self {
        let fronts = table
            .services
            .iter()
            .flat_map(|(key, entry)| entry.frontends().map(move |front| (front.frontend, (key, entry.mode))));
        Self { table, services: fronts.collect() }
    }

    /// The Service through whose frontend `flow` came to us; one that is only observed takes none.
    pub(super) fn find(&self, flow: &Flow) -> Option<&'a ServiceKey> {
        let mut hosts = hosts(flow.frontend.ip(), |address| self.table.node_addresses.contains(address));
        let (service, mode) = hosts.find_map(|host| self.services.get(&frontend(host, flow)).copied())?;
        (mode != ClaimedMode::Observe && from_outside(flow, self.table)).then_some(service)
    }
}

fn frontend(host: FrontendHost, flow: &Flow) -> Frontend {
    Frontend { host, port: flow.frontend.port(), protocol: flow.protocol }
}

/// What a packet to `address` is looked up as, in order.
fn hosts(address: IpAddr, is_own: impl Fn(&IpAddr) -> bool) -> impl Iterator<Item = FrontendHost> {
    let own = is_own(&address);
    [FrontendHost::Address(address)].into_iter().chain(own.then(|| FrontendHost::NodePort(Family::of(address))))
}

/// Whether our rules can have taken it: they leave what Pods and processes of this node send to others, and keep the source.
/// A source port that was taken may be another behind us, so ports are not compared.
fn from_outside(flow: &Flow, table: &ForwardingTable) -> bool {
    let client = flow.client.ip();
    flow.answered == client
        && client != flow.frontend.ip()
        && !table.node_addresses.contains(&client)
        && !table.pod_ranges.iter().any(|range| range.contains(&client))
}

#[cfg(test)]
mod tests;
