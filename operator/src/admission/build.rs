//! Step 3, no client: what is to be written next, and both webhook configurations as they should be.

use super::Endpoint;
use super::owner::Owner;
use super::plan::{Next, Step, plan};
use super::validate::{Ca, Tls, Validated};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, RuleWithOperations, ServiceReference,
    ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use portreeve_crds::names;
use std::time::Duration;

/// The API server waits this long for an answer, then goes on without one.
const TIMEOUT_SECONDS: i32 = 2;

/// One write, or when to look again.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// Make an authority; `version` is that of an unusable or ending one to replace.
    Authority { version: Option<String> },
    /// Publish the bundle with the certificate that is served now.
    Bundle { tls: Tls, bundle: String, version: Option<String> },
    /// Make a leaf.
    Leaf { ca: Ca, bundle: String, version: Option<String> },
    /// Look for the owner of the configurations.
    FindOwner,
    /// Write this configuration.
    Validating(Box<ValidatingWebhookConfiguration>),
    /// Write this configuration.
    Mutating(Box<MutatingWebhookConfiguration>),
    /// Everything is as it should be.
    Settled { next: Next, ca_expiry: i64, leaf_expiry: i64 },
}

pub(crate) fn build(
    validated: Validated<'_>,
    endpoint: &Endpoint,
    owner: Option<&Owner>,
    registered_for: Option<Duration>,
    now: Timestamp,
) -> Prepared {
    let Validated { ca, tls, ca_version, tls_version, validating, mutating, injects } = validated;
    let step = plan(ca.as_ref(), tls.as_ref(), &endpoint.names(), registered_for, now);
    match (step, ca, tls) {
        (Step::PublishBundle(bundle), _, Some(tls)) => Prepared::Bundle { tls, bundle, version: tls_version },
        (Step::IssueLeaf(bundle), Some(ca), _) => Prepared::Leaf { ca, bundle, version: tls_version },
        (Step::Register { bundle, next }, Some(ca), Some(tls)) => {
            let Some(owner) = owner else { return Prepared::FindOwner };
            let wanted = validating_configuration(endpoint, &bundle);
            if !validating.is_some_and(|live| live.webhooks == wanted.webhooks && owner.owns(&live.metadata)) {
                return Prepared::Validating(Box::new(guarded(wanted, validating.map(|live| &live.metadata))));
            }
            let wanted = mutating_configuration(endpoint, &bundle, injects);
            if !mutating.is_some_and(|live| live.webhooks == wanted.webhooks && owner.owns(&live.metadata)) {
                return Prepared::Mutating(Box::new(guarded(wanted, mutating.map(|live| &live.metadata))));
            }
            Prepared::Settled {
                next,
                ca_expiry: ca.validity.not_after.as_second(),
                leaf_expiry: tls.validity.not_after.as_second(),
            }
        }
        // The remaining pairs are those without an authority to go on with.
        (Step::MakeAuthority | Step::PublishBundle(_) | Step::IssueLeaf(_) | Step::Register { .. }, _, _) => {
            Prepared::Authority { version: ca_version }
        }
    }
}

/// `wanted` with what guards its write. Labels, annotations and owners that others put there stay.
fn guarded<K: kube::Resource>(mut wanted: K, live: Option<&ObjectMeta>) -> K {
    if let Some(live) = live {
        let metadata = wanted.meta_mut();
        metadata.resource_version.clone_from(&live.resource_version);
        metadata.annotations.clone_from(&live.annotations);
        metadata.owner_references.clone_from(&live.owner_references);
        let mut labels = live.labels.clone().unwrap_or_default();
        labels.extend(metadata.labels.take().unwrap_or_default());
        metadata.labels = Some(labels);
    }
    wanted
}

/// The validating configuration. Every field is written out, also those that the API server would fill in, so that the
/// stored object can be compared with this one.
#[must_use]
pub fn validating_configuration(endpoint: &Endpoint, bundle: &str) -> ValidatingWebhookConfiguration {
    let webhook = ValidatingWebhook {
        admission_review_versions: vec!["v1".to_owned()],
        client_config: client_config(endpoint, names::PATH_SERVICES_VALIDATE, bundle),
        failure_policy: Some("Ignore".to_owned()),
        match_conditions: Some(service_conditions()),
        match_policy: Some("Equivalent".to_owned()),
        name: names::WEBHOOK_SERVICES_VALIDATE.to_owned(),
        namespace_selector: Some(namespaces(endpoint)),
        object_selector: Some(LabelSelector::default()),
        rules: Some(vec![rule("services", &["CREATE", "UPDATE"])]),
        side_effects: "None".to_owned(),
        timeout_seconds: Some(TIMEOUT_SECONDS),
    };
    ValidatingWebhookConfiguration { metadata: metadata(), webhooks: Some(vec![webhook]) }
}

