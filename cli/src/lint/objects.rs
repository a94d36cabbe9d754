//! From documents to findings: sorts objects by what the engine needs, fills in what the API server would, asks the engine.

use crate::source::{Document, Place};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use portreeve_crds::{ClusterTrafficPolicy, TrafficPolicy};
use portreeve_policy::{
    ClusterFacts, EndpointFacts, Finding, NamespaceFacts, Operation, Phase, PolicySet, Review, evaluate,
};
use std::collections::BTreeMap;

/// The label that says which Service a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A finding and where it is.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The engine's words.
    pub finding: Finding,
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub name: String,
    /// The manifest, if it came from a file.
    pub document: Option<Document>,
    /// Where in it.
    pub place: Option<Place>,
}

/// What came out.
#[derive(Debug)]
pub struct Judgement {
    /// Findings.
    pub judged: Vec<Judged>,
    /// Policies and rules that could not be evaluated, each a sentence: no silence is a clean bill.
    pub problems: Vec<String>,
}

/// One Service to judge.
struct Subject {
    service: Service,
    document: Option<Document>,
}

/// Everything that a judgement needs.
#[derive(Default)]
pub struct Workspace {
    subjects: Vec<Subject>,
    /// By namespace and Service.
    slices: BTreeMap<(String, String), Vec<EndpointSlice>>,
    namespaces: BTreeMap<String, NamespaceFacts>,
    cluster_policies: Vec<ClusterTrafficPolicy>,
    policies: Vec<TrafficPolicy>,
    nodes: ClusterFacts,
}

impl Workspace {
    /// Sorts `documents`; kinds that lint does not know are passed over, as they are none of its business.
    ///
    /// # Errors
    /// A sentence that names the object if one does not have its kind's shape.
    pub fn from_documents(documents: &[Document], namespace: Option<&str>) -> Result<Self, String> {
        let mut workspace = Self::default();
        for document in documents {
            let namespace = document.namespace(namespace);
            match (document.api_version(), document.kind()) {
                ("v1", "Service") => {
                    let mut service: Service = document.typed()?;
                    service.metadata.namespace = Some(namespace.to_owned());
                    as_the_api_server_reads(&mut service);
                    workspace.subjects.push(Subject { service, document: Some(document.clone()) });
                }
                ("discovery.k8s.io/v1", "EndpointSlice") => {
                    let mut slice: EndpointSlice = document.typed()?;
                    slice.metadata.namespace = Some(namespace.to_owned());
                    workspace.add_slice(slice);
                }
                ("v1", "Namespace") => workspace.add_namespace(&document.typed()?),
                (_, "ClusterTrafficPolicy") if document.is_ours() => workspace.cluster_policies.push(document.typed()?),
                (_, "TrafficPolicy") if document.is_ours() => {
                    let mut policy: TrafficPolicy = document.typed()?;
                    policy.metadata.namespace = Some(namespace.to_owned());
                    workspace.policies.push(policy);
                }
                _ => {}
            }
        }
        Ok(workspace)
    }

    /// Number of Services to judge.
    #[must_use]
    pub fn services(&self) -> usize {
        self.subjects.len()
    }

    pub(super) fn add_namespace(&mut self, namespace: &Namespace) {
        let facts = NamespaceFacts::from(namespace);
        self.namespaces.entry(facts.name.clone()).or_insert(facts);
    }

    pub(super) fn add_policies(&mut self, cluster: Vec<ClusterTrafficPolicy>, namespaced: Vec<TrafficPolicy>) {
        // A policy of the same name in the files is the newer version of the cluster's: it wins.
        let known: Vec<_> = self.cluster_policies.iter().map(|policy| policy.metadata.name.clone()).collect();
        self.cluster_policies.extend(cluster.into_iter().filter(|policy| !known.contains(&policy.metadata.name)));
        let key = |policy: &TrafficPolicy| (policy.metadata.namespace.clone(), policy.metadata.name.clone());
        let known: Vec<_> = self.policies.iter().map(key).collect();
        self.policies.extend(namespaced.into_iter().filter(|policy| !known.contains(&key(policy))));
    }

    pub(super) fn add_live_service(&mut self, service: Service) {
        self.subjects.push(Subject { service, document: None });
    }

