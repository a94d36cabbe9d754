//! What a scenario has at hand: its Services, its callers, and a way to say what it expects.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::future::LocalBoxFuture;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use portreeve_e2e::fabric::plan::{Dual, node};
use portreeve_e2e::http::{self, Target};
use serde_json::{Value, json};

use super::force::Variant;
use super::plan::{self, Front};
use super::probe::{Caller, Transport};
use super::report::Report;
use super::seen::{Expected, Seen};
use super::world::World;

/// The API, the controllers, the agents and kube-proxy together, on a busy machine.
pub(crate) const WITHIN: Duration = Duration::from_secs(25);
/// After something went wrong nothing else is waited for as long.
const AFTER_A_FAULT: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(50);
/// kube-proxy's answer to "how many endpoints has this node?" (package `pkg/proxy/healthcheck`).
const WEIGHT_HEADER: &str = "X-Load-Balancing-Endpoint-Weight";

/// One scenario: the objects it needs, and what it does with them.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) objects: fn(Numbers) -> Vec<Value>,
    pub(crate) play: for<'a> fn(&'a Scene<'a>) -> LocalBoxFuture<'a, Result<()>>,
}

/// Numbers of Services, apart from those of other variants.
#[derive(Clone, Copy)]
pub(crate) struct Numbers(pub(crate) u8);

impl Numbers {
    /// The number of a scenario's Service that has this number among all scenarios.
    pub(crate) fn of(self, number: u8) -> u8 {
        self.0 + number
    }

    /// External addresses of such a Service.
    pub(crate) fn external(self, number: u8) -> Value {
        let all = plan::NODES.into_iter().flat_map(|index| plan::external(index, self.of(number)).both());
        json!(all.collect::<Vec<IpAddr>>())
    }
}

/// A Service as the API server made it.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) number: u8,
    cluster: Dual,
    /// Ports of the Service by name: port and node port.
    pub(crate) ports: BTreeMap<String, (u16, u16)>,
    pub(crate) health: u16,
}

impl Placed {
    fn port(&self, name: &str) -> (u16, u16) {
        *self.ports.get(name).unwrap_or_else(|| panic!("no port {name} among {:?}", self.ports))
    }

    /// The node port of this Service port at this node.
    pub(crate) fn node_port_named(&self, index: u8, port: &str) -> Front {
        Front { host: node(index), port: self.port(port).1 }
    }

    /// The load balancer address that comes to this node.
    pub(crate) fn lb_named(&self, index: u8, port: &str) -> Front {
        Front { host: plan::load_balancer(index, self.number), port: self.port(port).0 }
    }

    pub(crate) fn node_port(&self, index: u8, transport: Transport) -> Front {
        self.node_port_named(index, transport.name())
    }

    pub(crate) fn lb(&self, index: u8, transport: Transport) -> Front {
        self.lb_named(index, transport.name())
    }

    /// The external address that comes to this node.
    pub(crate) fn external(&self, index: u8, transport: Transport) -> Front {
        Front { host: plan::external(index, self.number), port: self.port(transport.name()).0 }
    }

    pub(crate) fn cluster_ip(&self, transport: Transport) -> Front {
        Front { host: self.cluster, port: self.port(transport.name()).0 }
    }
}

