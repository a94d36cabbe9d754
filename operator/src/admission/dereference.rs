//! Step 1, no client: Secrets, registrations and whether any policy injects.

use crate::index::Index;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use portreeve_crds::policy::{Spread, SpreadMode};
use portreeve_crds::{Mode, names};

/// What is there.
pub(crate) struct Dereferenced<'a> {
    pub(crate) ca: Option<&'a Secret>,
    pub(crate) tls: Option<&'a Secret>,
    pub(crate) validating: Option<&'a ValidatingWebhookConfiguration>,
    pub(crate) mutating: Option<&'a MutatingWebhookConfiguration>,
    /// Some policy spreads Pods: only then are Pods sent to the webhook at all.
    pub(crate) injects: bool,
}

pub(crate) fn dereference(index: &Index) -> Dereferenced<'_> {
    let configuration = names::WEBHOOK_CONFIGURATION.to_owned();
    Dereferenced {
        ca: index.ca_secret.get(&names::SECRET_CA.to_owned()),
        tls: index.tls_secret.get(&names::SECRET_TLS.to_owned()),
        validating: index.validating.get(&configuration),
        mutating: index.mutating.get(&configuration),
        injects: injects(index),
    }
}

/// The bundle by which API servers verify the webhook, once both configurations carry the one that is published.
pub(crate) fn registered_bundle(index: &Index) -> Option<Vec<u8>> {
    let found = dereference(index);
    let published = &found.tls?.data.as_ref()?.get(names::KEY_CA_CERT)?.0;
    let of = |config: &k8s_openapi::api::admissionregistration::v1::WebhookClientConfig| {
        config.ca_bundle.as_ref().is_some_and(|bundle| &bundle.0 == published)
    };
    let validating = found.validating?.webhooks.iter().flatten().all(|webhook| of(&webhook.client_config));
    let mutating = found.mutating?.webhooks.iter().flatten().all(|webhook| of(&webhook.client_config));
    (validating && mutating).then(|| published.clone())
}

fn injects(index: &Index) -> bool {
    let says = |mode: Mode, spread: Option<&Spread>| {
        mode == Mode::Enforce && spread.is_some_and(|spread| spread.mode == SpreadMode::Inject)
    };
    index.cluster_policies.values().any(|policy| {
        let body = policy.spec.overrides.as_ref().or(policy.spec.defaults.as_ref());
        says(policy.spec.enforcement.mode, body.and_then(|body| body.spread.as_ref()))
    }) || index.policies.values().any(|policy| says(policy.spec.enforcement.mode, policy.spec.spread.as_ref()))
}
