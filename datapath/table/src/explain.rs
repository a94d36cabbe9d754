//! Why a Service is claimed or left, in words; what becomes of its new flows, in the [oracle](crate::oracle())'s words and,
//! where a packet is left to kube-proxy, by its rules.

mod answer;
mod nodes;
mod proxy;

pub use answer::{Decider, Health, NodeAnswer, Outcome, ProxyVerdict, SeenClient, Step, Way};
pub use nodes::{InForce, Question, explain_node};
pub use proxy::ProxyReason;

use crate::claim::Claim;
use crate::compile::Compiled;
use crate::key::{Family, ServiceKey};
use crate::oracle;
use crate::table::{ClaimedMode, PortEntry, ServiceEntry, SourceFilter};
use std::fmt::Write as _;

impl Compiled {
    /// Says whether this node claims the Service, why, and what becomes of new flows to each of its frontends.
    #[must_use]
    pub fn explain_claim(&self, key: &ServiceKey) -> String {
        let Some(claim) = self.claims.get(key) else {
            return format!("{key} is not known to this node.\n");
        };
        if let Some(entry) = self.table.services.get(key) {
            return entry_text(key, entry);
        }
        let why = match claim {
            Claim::Left(reason) => reason.sentence().to_owned(),
            Claim::Claimed(_) => {
                self.refused.get(key).expect("invariant: a claimed Service is in the table or refused").to_string()
            }
        };
        format!("{key} is left to kube-proxy: {why}.\n")
    }
}

fn entry_text(key: &ServiceKey, entry: &ServiceEntry) -> String {
    let mut text = format!("{key} is claimed: mode {}", entry.mode.as_str());
    if entry.mode == ClaimedMode::Observe {
        text.push_str(" (counted only; kube-proxy serves)");
    }
    if let Some(seconds) = entry.affinity_seconds {
        push(&mut text, format_args!("; a client keeps its Pod for {seconds} s"));
    }
    if let Some(port) = entry.health_check_node_port {
        let ready = Family::BOTH.map(|family| *entry.local_ready.get(family));
        push(
            &mut text,
            format_args!("; health check port {port} sees {} IPv4 and {} IPv6 Pods here", ready[0], ready[1]),
        );
    }
    text.push_str(".\n");
    for port in &entry.ports {
        port_text(&mut text, entry, port);
    }
    text
}

fn port_text(text: &mut String, entry: &ServiceEntry, port: &PortEntry) {
    for front in &port.frontends {
        push(text, format_args!("  {}: {}", front.frontend, oracle::standing(entry, port).text));
        if let (true, SourceFilter::Only { ranges, own_address }) = (front.guarded, entry.sources.get(port.family)) {
            let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
            push(text, format_args!("; only from {}", ranges.join(", ")));
            if *own_address {
                text.push_str(" and the Service's own load balancer addresses");
            }
        }
        text.push('\n');
    }
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("invariant: writing to a String cannot fail");
}

#[cfg(test)]
mod tests;
