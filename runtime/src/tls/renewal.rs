//! When to renew: pure, on times that are passed in.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::TlsError;

/// Life of an authority: one year.
pub const CA_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// Life of a leaf: thirty days.
pub const LEAF_LIFE: Duration = Duration::from_secs(30 * 86_400);

/// Between when and when a certificate holds; both ends included (RFC 5280 §4.1.2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// First instant.
    pub not_before: Timestamp,
    /// Last instant.
    pub not_after: Timestamp,
}

impl Validity {
    /// The validity of the first certificate in `pem`.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn of_pem(pem: &str) -> Result<Self, TlsError> {
        let what = "certificate";
        let der = CertificateDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| TlsError::Pem { what, reason: error.to_string() })?;
        Self::of_der(&der)
    }

    pub(super) fn of_der(der: &[u8]) -> Result<Self, TlsError> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|error| TlsError::X509 { what: "certificate", reason: error.to_string() })?;
        let validity = certificate.validity();
        Ok(Self {
            not_before: Timestamp::from_second(validity.not_before.timestamp())?,
            not_after: Timestamp::from_second(validity.not_after.timestamp())?,
        })
    }

    /// The instant at two thirds of the life, when the successor is due.
    #[must_use]
    pub fn renew_at(&self) -> Timestamp {
        let life = self.not_after.as_second() - self.not_before.as_second();
        let due = self.not_before.as_second().saturating_add(life / 3 * 2);
        Timestamp::from_second(due).unwrap_or(self.not_after)
    }

    /// Whether the certificate has ended.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> bool {
        now > self.not_after
    }

    /// What is left, zero when it has ended.
    #[must_use]
    pub fn left(&self, now: Timestamp) -> SignedDuration {
        self.not_after.duration_since(now).max(SignedDuration::ZERO)
    }
}

/// What to do about one certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is good until the next look.
    Keep,
    /// Make a new one now.
    Renew,
}

/// What to do about both, each judged by its own dates: a leaf that is fresh does not save an authority that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenewalPlan {
    /// The authority.
    pub ca: Decision,
    /// The leaf.
    pub leaf: Decision,
    /// When to look again, if both are kept; `now` otherwise.
    pub next: Timestamp,
}

impl RenewalPlan {
    /// Decides at `now`; `None` means that there is no such certificate yet.
    ///
    /// A certificate is renewed from two thirds of its life on, and when its life lies in the future (a clock was set
    /// back, or the Secret is from elsewhere). A missing or ended authority takes the leaf with it, because nothing can
    /// verify that leaf; an authority renewed in time does not: the old one stays in the bundle.
    #[must_use]
    pub fn new(now: Timestamp, ca: Option<Validity>, leaf: Option<Validity>) -> Self {
        let decide = |validity: Option<Validity>| match validity {
            Some(v) if v.not_before <= now && now < v.renew_at() => Decision::Keep,
            _ => Decision::Renew,
        };
        let ca_dead = ca.is_none_or(|v| v.expired(now) || now < v.not_before);
        let decided_ca = decide(ca);
        let decided_leaf = if ca_dead { Decision::Renew } else { decide(leaf) };
        let next = match (decided_ca, decided_leaf, ca, leaf) {
            (Decision::Keep, Decision::Keep, Some(ca), Some(leaf)) => ca.renew_at().min(leaf.renew_at()),
            _ => now,
        };
        Self { ca: decided_ca, leaf: decided_leaf, next }
    }
}
