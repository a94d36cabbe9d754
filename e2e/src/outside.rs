//! Clients outside the cluster: requests made from inside a client's network namespace.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::fabric::plan::Dual;
use crate::http::{self, HttpOutcome, Target, TargetError};
use crate::netns::{NetNs, NetNsError};

/// How long one request of a burst may take.
const BURST_TIMEOUT: Duration = Duration::from_secs(5);

/// Why no request was made. A request that was made and failed is an outcome.
#[derive(Debug, thiserror::Error)]
pub enum OutsideError {
    /// The URL names nothing to ask.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The client's namespace is not there.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// The client's thread panicked.
    #[error("the client's thread")]
    Thread(#[from] tokio::task::JoinError),
}

/// A machine in the clients' network.
#[derive(Debug, Clone)]
pub struct OutsideClient {
    /// Its addresses, as a backend that sees the client's address must report them.
    pub address: Dual,
    netns: NetNs,
}

impl OutsideClient {
    /// The client with `address` that lives in `netns`.
    pub fn new(address: Dual, netns: NetNs) -> Self {
        Self { address, netns }
    }

    /// Its namespace, for programs to be run there.
    pub fn netns(&self) -> &NetNs {
        &self.netns
    }

    /// Its IPv4 address.
    pub fn ip(&self) -> IpAddr {
        self.address.v4.into()
    }

    /// One GET on a new connection.
    pub async fn http_get(&self, url: &str, timeout: Duration) -> Result<HttpOutcome, OutsideError> {
        let target = Target::parse(url)?;
        let mut outcomes = self.requests(target, 1, 1, timeout).await?;
        Ok(outcomes.pop().expect("invariant: one request has one outcome"))
    }

    /// `n` GETs, each on a new connection (thus a new flow), `concurrency` at a time. In order of completion.
    pub async fn http_burst(&self, url: &str, n: usize, concurrency: usize) -> Result<Vec<HttpOutcome>, OutsideError> {
        self.requests(Target::parse(url)?, n, concurrency, BURST_TIMEOUT).await
    }

    async fn requests(
        &self,
        to: Target,
        n: usize,
        concurrency: usize,
        timeout: Duration,
    ) -> Result<Vec<HttpOutcome>, OutsideError> {
        let netns = self.netns.clone();
        let made = tokio::task::spawn_blocking(move || netns.block_on(|| burst(to, n, concurrency, timeout))).await?;
        Ok(made?)
    }
}

async fn burst(target: Target, n: usize, concurrency: usize, timeout: Duration) -> Vec<HttpOutcome> {
    let slots = Arc::new(Semaphore::new(concurrency.max(1)));
    let mut running = JoinSet::new();
    for _ in 0..n {
        let (slots, target) = (slots.clone(), target.clone());
        running.spawn(async move {
            let _slot = slots.acquire_owned().await.expect("invariant: the semaphore is never closed");
            http::get(&target, timeout).await
        });
    }
    running.join_all().await
}
