//! Step 4, client required: makes key material and performs the one write that was prepared.

use super::Endpoint;
use super::build::Prepared;
use super::owner::{self, Owner, OwnerError};
use super::plan::Next;
use super::validate::ANNOTATION_NAMES;
use crate::index::{Delta, Event};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::core::ClusterResourceScope;
use kube::{Api, Client, Resource};
use portreeve_crds::names;
use portreeve_runtime::tls::{Authority, TlsError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::Debug;
use thiserror::Error;

/// Why a step failed.
#[derive(Debug, Error)]
pub(crate) enum ApplyError {
    #[error("cannot make a certificate: {0}")]
    Make(#[from] TlsError),
    #[error("cannot name an owner of the webhook configurations: {0}")]
    Owner(#[from] OwnerError),
    #[error("cannot write {what}: {source}")]
    Write {
        what: &'static str,
        #[source]
        source: kube::Error,
    },
}

impl ApplyError {
    /// The API server's answer, if it was asked.
    pub(crate) const fn cause(&self) -> Option<&kube::Error> {
        match self {
            Self::Make(_) => None,
            Self::Owner(error) => error.cause(),
            Self::Write { source, .. } => Some(source),
        }
    }
}

/// What was done.
pub(crate) enum Applied {
    /// This was written; look again at once.
    Written { what: Written, event: Box<Event> },
    /// A configuration was written for this owner; look again at once.
    Registered { owner: Owner, event: Box<Event> },
    /// This is the owner of the configurations; look again at once.
    Owner(Owner),
    /// Nothing was left to do.
    Settled { next: Next, ca_expiry: i64, leaf_expiry: i64 },
}

/// Kinds of writes, for log lines and Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Authority,
    Bundle,
    Leaf,
}

pub(crate) async fn apply(
    client: &Client,
    endpoint: &Endpoint,
    prepared: Prepared,
    owner: Option<&Owner>,
    now: Timestamp,
) -> Result<Applied, ApplyError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &endpoint.namespace);
    let (what, event) = match prepared {
        Prepared::Settled { next, ca_expiry, leaf_expiry } => {
            return Ok(Applied::Settled { next, ca_expiry, leaf_expiry });
        }
        Prepared::FindOwner => return Ok(Applied::Owner(owner::find(client, owner).await?)),
        Prepared::Authority { version } => {
            let authority = Authority::generate("portreeve-webhook-ca", endpoint.ca_life, now)?;
            let data = [(names::KEY_CA_CERT, authority.cert_pem()), (names::KEY_CA_KEY, authority.key_pem())];
            let secret = secret(names::SECRET_CA, version, "Opaque", &data, &[]);
            let written = write(&secrets, names::SECRET_CA, &secret, "the authority's Secret").await?;
            (Written::Authority, Event::CaSecret(Delta::Applied(written)))
        }
        Prepared::Bundle { tls, bundle, version } => {
            let data = [
                (names::KEY_CA_CERT, bundle.as_str()),
                (names::KEY_TLS_CERT, &tls.cert_pem),
                (names::KEY_TLS_KEY, &tls.key_pem),
            ];
            let secret = secret(names::SECRET_TLS, version, "kubernetes.io/tls", &data, &tls.names);
            let written = write(&secrets, names::SECRET_TLS, &secret, "the serving Secret").await?;
            (Written::Bundle, Event::TlsSecret(Delta::Applied(written)))
        }
        Prepared::Leaf { ca, bundle, version } => {
            let authority = Authority::from_pem(&ca.cert_pem, &ca.key_pem)?;
            let leaf = authority.issue(&endpoint.names(), endpoint.leaf_life, now)?;
            let data = [
                (names::KEY_CA_CERT, bundle.as_str()),
                (names::KEY_TLS_CERT, &leaf.cert_pem),
                (names::KEY_TLS_KEY, &leaf.key_pem),
            ];
            let secret = secret(names::SECRET_TLS, version, "kubernetes.io/tls", &data, &endpoint.names());
            let written = write(&secrets, names::SECRET_TLS, &secret, "the serving Secret").await?;
            (Written::Leaf, Event::TlsSecret(Delta::Applied(written)))
        }
        Prepared::Validating(wanted) => {
            let (owner, written) = register(client, *wanted, owner, "the ValidatingWebhookConfiguration").await?;
            let event = Box::new(Event::Validating(Delta::Applied(written)));
            return Ok(Applied::Registered { owner, event });
        }
        Prepared::Mutating(wanted) => {
            let (owner, written) = register(client, *wanted, owner, "the MutatingWebhookConfiguration").await?;
            let event = Box::new(Event::Mutating(Delta::Applied(written)));
            return Ok(Applied::Registered { owner, event });
        }
    };
    Ok(Applied::Written { what, event: Box::new(event) })
}

/// Writes a configuration for the owner that there is now. It is looked for again each time: a configuration that is
/// gone may be so because its owner was made anew.
async fn register<K>(
    client: &Client,
    mut wanted: K,
    known: Option<&Owner>,
    what: &'static str,
) -> Result<(Owner, K), ApplyError>
where
    K: Resource<Scope = ClusterResourceScope, DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let owner = owner::find(client, known).await?;
    owner.mark(wanted.meta_mut());
    let written = write(&Api::all(client.clone()), names::WEBHOOK_CONFIGURATION, &wanted, what).await?;
    Ok((owner, written))
}

/// Creates an object without a version, replaces one with: two leaders in a row can never undo each other's keys.
async fn write<K>(api: &Api<K>, name: &str, object: &K, what: &'static str) -> Result<K, ApplyError>
where
    K: Resource + Clone + Debug + Serialize + DeserializeOwned,
{
    let params = PostParams { dry_run: false, field_manager: Some(names::MANAGER_OPERATOR.to_owned()) };
    let written = if object.meta().resource_version.is_some() {
        api.replace(name, &params, object).await
    } else {
        api.create(&params, object).await
    };
    written.map_err(|source| ApplyError::Write { what, source })
}

fn secret(
    name: &str,
    resource_version: Option<String>,
    type_: &str,
    data: &[(&str, &str)],
    server_names: &[String],
) -> Secret {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let annotations =
        (!server_names.is_empty()).then(|| BTreeMap::from([(ANNOTATION_NAMES.to_owned(), server_names.join(","))]));
    Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            resource_version,
            annotations,
            labels: Some(BTreeMap::from([("app.kubernetes.io/part-of".to_owned(), "portreeve".to_owned())])),
            ..ObjectMeta::default()
        },
        type_: Some(type_.to_owned()),
        data: Some(data.iter().map(|&(key, text)| (key.to_owned(), bytes(text))).collect()),
        ..Secret::default()
    }
}
