//! Health checks that tell the truth: who answers them, with what, and for how long without the main loop's say.
//!
//! The main loop owns [`HealthChecks`]: it publishes what it programmed and renews the lease under which the engine lets
//! connections to health check node ports come here. So a process that is killed, and a loop that hangs, both give these
//! ports back to kube-proxy, which listens there all the time. The servers read a snapshot and never wait for the loop.

mod answer;
mod listen;
mod node;
mod serve;
mod snapshot;

pub(crate) use node::healthz;

use crate::metrics::AgentMetrics;
use crate::program::{Meanwhile, Program, Standing};
use arc_swap::ArcSwap;
use portreeve_runtime::shutdown::Shutdown;
use portreeve_table::{Applied, Changes, ForwardingTable, HEALTH_CHECK_LEASE, ServiceKey};
use snapshot::{Entries, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How often the lease is renewed: two renewals may be late before kube-proxy answers.
const RENEW: Duration = Duration::from_secs(HEALTH_CHECK_LEASE.as_secs() / 3);

/// How long a refusal is taken for an answer.
const RETRY: Duration = Duration::from_secs(30);

/// What the servers answer from; clones share it.
pub(crate) type Published = Arc<ArcSwap<Snapshot>>;

/// The main loop's side of the health checks.
pub(crate) struct HealthChecks {
    published: Published,
    metrics: AgentMetrics,
    /// Where our servers listen, one address of a family.
    listeners: Vec<SocketAddr>,
    servers: Vec<JoinHandle<()>>,
    stop: CancellationToken,
    /// The Services with a health check that the engine has in force.
    in_force: Entries,
    /// Their ports.
    ports: BTreeMap<ServiceKey, u16>,
    /// Services that have changed since.
    touched: BTreeSet<ServiceKey>,
    /// When the lease is to be renewed.
    renewal: Option<Instant>,
    /// The lease is held.
    answering: bool,
    /// Why health checks are kube-proxy's, if they are.
    left: Option<String>,
}

impl HealthChecks {
    /// Listens and serves. Where that fails, all health checks are left to kube-proxy, and the report says why.
    pub(crate) fn start(metrics: AgentMetrics, shutdown: &Shutdown) -> Self {
        let mut checks = Self::silent(metrics);
        match listen::listen() {
            Ok(listeners) => {
                for (address, listener) in listeners {
                    let router = serve::router(Arc::clone(&checks.published), checks.metrics.clone());
                    let serving = serve::serve(listener, router, checks.stop.clone());
                    checks.servers.push(shutdown.spawn(serving));
                    checks.listeners.push(address);
                }
                tracing::debug!(listeners = ?checks.listeners, "Ready to answer health checks");
            }
            Err(error) => checks.leave_because(&error),
        }
        checks
    }

    fn silent(metrics: AgentMetrics) -> Self {
        Self {
            published: Arc::default(),
            metrics,
            listeners: Vec::new(),
            servers: Vec::new(),
            stop: CancellationToken::new(),
            in_force: Entries::new(),
            ports: BTreeMap::new(),
            touched: BTreeSet::new(),
            renewal: None,
            answering: false,
            left: None,
        }
    }

    /// What the servers answer from.
    pub(crate) fn published(&self) -> Published {
        Arc::clone(&self.published)
    }

    /// Why health checks are left to kube-proxy; nothing if they are ours or there are none.
    pub(crate) fn left(&self) -> Option<&str> {
        self.left.as_deref().filter(|_| !self.in_force.is_empty())
    }

    /// Why nobody listens here; nothing if somebody does.
    #[cfg(test)]
    pub(crate) fn refused(&self) -> Option<&str> {
        self.left.as_deref()
    }

    /// Notes what has changed, for the next round.
    pub(crate) fn note(&mut self, changes: &Changes) {
        let Changes { added, updated, removed, .. } = changes;
        self.touched.extend([added, updated, removed].into_iter().flatten().cloned());
    }

    /// Publishes what is true after a round that put `table` in force. An engine that made everything anew is asked for the
    /// health checks again.
    pub(crate) fn programmed(&mut self, table: &ForwardingTable, eligible: bool, applied: Applied, now: Instant) {
        if applied == Applied::Replaced || self.in_force.is_empty() {
            self.renewal = Some(now);
        }
        let (ports, last) = (self.follow(table), self.published.load());
        let next = if last.behind.is_some() {
            Snapshot::in_step(&self.in_force, eligible, now)
        } else {
            last.after(&self.in_force, &ports, eligible, now)
        };
        self.published.store(Arc::new(next));
        self.count();
    }

    /// Takes over what has changed, at the cost of that and not of the table; the ports at which something did.
    fn follow(&mut self, table: &ForwardingTable) -> BTreeSet<u16> {
        let touched = mem::take(&mut self.touched);
        let mut changed = BTreeSet::new();
        // What one Service gives up may be another's already.
        for key in &touched {
            let port = self.ports.remove(key);
            if let Some(port) = port.filter(|port| self.in_force.get(port).is_some_and(|(owner, _)| owner == key)) {
                self.in_force.remove(&port);
                changed.insert(port);
            }
        }
        for key in touched {
            let Some((port, entry)) = table.services.get(&key).and_then(snapshot::checked) else { continue };
            self.ports.insert(key.clone(), port);
            self.in_force.insert(port, (key, Arc::clone(entry)));
            changed.insert(port);
        }
        changed
    }

    /// Publishes what is true while `table` is wanted: the same, unless the last round failed. An engine that serves until its
    /// successor does has been told the table all the same.
    pub(crate) fn observe(&mut self, table: &ForwardingTable, eligible: bool, standing: &Standing, now: Instant) {
        if let Standing::Failed { meanwhile: Meanwhile::Former(_), .. } = standing {
            return self.programmed(table, eligible, Applied::Nothing, now);
        }
        let last = self.published.load();
        let next = match standing {
            Standing::Failed { .. } => {
                Snapshot::behind(&self.in_force, &snapshot::entries(table), eligible, &last, now)
            }
            Standing::NotYet | Standing::InStep(_) => last.of_node(eligible),
        };
        self.published.store(Arc::new(next));
    }

    /// When the lease is to be renewed, if there is something to answer for and somebody who does.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.renewal.filter(|_| !self.in_force.is_empty() && !self.listeners.is_empty())
    }

    /// Renews the lease. A server that has ended takes the health checks along.
    pub(crate) fn renew(&mut self, program: &mut Program, now: Instant) {
        let outcome = if self.servers.iter().any(JoinHandle::is_finished) {
            self.listeners.clear();
            program.steer_health_checks(&[]).and(Err("the server of the health checks ended; restart the agent".into()))
        } else {
            program.steer_health_checks(&self.listeners)
        };
        match outcome {
            Ok(()) => {
                if !self.answering {
                    tracing::info!(ports = self.in_force.len(), "Health checks are answered here");
                }
                (self.answering, self.left) = (true, None);
                self.renewal = Some(now + RENEW);
            }
            Err(error) => {
                self.leave_because(&error);
                self.renewal = Some(now + if self.answering { RENEW } else { RETRY });
                self.answering = false;
            }
        }
        self.count();
    }

    fn count(&self) {
        self.metrics.answers_for(if self.answering { self.in_force.len() } else { 0 });
    }

    /// Gives the health checks back to kube-proxy, then ends the servers.
    pub(crate) fn end(&mut self, program: &mut Program) {
        if self.answering
            && let Err(error) = program.steer_health_checks(&[])
        {
            tracing::debug!(error = %error, "Health checks end with their lease");
        }
        self.stop.cancel();
    }

    fn leave_because(&mut self, error: &dyn std::fmt::Display) {
        let why = error.to_string();
        if self.left.as_ref() != Some(&why) {
            tracing::warn!(error = %why, "Health checks are left to kube-proxy");
        }
        self.left = Some(why);
    }
}

#[cfg(test)]
mod tests;
