//! Who is given what.

mod existing;
mod skips;
mod stanza;

use super::{Injection, OwnerFacts, SkipReason, decide_injection};
use crate::facts::ClusterFacts;
use crate::policies::PolicySet;
use crate::testing::{map, service, shop, strict};
use k8s_openapi::api::core::v1::{Pod, Service};
use portreeve_crds::policy::SpreadMechanism;
use serde_json::Value;

const LOCAL: &str = "{type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: web}}";

/// A Pod of Deployment `web` as it arrives at CREATE, with this spec.
pub(super) fn pod(spec: &str) -> Pod {
    let mut pod: Pod = serde_yaml::from_str(
        "metadata:
          generateName: web-6d4cf56db6-
          labels: {app: web, tier: front, pod-template-hash: 6d4cf56db6}
          ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-6d4cf56db6, uid: u, controller: true}]",
    )
    .unwrap();
    pod.spec = Some(serde_yaml::from_str(spec).unwrap());
    pod
}

pub(super) fn named(name: &str, spec: &str) -> Service {
    let mut service = service(spec);
    service.metadata.name = Some(name.to_owned());
    service
}

pub(super) fn inject() -> PolicySet {
    strict("spread: {mode: Inject}")
}

/// One question, about a Pod of one Service that is Local under a policy that says Inject, on three nodes.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) pod: Pod,
    pub(super) services: Vec<Service>,
    pub(super) set: PolicySet,
    pub(super) cluster: ClusterFacts,
    pub(super) facts: OwnerFacts,
}

impl Ask {
    pub(super) fn about(pod: Pod) -> Self {
        let services = vec![named("web", LOCAL)];
        let cluster = ClusterFacts { nodes: 3, zones: 1 };
        Self { pod, services, set: inject(), cluster, facts: OwnerFacts::default() }
    }

    pub(super) fn answer(&self) -> Injection {
        let services: Vec<&Service> = self.services.iter().collect();
        decide_injection(&self.pod, &services, &shop(), &self.set, self.cluster, &self.facts)
    }

    /// The Pod as it is stored; panics where it is left alone.
    pub(super) fn patched(&self) -> Value {
        let Injection::Patch { ops, .. } = self.answer() else { panic!("{:?}", self.answer()) };
        let mut pod = serde_json::to_value(&self.pod).unwrap();
        json_patch::patch(&mut pod, &ops).unwrap();
        pod
    }

    pub(super) fn skipped(&self) -> Option<SkipReason> {
        match self.answer() {
            Injection::Skip(reason) => Some(reason),
            Injection::Patch { .. } => None,
        }
    }
}

fn mechanism(ask: &Ask) -> SpreadMechanism {
    let Injection::Patch { mechanism, .. } = ask.answer() else { panic!("{:?}", ask.answer()) };
    mechanism
}

#[test]
fn a_pod_of_a_local_service_is_injected_and_the_answer_says_why() {
    let Injection::Patch { services, policy, mechanism, .. } = Ask::about(pod("{}")).answer() else {
        panic!("a patch is due");
    };
    assert_eq!((services, policy.to_string()), (vec!["web".to_owned()], "tp/shop/strict".to_owned()));
    assert_eq!(mechanism, SpreadMechanism::PodAntiAffinity);
}

#[test]
fn a_local_internal_policy_counts_as_well() {
    let mut ask = Ask::about(pod("{}"));
    ask.services = vec![named("web", "{internalTrafficPolicy: Local, selector: {app: web}}")];
    assert_eq!(ask.skipped(), None);
}

#[test]
fn auto_switches_above_300_nodes() {
    let mut ask = Ask::about(pod("{}"));
    ask.cluster.nodes = 300;
    assert_eq!(mechanism(&ask), SpreadMechanism::PodAntiAffinity);
    ask.cluster.nodes = 301;
    assert_eq!(mechanism(&ask), SpreadMechanism::TopologySpread);
}

#[test]
fn a_named_mechanism_holds_at_every_size() {
    let mut ask = Ask::about(pod("{}"));
    ask.set = strict("spread: {mode: Inject, mechanism: TopologySpread}");
    assert_eq!(mechanism(&ask), SpreadMechanism::TopologySpread);
    ask.set = strict("spread: {mode: Inject, mechanism: PodAntiAffinity}");
    ask.cluster.nodes = 5000;
    assert_eq!(mechanism(&ask), SpreadMechanism::PodAntiAffinity);
}

#[test]
fn services_join_by_name_one_term_a_selector_and_two_at_most() {
    let mut ask = Ask::about(pod("{}"));
    let with = |selector: &str| LOCAL.replace("{app: web}", selector);
    ask.services = vec![
        named("d", &with("{app: web, tier: front}")),
        named("c", &with("{tier: front}")),
        named("b", LOCAL),
        named("a", LOCAL),
    ];
    let Injection::Patch { services, .. } = ask.answer() else { panic!("a patch is due") };
    assert_eq!(services, ["a", "c"]);
    let affinity = &ask.patched()["spec"]["affinity"]["podAntiAffinity"];
    assert_eq!(affinity["preferredDuringSchedulingIgnoredDuringExecution"].as_array().unwrap().len(), 2);
}

#[test]
fn a_service_that_does_not_ask_leaves_its_place_to_one_that_does() {
    let mut ask = Ask::about(pod("{}"));
    ask.set = strict("match: {serviceSelector: {matchLabels: {spread: please}}}, spread: {mode: Inject}");
    let mut asking = named("b", LOCAL);
    asking.metadata.labels = Some(map(&[("spread", "please")]));
    ask.services = vec![named("a", LOCAL), asking];
    let Injection::Patch { services, .. } = ask.answer() else { panic!("a patch is due") };
    assert_eq!(services, ["b"]);
}

#[test]
fn every_reason_has_a_word_of_its_own() {
    let words: std::collections::BTreeSet<&str> = SkipReason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(words.len(), SkipReason::ALL.len());
    assert!(words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
}
