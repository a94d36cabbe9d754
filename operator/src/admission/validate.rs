//! Step 2, no client: reads the Secrets. Material that cannot be read counts as absent and is made anew.

use super::dereference::Dereferenced;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use k8s_openapi::api::core::v1::Secret;
use portreeve_crds::names;
use portreeve_runtime::tls::{Authority, Validity, issued_by};

/// On the serving Secret: the names that its certificate was made for.
pub(crate) const ANNOTATION_NAMES: &str = "portreeve.io/server-names";

/// What was read.
pub(crate) struct Validated<'a> {
    pub(crate) ca: Option<Ca>,
    pub(crate) tls: Option<Tls>,
    /// Versions of both Secrets, readable or not: they guard the writes.
    pub(crate) ca_version: Option<String>,
    pub(crate) tls_version: Option<String>,
    pub(crate) validating: Option<&'a ValidatingWebhookConfiguration>,
    pub(crate) mutating: Option<&'a MutatingWebhookConfiguration>,
    pub(crate) injects: bool,
}

/// The authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ca {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
    pub(crate) validity: Validity,
}

/// The serving certificate and what verifies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
    pub(crate) bundle: String,
    pub(crate) validity: Validity,
    /// Signed by the authority as it is now.
    pub(crate) by_current: bool,
    pub(crate) names: Vec<String>,
}

pub(crate) fn validate(found: Dereferenced<'_>) -> Validated<'_> {
    let Dereferenced { ca, tls, validating, mutating, injects } = found;
    let version = |secret: Option<&Secret>| secret.and_then(|secret| secret.metadata.resource_version.clone());
    let (ca_version, tls_version) = (version(ca), version(tls));
    let ca = ca.and_then(read_ca);
    let tls = tls.and_then(|secret| read_tls(secret, ca.as_ref()));
    Validated { ca, tls, ca_version, tls_version, validating, mutating, injects }
}

fn read_ca(secret: &Secret) -> Option<Ca> {
    let (cert_pem, key_pem) = (text(secret, names::KEY_CA_CERT)?, text(secret, names::KEY_CA_KEY)?);
    match Authority::from_pem(&cert_pem, &key_pem) {
        Ok(authority) => Some(Ca { validity: authority.validity(), cert_pem, key_pem }),
        Err(error) => {
            tracing::warn!(%error, "The authority's Secret could not be read; a new authority is made");
            None
        }
    }
}

fn read_tls(secret: &Secret, ca: Option<&Ca>) -> Option<Tls> {
    let (cert_pem, key_pem) = (text(secret, names::KEY_TLS_CERT)?, text(secret, names::KEY_TLS_KEY)?);
    let bundle = text(secret, names::KEY_CA_CERT)?;
    let validity = match Validity::of_pem(&cert_pem) {
        Ok(validity) => validity,
        Err(error) => {
            tracing::warn!(%error, "The serving Secret could not be read; a new certificate is made");
            return None;
        }
    };
    let by_current = ca.is_some_and(|ca| issued_by(&cert_pem, &ca.cert_pem).unwrap_or(false));
    let listed = secret.metadata.annotations.as_ref().and_then(|annotations| annotations.get(ANNOTATION_NAMES));
    let names = listed.map(|names| names.split(',').map(str::to_owned).collect()).unwrap_or_default();
    Some(Tls { cert_pem, key_pem, bundle, validity, by_current, names })
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    let bytes = secret.data.as_ref()?.get(key)?;
    String::from_utf8(bytes.0.clone()).ok().filter(|text| !text.is_empty())
}
