//! For tests that bring worlds of their own, and parties that are no engines: the site, and a judge of first packets.

use crate::catch::{Catch, SECOND_LOOK};
use crate::judge::{Expected, owner};
use crate::namespace::Namespace;
use crate::scenario::Shot;
use crate::site::Site;
use portreeve_table::{AffinityKey, Bound, ForwardingTable, Memory, Packet, Verdict, oracle};
use std::net::SocketAddr;
use std::time::Instant;

/// What was seen of one packet; nothing if it vanished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It came to this Pod, with its client's address.
    Delivered(SocketAddr),
    /// Nobody took it.
    Passed,
    /// Its client was told by ICMP that the port is closed, from this address.
    Rejected(std::net::IpAddr),
    /// Its client was told by a RST.
    Reset,
    /// What no rule may do.
    Garbled(&'static str),
}

/// Clients, a node and its Pods in network namespaces of their own, with nobody in them but what a test puts on the node.
pub struct Field {
    site: Site,
    catch: Catch,
}

impl Field {
    /// With a stand-in of kube-proxy that takes what is left to it.
    pub fn with_stand_in() -> Self {
        Self { site: Site::new(), catch: Catch::default() }
    }

    /// With nothing on the node, which receives what is for itself; what nobody has refused then is seen as passed.
    pub fn bare() -> Self {
        Self { site: Site::bare(), catch: Catch::default() }
    }

    /// The node's network namespace.
    pub const fn node(&self) -> &Namespace {
        self.site.node()
    }

    /// Lets the node forget all connections.
    pub fn forget_flows(&self) {
        self.site.clear(|| {});
    }

    /// Sends packets of different flows and lets `judge` say what it makes of what became of each, in their order. What it
    /// finds wrong it is asked again until nothing more can come.
    ///
    /// # Errors
    /// What `judge` says in the end; that packets do not come through at all.
    pub fn play<T>(
        &mut self,
        shots: &[Shot],
        mut judge: impl FnMut(&[&[Fate]]) -> Result<T, String>,
    ) -> Result<T, String> {
        for shot in shots {
            self.catch.expect(shot);
            self.site.send(shot.side, &shot.outgoing(None), shot.in_fragments);
        }
        let wrong = |(number, what): (u32, String)| format!("packet {number}: {what}");
        self.catch.fence(&self.site).map_err(wrong)?;
        let looked = Instant::now();
        let judged = loop {
            let fates: Vec<&[Fate]> = shots.iter().map(|shot| self.catch.fates(shot.number)).collect();
            let judged = judge(&fates);
            if judged.is_ok() || looked.elapsed() > SECOND_LOOK {
                break judged;
            }
            self.site.wait();
            self.catch.take(self.site.caught());
        };
        self.catch.close(shots.iter().map(|shot| shot.number)).map_err(wrong)?;
        judged
    }
}

/// What is known of clients that are bound to Pods, for packets each of which opens a flow of its own.
#[derive(Clone, Debug, Default)]
pub struct Bindings(Memory);

impl Bindings {
    /// What the oracle says of a packet; it is bound as it was seen.
    ///
    /// # Errors
    /// The oracle's verdict and what was seen, where they do not fit.
    pub fn judge(&mut self, table: &ForwardingTable, packet: &Packet, fates: &[Fate]) -> Result<Verdict, String> {
        let verdict = oracle(table, packet, &self.0);
        let fits = Expected::of(&verdict.action).is_some_and(|expected| expected.allows(fates));
        if !fits {
            return Err(format!("{verdict}\nSeen: {fates:?}"));
        }
        if let ([Fate::Delivered(pod)], Some((service, entry, port))) = (fates, owner(table, packet))
            && entry.affinity_seconds.is_some()
        {
            let key = AffinityKey {
                service: service.clone(),
                port: port.name.clone(),
                protocol: port.protocol,
                client: packet.source.ip(),
            };
            self.0.clients.insert(key, Bound { pod: *pod, last: self.0.now });
        }
        Ok(verdict)
    }
}
