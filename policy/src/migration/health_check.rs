//! What becomes of `healthcheck-nodeport`.
//!
//! A health check node port exists only on a LoadBalancer Service with `Local`, and can be chosen only in the write that
//! turns it to `Local`. A number out of range or taken is refused with HTTP 500, and a server-side dry run does not
//! find that out: so a number is asked for only where nothing known speaks against it.

use super::PlanContext;
use super::decide::Verdict;
use crate::legacy::LegacyAnnotations;
use crate::subject::Subject;
use crate::text::clean;
use portreeve_crds::migration::Decision;
use portreeve_crds::policy::ServiceType;
use portreeve_crds::service_traffic::ExternalTrafficPolicy;

/// What is done with the number.
#[derive(Default)]
pub(super) struct HealthCheck {
    /// The number to ask for in the patch.
    pub(super) ask_for: Option<u16>,
    /// What the user should know.
    pub(super) note: Option<String>,
}

impl HealthCheck {
    fn note(text: String) -> Self {
        Self { ask_for: None, note: Some(text) }
    }
}

pub(super) fn decide(
    subject: Subject<'_>,
    legacy: &LegacyAnnotations,
    verdict: &Verdict,
    context: &PlanContext<'_>,
) -> HealthCheck {
    let Some(value) = legacy.health_check_port.as_ref().filter(|_| verdict.decision != Decision::Invalid) else {
        return HealthCheck::default();
    };
    let Some(port) = value.meaning else {
        let raw = clean(&value.raw);
        return HealthCheck::note(format!("{} says {raw:?}, which is no port; it is dropped", value.key));
    };
    let field = match (subject.kind(), verdict.field) {
        (Some(ServiceType::LoadBalancer), Some(field)) => field,
        (Some(ServiceType::NodePort), _) => {
            return HealthCheck::note(format!(
                "healthcheck-nodeport {port} is dropped: a NodePort Service has no health check node port"
            ));
        }
        _ => {
            return HealthCheck::note(format!(
                "healthcheck-nodeport {port} is dropped: only a LoadBalancer Service has a health check node port"
            ));
        }
    };
    match field {
        ExternalTrafficPolicy::Local => keep(subject, port),
        ExternalTrafficPolicy::Cluster if verdict.to_local() => ask(subject, port, context),
        ExternalTrafficPolicy::Cluster => HealthCheck::note(format!(
            "healthcheck-nodeport {port} is dropped: with Cluster no node answers health checks; a load balancer or \
             firewall rule that still names {port} waits in vain"
        )),
    }
}

/// The number is immutable while the Service stays `Local`.
fn keep(subject: Subject<'_>, port: u16) -> HealthCheck {
    let held = subject.spec().and_then(|spec| spec.health_check_node_port).filter(|held| *held != 0);
    match held {
        Some(held) if held == i32::from(port) => HealthCheck::default(),
        Some(held) => HealthCheck::note(format!(
            "health checks are answered on {held}, not on {port} as the annotation says; {held} stays, and a load \
             balancer or firewall rule may still name {port}"
        )),
        None => HealthCheck::note(format!(
            "the annotation says {port}, but spec.healthCheckNodePort is not set here; a load balancer or firewall \
             rule may still name {port}"
        )),
    }
}

fn ask(subject: Subject<'_>, port: u16, context: &PlanContext<'_>) -> HealthCheck {
    let range = &context.node_port_range;
    let refused = |why: String| {
        HealthCheck::note(format!(
            "healthcheck-nodeport {port} cannot be had: {why}; the API server will choose another number, and a load \
             balancer or firewall rule that names {port} must be changed"
        ))
    };
    if !range.contains(&port) {
        return refused(format!("it lies outside of the node port range {}-{}", range.start(), range.end()));
    }
    let ports = subject.spec().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    if ports.iter().any(|own| own.node_port == Some(i32::from(port))) {
        return refused("it is a node port of this Service".to_owned());
    }
    let metadata = &subject.service().metadata;
    let is_this = |(namespace, name): &&(String, String)| {
        metadata.namespace.as_ref() == Some(namespace) && metadata.name.as_ref() == Some(name)
    };
    match context.health_check_ports_in_use.get(&port).filter(|holder| !is_this(holder)) {
        Some((namespace, name)) => refused(format!("Service {}/{} holds it", clean(namespace), clean(name))),
        None => HealthCheck { ask_for: Some(port), note: None },
    }
}
