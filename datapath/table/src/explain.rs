//! Why a Service is claimed or left, in words.

use crate::claim::Claim;
use crate::compile::Compiled;
use crate::input::OnNoLocal;
use crate::key::{Family, ServiceKey};
use crate::table::{ClaimedMode, Hop, NewFlow, PortEntry, ServiceEntry, SourceFilter, Standing};
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
        push(text, format_args!("  {}: {}", front.frontend, flow_text(port, entry.on_no_local)));
        if let (true, SourceFilter::Only { ranges, own_address }) = (front.guarded, entry.sources.get(port.family)) {
            let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
            push(text, format_args!("; only from {}", ranges.join(", ")));
            if *own_address {
                text.push_str(" and the frontend's own address");
            }
        }
        text.push('\n');
    }
}

fn flow_text(port: &PortEntry, on_no_local: OnNoLocal) -> String {
    let pods = || -> String {
        let pods: Vec<String> = port
            .targets
            .iter()
            .map(|target| match target.hop {
                Hop::Pod(address) => address.to_string(),
            })
            .collect();
        pods.join(", ")
    };
    match port.new_flow(on_no_local) {
        NewFlow::Deliver if port.standing == Standing::LocalDraining => {
            format!("new flows go to Pods of this node that are terminating, since none is ready: {}", pods())
        }
        NewFlow::Deliver => format!("new flows go to Pods of this node: {}", pods()),
        NewFlow::NoLocal(OnNoLocal::Drop) => "no Pod here, some elsewhere: new flows are dropped".to_owned(),
        NewFlow::NoLocal(OnNoLocal::Reject) => "no Pod here, some elsewhere: new flows are rejected".to_owned(),
        NewFlow::NoLocal(OnNoLocal::Passthrough) => {
            "no Pod here, some elsewhere: new flows are left to kube-proxy".to_owned()
        }
        NewFlow::NoLocal(OnNoLocal::Forward) => {
            "no Pod here, some elsewhere: new flows are for another node".to_owned()
        }
        NewFlow::Reject => "no Pod anywhere: new flows are rejected".to_owned(),
    }
}

fn push(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("invariant: writing to a String cannot fail");
}

#[cfg(test)]
mod tests;
