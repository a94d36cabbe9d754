//! The webhook's certificates and registration.
//!
//! The operator makes an authority and a leaf, renews each at two thirds of its own life, and keeps both webhook
//! configurations true against foreign edits. Order is what makes a rotation invisible: a new authority is first in the
//! bundle, then in the configurations, then known to every API server ([`plan::SETTLE`]), and only then signs a leaf.
//! The configurations belong to the installation's ClusterRole ([`owner`]) and are removed with it.
//!
//! dereference → validate → build (with the pure [`plan`]) → apply → status; only `apply` holds a client.

pub(crate) mod apply;
pub mod build;
pub(crate) mod dereference;
pub(crate) mod owner;
pub(crate) mod plan;
pub(crate) mod status;
pub(crate) mod validate;

/// How the API server reaches the webhook, and what its certificate must be good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Namespace of the Secrets and of the webhook's Service.
    pub namespace: String,
    /// Name of the webhook's Service.
    pub service: String,
    /// `https://HOST:PORT`, in place of the Service: for a webhook outside the cluster.
    pub url: Option<String>,
    /// Names in the certificate beyond those of the Service.
    pub extra_names: Vec<String>,
    /// Life of the authority.
    pub ca_life: std::time::Duration,
    /// Life of the leaf.
    pub leaf_life: std::time::Duration,
}

impl Endpoint {
    /// Every name that the certificate must carry, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let Self { namespace, service, extra_names, .. } = self;
        let mut all = vec![
            format!("{service}.{namespace}.svc"),
            format!("{service}.{namespace}.svc.cluster.local"),
            format!("{service}.{namespace}"),
        ];
        all.extend(extra_names.iter().cloned());
        all
    }
}

#[cfg(test)]
mod tests;
