//! Builders for the unit tests of this room: objects from the YAML a user would write.

use crate::evaluate::{Operation, Outcome, Phase, Review, evaluate};
use crate::facts::{ClusterFacts, EndpointFacts, NamespaceFacts};
use crate::policies::PolicySet;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use portreeve_crds::{ClusterTrafficPolicy, RuleId, TrafficPolicy};
use std::collections::BTreeMap;

/// Service `shop/web` with this spec.
pub(crate) fn service(spec: &str) -> Service {
    let mut service = Service { spec: Some(serde_yaml::from_str(spec).unwrap()), ..Service::default() };
    service.metadata.namespace = Some("shop".to_owned());
    service.metadata.name = Some("web".to_owned());
    service.metadata.uid = Some("5ad9c5f8-7c3e-4a47-9f8e-0c4c0c1f6f3d".to_owned());
    service
}

/// Service `shop/web` with this spec and these annotations.
pub(crate) fn annotated(spec: &str, annotations: &[(&str, &str)]) -> Service {
    let mut service = service(spec);
    service.metadata.annotations = Some(map(annotations));
    service
}

pub(crate) fn labelled(mut service: Service, labels: &[(&str, &str)]) -> Service {
    service.metadata.labels = Some(map(labels));
    service
}

pub(crate) fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

pub(crate) fn shop() -> NamespaceFacts {
    NamespaceFacts { name: "shop".to_owned(), labels: map(&[("team", "blue")]) }
}

pub(crate) fn cluster_policy(name: &str, spec: &str) -> ClusterTrafficPolicy {
    ClusterTrafficPolicy::new(name, serde_yaml::from_str(spec).unwrap())
}

pub(crate) fn namespaced_policy(namespace: &str, name: &str, spec: &str) -> TrafficPolicy {
    let mut policy = TrafficPolicy::new(name, serde_yaml::from_str(spec).unwrap());
    policy.metadata.namespace = Some(namespace.to_owned());
    policy
}

pub(crate) fn created(policy: &mut ClusterTrafficPolicy, time: &str) {
    policy.metadata.creation_timestamp = Some(Time(time.parse().unwrap()));
}

/// The set of one namespaced policy `tp/shop/strict` with mode Enforce and this body.
pub(crate) fn strict(body: &str) -> PolicySet {
    let policy = namespaced_policy("shop", "strict", &format!("{{enforcement: {{mode: Enforce}}, {body}}}"));
    PolicySet::compile(&[], &[policy]).set
}

/// The set in which `tp/shop/strict` gives `rule` this action.
pub(crate) fn with_action(rule: RuleId, action: &str) -> PolicySet {
    strict(&format!("rules: [{{id: {rule}, action: {action}}}]"))
}

pub(crate) fn ready(nodes: &[(&str, u32)]) -> EndpointFacts {
    let ready_by_node = nodes.iter().map(|(node, count)| ((*node).to_owned(), *count)).collect();
    EndpointFacts { ready_by_node, serving_terminating_by_node: BTreeMap::new() }
}

/// One question to the engine, in namespace `shop` of a cluster with three nodes.
pub(crate) struct Ask<'a> {
    pub(crate) set: &'a PolicySet,
    pub(crate) phase: Phase,
    pub(crate) service: &'a Service,
    pub(crate) old: Option<&'a Service>,
    pub(crate) endpoints: Option<&'a EndpointFacts>,
}

impl<'a> Ask<'a> {
    pub(crate) fn scan(set: &'a PolicySet, service: &'a Service) -> Self {
        Self { set, phase: Phase::Scan, service, old: None, endpoints: None }
    }

    pub(crate) fn create(set: &'a PolicySet, phase: Phase, service: &'a Service) -> Self {
        Self { phase, ..Self::scan(set, service) }
    }

    pub(crate) fn update(set: &'a PolicySet, phase: Phase, old: &'a Service, service: &'a Service) -> Self {
        Self { phase, old: Some(old), ..Self::scan(set, service) }
    }

    pub(crate) fn with(self, endpoints: &'a EndpointFacts) -> Self {
        Self { endpoints: Some(endpoints), ..self }
    }

    pub(crate) fn answer(self) -> Outcome {
        let operation = if self.old.is_some() { Operation::Update } else { Operation::Create };
        let Self { set, phase, service, old, endpoints } = self;
        let (namespace, cluster) = (shop(), ClusterFacts { nodes: 3, zones: 1 });
        evaluate(set, &Review { operation, phase, namespace: &namespace, service, old, endpoints, cluster })
    }

    /// The fields that `rule` finds something on.
    pub(crate) fn fields_of(self, rule: RuleId) -> Vec<String> {
        let findings = self.answer().findings.into_iter();
        findings.filter(|finding| finding.rule == rule).map(|finding| finding.field).collect()
    }
}
