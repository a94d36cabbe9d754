//! Step 5, no client left to hold: what was done about certificates and registrations becomes metrics and Events.

use super::apply::{Applied, Written};
use super::plan::Next;
use crate::index::{Delta, Event};
use crate::notice::{Notice, Reason};
use kube::Resource as _;
use portreeve_runtime::metrics::{CertificateKind, CertificateMetrics};

/// What a step came to.
pub(crate) struct Outcome {
    /// What the API server now holds; none when nothing was left to do.
    pub(crate) event: Option<Event>,
    pub(crate) notice: Option<Notice>,
    /// When to look again.
    pub(crate) next: Option<Next>,
}

pub(crate) fn status(applied: Applied, metrics: &CertificateMetrics) -> Outcome {
    match applied {
        Applied::Settled { next, ca_expiry, leaf_expiry } => {
            metrics.set_expiry(CertificateKind::Ca, ca_expiry);
            metrics.set_expiry(CertificateKind::Leaf, leaf_expiry);
            Outcome { event: None, notice: None, next: Some(next) }
        }
        Applied::Written { what, event } => {
            let (reason, note) = match what {
                Written::Authority => (
                    Reason::CertificateAuthorityMade,
                    "A new authority was made; it signs once it is known everywhere.",
                ),
                Written::Bundle => (Reason::CertificateAuthorityMade, "The bundle was renewed."),
                Written::Leaf => (Reason::CertificateIssued, "A new serving certificate was issued."),
                Written::Registration => {
                    (Reason::WebhooksRegistered, "The webhook configuration was brought up to date.")
                }
            };
            let regarding = match &*event {
                Event::CaSecret(Delta::Applied(secret)) | Event::TlsSecret(Delta::Applied(secret)) => {
                    Some(secret.object_ref(&()))
                }
                Event::Validating(Delta::Applied(live)) => Some(live.object_ref(&())),
                Event::Mutating(Delta::Applied(live)) => Some(live.object_ref(&())),
                _ => None,
            };
            let notice = regarding.map(|regarding| Notice { regarding, reason, note: note.to_owned() });
            Outcome { event: Some(*event), notice, next: None }
        }
    }
}