/// A scenario at work.
pub(crate) struct Scene<'a> {
    pub(crate) world: &'a World,
    pub(crate) variant: Variant,
    pub(crate) name: &'static str,
    pub(crate) report: &'a Report,
    faulty: AtomicBool,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(world: &'a World, variant: Variant, name: &'static str, report: &'a Report) -> Self {
        Self { world, variant, name, report, faulty: AtomicBool::new(false) }
    }

    /// Whether the agents decide; else kube-proxy alone does.
    pub(crate) fn claimed(&self) -> bool {
        self.variant.is_ahead(self.world.mode)
    }

    pub(crate) fn outside(&self) -> Caller {
        self.world.outside(0)
    }

    pub(crate) async fn pod(&self, name: &str) -> Result<Caller> {
        self.world.pod(self.variant.namespace(), name).await
    }

    /// A round of new flows from `caller` to each family of `front` has this outcome, now or soon; records it.
    pub(crate) async fn meets(
        &self,
        step: &str,
        caller: &Caller,
        transport: Transport,
        front: Front,
        expected: impl Into<Expected>,
    ) -> Result<()> {
        let (seen, wanted) = self.look(caller, transport, front, expected.into()).await?;
        self.record(step, &seen, &wanted);
        Ok(())
    }

    /// The same without recording it: what was seen at last, and what should have been.
    pub(crate) async fn look(
        &self,
        caller: &Caller,
        transport: Transport,
        front: Front,
        expected: Expected,
    ) -> Result<(String, String)> {
        let Expected([four, six]) = expected;
        let [to4, to6] = front.both();
        let (seen4, seen6) = futures::future::try_join(
            self.meets_at(caller, transport, to4, &four),
            self.meets_at(caller, transport, to6, &six),
        )
        .await?;
        Ok((pair(&seen4, &seen6), pair(&four, &six)))
    }

    async fn meets_at(&self, caller: &Caller, transport: Transport, to: SocketAddr, wanted: &Seen) -> Result<Seen> {
        self.settles(async || caller.round(transport, to, wanted.is_silence()).await, |seen| seen == wanted).await
    }

    /// Looks until it is as wanted; what was seen last if it never is.
    pub(crate) async fn settles<T>(
        &self,
        mut look: impl AsyncFnMut() -> Result<T>,
        is_so: impl Fn(&T) -> bool,
    ) -> Result<T> {
        let within = if self.faulty.load(Ordering::Relaxed) { AFTER_A_FAULT } else { WITHIN };
        let deadline = Instant::now() + within;
        loop {
            let seen = look().await?;
            if is_so(&seen) || Instant::now() > deadline {
                return Ok(seen);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// The health check node port of `placed` at this node answers so, on both families: status and weight, or nothing. Where
    /// it is the agent that answers it says more than kube-proxy does; over iptables it leaves that to kube-proxy.
    pub(crate) async fn health(
        &self,
        step: &str,
        placed: &Placed,
        index: u8,
        wanted: Option<(u16, u16)>,
    ) -> Result<()> {
        let front = Front { host: node(index), port: placed.health };
        let by_agent = self.claimed() && self.variant == Variant::Nftables;
        let wanted = wanted.map_or_else(
            || "refused".to_owned(),
            |(status, weight)| health(status, &weight.to_string(), weight.into(), by_agent),
        );
        let mut seen = Vec::new();
        for to in front.both() {
            let look = async || {
                let caller = self.outside();
                let asked = caller.inside(move |netns| {
                    netns.block_on(move || async move {
                        http::get(&Target::new(to, "/healthz"), Duration::from_secs(2)).await
                    })
                });
                let outcome = asked.await?;
                let weight = outcome.header(WEIGHT_HEADER).unwrap_or_default();
                Ok(match (outcome.status, outcome.error) {
                    (Some(status), _) => {
                        let body: Value = serde_json::from_str(&outcome.body).unwrap_or_default();
                        let endpoints = body["localEndpoints"].as_u64().unwrap_or(u64::MAX);
                        health(status, weight, endpoints, body.get("programmed").is_some())
                    }
                    (None, Some(http::HttpFailure::Refused)) => "refused".to_owned(),
                    (None, why) => format!("{why:?}"),
                })
            };
            seen.push(self.settles(look, |seen| *seen == wanted).await?);
        }
        self.record(step, &pair(&seen[0], &seen[1]), &wanted);
        Ok(())
    }

    /// Records what was seen and what should have been.
    pub(crate) fn record(&self, step: &str, seen: &str, wanted: &str) {
        if seen != wanted {
            self.faulty.store(true, Ordering::Relaxed);
        }
        self.report.record(self.variant.title(), self.name, step, seen, wanted);
    }

    /// A Service of this variant.
    pub(crate) async fn placed(&self, name: &str) -> Result<Placed> {
        placed(&self.services().get(name).await?)
    }

    pub(crate) fn services(&self) -> Api<Service> {
        Api::namespaced(self.world.client.clone(), self.variant.namespace())
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.world.client.clone(), self.variant.namespace())
    }

    /// Asks for the end of a Pod; returns at once.
    pub(crate) async fn end(&self, pod: &str) -> Result<()> {
        self.pods().delete(pod, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Takes a Pod away without asking it.
    pub(crate) async fn kill(&self, pod: &str) -> Result<()> {
        self.pods().delete(pod, &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }

    /// Makes more objects.
    pub(crate) async fn make(&self, name: &str, objects: Vec<Value>) -> Result<()> {
        self.world.apply(self.variant.namespace(), name, objects).await
    }

    /// Changes a Service's spec; the Service as it is then.
    pub(crate) async fn patch(&self, service: &str, spec: Value) -> Result<Placed> {
        let patch = Patch::Merge(json!({"spec": spec}));
        placed(&self.services().patch(service, &PatchParams::default(), &patch).await?)
    }
}

/// A health check's answer in words: its status, what its header and its body say of endpoints, and who gave it.
fn health(status: u16, weight: &str, endpoints: u64, by_agent: bool) -> String {
    let who = if by_agent { "the agent" } else { "kube-proxy" };
    format!("{status}, weight {weight}, {endpoints} here, by {who}")
}

/// What the cloud would write: one address per node and family.
pub(crate) fn ingress(number: u8, ip_mode: &str) -> Value {
    let all = plan::NODES.into_iter().flat_map(|index| plan::load_balancer(index, number).both());
    let all: Vec<Value> = all.map(|ip| json!({"ip": ip, "ipMode": ip_mode})).collect();
    json!({"status": {"loadBalancer": {"ingress": all}}})
}

/// Reads a Service that this test made.
pub(crate) fn placed(service: &Service) -> Result<Placed> {
    let number = service.metadata.labels.as_ref().and_then(|labels| labels.get(super::objects::NUMBER));
    let spec = service.spec.as_ref().context("a Service has a spec")?;
    let mut cluster = node(0);
    for ip in spec.cluster_ips.iter().flatten() {
        match ip.parse()? {
            IpAddr::V4(v4) => cluster.v4 = v4,
            IpAddr::V6(v6) => cluster.v6 = v6,
        }
    }
    let mut ports = BTreeMap::new();
    for port in spec.ports.iter().flatten() {
        let both = (u16::try_from(port.port)?, u16::try_from(port.node_port.unwrap_or(0))?);
        ports.insert(port.name.clone().unwrap_or_default(), both);
    }
    Ok(Placed {
        number: number.context("no number")?.parse()?,
        cluster,
        ports,
        health: u16::try_from(spec.health_check_node_port.unwrap_or(0))?,
    })
}

/// What was seen on IPv4 and IPv6, once if it is the same.
pub(crate) fn pair(four: &impl ToString, six: &impl ToString) -> String {
    let (four, six) = (four.to_string(), six.to_string());
    if four == six { four } else { format!("IPv4 {four}; IPv6 {six}") }
}
