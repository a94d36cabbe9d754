//! The part a cloud's controller plays: watches Services of type LoadBalancer, gives each an address pair, starts its
//! load balancer, and writes `status.loadBalancer`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::model::{Kind, Wanted};
use super::{LbError, LbNode, LbOptions, Views, worker};
use crate::fabric::plan::{self, Dual};
use crate::kubeconfig;
use crate::netns::NetNs;

/// What every load balancer needs.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) router: NetNs,
    pub(super) nodes: Vec<LbNode>,
    pub(super) options: LbOptions,
    pub(super) views: Views,
}

/// Runs until `stop`. A lost watch is taken up again by itself; the load balancers work on meanwhile.
pub(super) async fn run(kubeconfig: PathBuf, context: Context, stop: CancellationToken) -> Result<(), LbError> {
    let client = kubeconfig::client(&kubeconfig).await?;
    let services: Api<Service> = Api::all(client.clone());
    let events = watcher(services, watcher::Config::default()).default_backoff();
    futures::pin_mut!(events);
    let mut cloud = Cloud { client, context, running: BTreeMap::new(), listed: None };
    loop {
        let event = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            event = events.next() => event.ok_or(LbError::WatchEnded)?,
        };
        match event {
            Ok(event) => cloud.take(event).await,
            Err(e) => tracing::warn!("watching Services: {e}"),
        }
    }
}

struct Running {
    wanted: Wanted,
    /// Position in the pool of the kind.
    index: u8,
    vips: Vec<IpAddr>,
    worker: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

struct Cloud {
    client: Client,
    context: Context,
    running: BTreeMap<String, Running>,
    /// During a relist: what has been seen, so that Services deleted while the watch was lost are noticed.
    listed: Option<BTreeSet<String>>,
}

impl Cloud {
    async fn take(&mut self, event: watcher::Event<Service>) {
        let outcome = match event {
            watcher::Event::Init => {
                self.listed = Some(BTreeSet::new());
                Ok(())
            }
            watcher::Event::InitApply(service) | watcher::Event::Apply(service) => self.upsert(&service).await,
            watcher::Event::Delete(service) => self.forget(&key_of(&service)).await,
            watcher::Event::InitDone => self.end_of_list().await,
        };
        if let Err(error) = outcome {
            tracing::warn!(error = &error as &dyn std::error::Error, "cloud controller");
        }
    }

    async fn upsert(&mut self, service: &Service) -> Result<(), LbError> {
        let key = key_of(service);
        if let Some(listed) = &mut self.listed {
            listed.insert(key.clone());
        }
        let Some(wanted) = Wanted::by(service, self.context.options.default_kind) else {
            if self.running.contains_key(&key) {
                self.forget(&key).await?;
                if service.metadata.deletion_timestamp.is_none() {
                    self.report(service, None).await?;
                }
            }
            return Ok(());
        };
        if self.running.get(&key).is_some_and(|running| running.wanted == wanted) {
            return Ok(());
        }
        let same_place =
            |running: &Running| running.wanted.kind == wanted.kind && running.wanted.families == wanted.families;
        let index = match self.running.get(&key) {
            Some(running) if same_place(running) => running.index,
            _ => {
                self.forget(&key).await?;
                self.free_index(wanted.kind)?
            }
        };
        let vips = wanted.vips(pair(wanted.kind, index));
        // The old worker first: a proxy's listeners must be gone before the new ones bind.
        self.running.remove(&key);
        let task = worker::run(key.clone(), wanted.clone(), vips.clone(), self.context.clone());
        let worker = tokio::spawn(task).abort_handle();
        self.report(service, Some((wanted.kind, &vips))).await?;
        self.running.insert(key, Running { wanted, index, vips, worker });
        Ok(())
    }

    async fn forget(&mut self, key: &str) -> Result<(), LbError> {
        let Some(running) = self.running.remove(key) else {
            return Ok(());
        };
        tracing::debug!("{key} gives back {:?}", running.vips);
        drop(running);
        let view = self.context.views.lock().remove(key);
        match view {
            Some(view) => worker::clean(view, &self.context).await,
            None => Ok(()),
        }
    }

    async fn end_of_list(&mut self) -> Result<(), LbError> {
        let listed = self.listed.take().unwrap_or_default();
        let gone: Vec<_> = self.running.keys().filter(|key| !listed.contains(*key)).cloned().collect();
        for key in gone {
            self.forget(&key).await?;
        }
        Ok(())
    }

    fn free_index(&self, kind: Kind) -> Result<u8, LbError> {
        let announced = |kind| kind == Kind::Announcer;
        let taken: BTreeSet<_> = self
            .running
            .values()
            .filter(|running| announced(running.wanted.kind) == announced(kind))
            .map(|running| running.index)
            .collect();
        (1..=50).find(|index| !taken.contains(index)).ok_or(LbError::Exhausted)
    }

    async fn report(&self, service: &Service, given: Option<(Kind, &Vec<IpAddr>)>) -> Result<(), LbError> {
        let ingress = given.map(|(kind, vips)| {
            vips.iter().map(|vip| serde_json::json!({"ip": vip, "ipMode": kind.ip_mode()})).collect::<Vec<_>>()
        });
        let patch = serde_json::json!({"status": {"loadBalancer": {"ingress": ingress}}});
        let api: Api<Service> = Api::namespaced(self.client.clone(), &service.namespace().unwrap_or_default());
        api.patch_status(&service.name_any(), &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(|source| LbError::Status { service: key_of(service), source: Box::new(source) })?;
        Ok(())
    }
}

/// Routed kinds share one pool; an announcer's address must lie in the nodes' own network.
fn pair(kind: Kind, index: u8) -> Dual {
    match kind {
        Kind::Forwarder | Kind::Proxy => plan::routed_vip(index),
        Kind::Announcer => plan::announced_vip(index),
    }
}

fn key_of(service: &Service) -> String {
    format!("{}/{}", service.namespace().unwrap_or_default(), service.name_any())
}