    /// Adds a slice; one that names no Service belongs to none.
    pub(super) fn add_slice(&mut self, slice: EndpointSlice) {
        let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME)).cloned();
        if let Some(service) = service {
            let namespace = slice.metadata.namespace.clone().unwrap_or_default();
            self.slices.entry((namespace, service)).or_default().push(slice);
        }
    }

    /// Endpoints of a Service. Of a live one without slices it is known that there are none; what files do not tell is
    /// unknown.
    fn endpoints(&self, subject: &Subject, namespace: &str, name: &str) -> Option<EndpointFacts> {
        let slices = self.slices.get(&(namespace.to_owned(), name.to_owned()));
        match &subject.document {
            Some(_) => slices.map(EndpointFacts::from_slices),
            None => Some(EndpointFacts::from_slices(slices.into_iter().flatten())),
        }
    }

    pub(super) const fn set_nodes(&mut self, nodes: ClusterFacts) {
        self.nodes = nodes;
    }

    /// Every finding, in the order of the Services, strictest first within one; and what could not be judged.
    #[must_use]
    pub fn judge(&self) -> Judgement {
        let compiled = PolicySet::compile(&self.cluster_policies, &self.policies);
        let problems = compiled.problems.iter().map(ToString::to_string).collect();
        let mut judgement = Judgement { judged: Vec::new(), problems };
        for subject in &self.subjects {
            self.judge_one(&compiled.set, subject, &mut judgement);
        }
        judgement
    }

    fn judge_one(&self, set: &PolicySet, subject: &Subject, into: &mut Judgement) {
        let metadata = &subject.service.metadata;
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let name = metadata.name.clone().or_else(|| metadata.generate_name.clone()).unwrap_or_default();
        let known = self.namespaces.get(&namespace).cloned();
        let facts = known.unwrap_or_else(|| NamespaceFacts::new(namespace.clone(), BTreeMap::new()));
        let endpoints = self.endpoints(subject, &namespace, &name);
        let outcome = evaluate(
            set,
            &Review {
                operation: Operation::Create,
                phase: Phase::Scan,
                namespace: &facts,
                service: &subject.service,
                old: None,
                endpoints: endpoints.as_ref(),
                cluster: self.nodes,
            },
        );
        into.problems.extend(outcome.errors.iter().map(|error| format!("Service {namespace}/{name}: {error}")));
        let mut findings = outcome.findings;
        findings.sort_by(|a, b| (b.action, a.rule, &a.field).cmp(&(a.action, b.rule, &b.field)));
        into.judged.extend(findings.into_iter().map(|finding| {
            let place = subject.document.as_ref().map(|document| {
                document.places.find(&pointer(&finding.field)).unwrap_or_else(|| document.places.start())
            });
            let (namespace, name, document) = (namespace.clone(), name.clone(), subject.document.clone());
            Judged { finding, namespace, name, document, place }
        }));
    }
}

/// Adds what the API server adds before admission sees the object: a type, and `Cluster` where the field may be set and
/// was not (pkg/apis/core/v1/defaults.go).
fn as_the_api_server_reads(service: &mut Service) {
    let spec = service.spec.get_or_insert_default();
    let kind = spec.type_.get_or_insert_with(|| "ClusterIP".to_owned()).clone();
    let has_external_ips = spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty());
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") || (kind == "ClusterIP" && has_external_ips) {
        spec.external_traffic_policy.get_or_insert_with(|| "Cluster".to_owned());
    }
}

/// JSON Pointer of a field path such as `metadata.annotations[a.b/c]` or `spec.externalIPs[0]`.
fn pointer(field: &str) -> String {
    let mut pointer = String::new();
    let mut rest = field;
    while !rest.is_empty() {
        let segment = if let Some(inside) = rest.strip_prefix('[') {
            let (segment, after) = inside.split_once(']').unwrap_or((inside, ""));
            rest = after.strip_prefix('.').unwrap_or(after);
            segment
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (segment, after) = rest.split_at(end);
            rest = after.strip_prefix('.').unwrap_or(after);
            segment
        };
        pointer.push('/');
        pointer.push_str(&segment.trim_matches('"').replace('~', "~0").replace('/', "~1"));
    }
    pointer
}

#[cfg(test)]
mod tests {
    use super::pointer;

    #[test]
    fn field_paths_become_pointers() {
        assert_eq!(pointer("spec.externalTrafficPolicy"), "/spec/externalTrafficPolicy");
        assert_eq!(pointer("metadata.annotations[a.b/c~d]"), "/metadata/annotations/a.b~1c~0d");
        assert_eq!(pointer("spec.externalIPs[0]"), "/spec/externalIPs/0");
        assert_eq!(pointer("spec.ports[1].nodePort"), "/spec/ports/1/nodePort");
    }
}