/// The mutating configuration. Pods are registered only while a policy injects: a webhook that is not called cannot be
/// in the way of a Pod.
#[must_use]
pub fn mutating_configuration(endpoint: &Endpoint, bundle: &str, injects: bool) -> MutatingWebhookConfiguration {
    let webhook = |name: &str, path, rule, conditions, objects| MutatingWebhook {
        admission_review_versions: vec!["v1".to_owned()],
        client_config: client_config(endpoint, path, bundle),
        failure_policy: Some("Ignore".to_owned()),
        match_conditions: Some(conditions),
        match_policy: Some("Equivalent".to_owned()),
        name: name.to_owned(),
        namespace_selector: Some(namespaces(endpoint)),
        object_selector: Some(objects),
        reinvocation_policy: Some("IfNeeded".to_owned()),
        rules: Some(vec![rule]),
        side_effects: "None".to_owned(),
        timeout_seconds: Some(TIMEOUT_SECONDS),
    };
    let mut webhooks = vec![webhook(
        names::WEBHOOK_SERVICES_MUTATE,
        names::PATH_SERVICES_MUTATE,
        rule("services", &["CREATE", "UPDATE"]),
        service_conditions(),
        LabelSelector::default(),
    )];
    if injects {
        webhooks.push(webhook(
            names::WEBHOOK_PODS_MUTATE,
            names::PATH_PODS_MUTATE,
            rule("pods", &["CREATE"]),
            pod_conditions(),
            selector(vec![not_in(names::LABEL_IGNORE, &["true"])]),
        ));
    }
    MutatingWebhookConfiguration { metadata: metadata(), webhooks: Some(webhooks) }
}

fn metadata() -> ObjectMeta {
    let labels = [("app.kubernetes.io/part-of", "portreeve"), ("app.kubernetes.io/managed-by", names::OPERATOR)];
    ObjectMeta {
        name: Some(names::WEBHOOK_CONFIGURATION.to_owned()),
        labels: Some(labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()),
        ..ObjectMeta::default()
    }
}

fn client_config(endpoint: &Endpoint, path: &str, bundle: &str) -> WebhookClientConfig {
    let service = ServiceReference {
        name: endpoint.service.clone(),
        namespace: endpoint.namespace.clone(),
        path: Some(path.to_owned()),
        port: Some(443),
    };
    WebhookClientConfig {
        ca_bundle: Some(ByteString(bundle.as_bytes().to_vec())),
        service: endpoint.url.is_none().then_some(service),
        url: endpoint.url.as_ref().map(|url| format!("{}{path}", url.trim_end_matches('/'))),
    }
}

fn rule(resource: &str, operations: &[&str]) -> RuleWithOperations {
    RuleWithOperations {
        api_groups: Some(vec![String::new()]),
        api_versions: Some(vec!["v1".to_owned()]),
        operations: Some(operations.iter().map(|&operation| operation.to_owned()).collect()),
        resources: Some(vec![resource.to_owned()]),
        scope: Some("Namespaced".to_owned()),
    }
}

/// Namespaces whose objects the webhook sees. The system's own and ours are left out, so that a broken webhook can never
/// keep itself or the control plane from being mended; a namespace labelled to be ignored is not even asked about.
fn namespaces(endpoint: &Endpoint) -> LabelSelector {
    let mut system = vec!["kube-node-lease", "kube-system"];
    system.insert(0, &endpoint.namespace);
    selector(vec![not_in("kubernetes.io/metadata.name", &system), not_in(names::LABEL_IGNORE, &["true"])])
}

fn selector(expressions: Vec<LabelSelectorRequirement>) -> LabelSelector {
    LabelSelector { match_expressions: Some(expressions), match_labels: None }
}

fn not_in(key: &str, values: &[&str]) -> LabelSelectorRequirement {
    LabelSelectorRequirement {
        key: key.to_owned(),
        operator: "NotIn".to_owned(),
        values: Some(values.iter().map(|&value| value.to_owned()).collect()),
    }
}

/// CEL: an update that changes neither spec nor labels nor annotations cannot change what the rules find; the API server
/// itself and the controller manager write no Services for users.
fn service_conditions() -> Vec<MatchCondition> {
    let same = |field: &str| {
        format!(
            "(has(object.metadata.{field}) ? object.metadata.{field} : {{}}) == \
             (has(oldObject.metadata.{field}) ? oldObject.metadata.{field} : {{}})"
        )
    };
    let changed = format!(
        "request.operation != 'UPDATE' || !(object.spec == oldObject.spec && {} && {})",
        same("annotations"),
        same("labels")
    );
    let user = "!(request.userInfo.username in ['system:apiserver', 'system:kube-controller-manager'])";
    vec![condition("something-changed", &changed), condition("not-the-control-plane", user)]
}

/// CEL: Pods that share the node's network, and mirrors of static Pods, are never spread.
fn pod_conditions() -> Vec<MatchCondition> {
    let host = "!has(object.spec.hostNetwork) || !object.spec.hostNetwork";
    let mirror = "!has(object.metadata.annotations) || !('kubernetes.io/config.mirror' in object.metadata.annotations)";
    vec![condition("own-network", host), condition("not-a-mirror", mirror)]
}

fn condition(name: &str, expression: &str) -> MatchCondition {
    MatchCondition { name: name.to_owned(), expression: expression.to_owned() }
}
