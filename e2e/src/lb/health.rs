//! Health checks: one GET per node and interval, and thresholds that turn answers into a decision.

use std::net::SocketAddr;
use std::time::Duration;

use super::NodeView;
use crate::http::{self, HttpOutcome, Target};

/// kube-proxy's answer to "how many endpoints has this node?" (package `pkg/proxy/healthcheck`).
const WEIGHT_HEADER: &str = "X-Load-Balancing-Endpoint-Weight";

/// How nodes are checked.
#[derive(Debug, Clone, Copy)]
pub struct HealthOptions {
    /// Time between two checks of one node; also the time an answer may take.
    pub interval: Duration,
    /// Bad answers in a row that take a healthy node out.
    pub unhealthy_after: u32,
    /// Good answers in a row that take an unhealthy node in.
    pub healthy_after: u32,
}

impl Default for HealthOptions {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), unhealthy_after: 2, healthy_after: 1 }
    }
}

/// One node's history, as far as it decides anything.
#[derive(Debug, Clone)]
pub(super) struct Streak {
    pub(super) view: NodeView,
    /// Answers in a row that speak against the current decision.
    against: u32,
}

impl Streak {
    /// A node is out until it has answered.
    pub(super) fn new() -> Self {
        Self { view: NodeView { healthy: false, weight: 1, checks: 0 }, against: 0 }
    }

    /// Takes in one answer: the weight of a good one, or `None`.
    pub(super) fn observe(&mut self, answer: Option<u16>, options: &HealthOptions) {
        self.view.checks += 1;
        if let Some(weight) = answer {
            self.view.weight = weight;
        }
        if answer.is_some() == self.view.healthy {
            self.against = 0;
            return;
        }
        self.against += 1;
        let enough = if self.view.healthy { options.unhealthy_after } else { options.healthy_after };
        if self.against >= enough {
            self.view.healthy = !self.view.healthy;
            self.against = 0;
        }
    }
}

/// Asks once; the weight of a good answer.
pub(super) async fn check(at: SocketAddr, timeout: Duration) -> Option<u16> {
    weight(&http::get(&Target::new(at, "/healthz"), timeout).await)
}

fn weight(outcome: &HttpOutcome) -> Option<u16> {
    if !outcome.is_ok() {
        return None;
    }
    // A node that answers 200 has at least one endpoint, whatever the header says.
    let named = outcome.header(WEIGHT_HEADER).and_then(|value| value.parse::<u16>().ok());
    Some(named.unwrap_or(1).max(1))
}

#[cfg(test)]
mod tests;
