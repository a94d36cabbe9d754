//! Step 5, no client left to hold: what was done about certificates and registrations becomes metrics and Events.

use super::apply::{Applied, Written};
use super::owner::Owner;
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
    /// The owner, if it was looked for.
    pub(crate) owner: Option<Owner>,
    /// When to look again.
    pub(crate) next: Option<Next>,
}

pub(crate) fn status(applied: Applied, metrics: &CertificateMetrics) -> Outcome {
    match applied {
        Applied::Settled { next, ca_expiry, leaf_expiry } => {
            metrics.set_expiry(CertificateKind::Ca, ca_expiry);
            metrics.set_expiry(CertificateKind::Leaf, leaf_expiry);
            Outcome { event: None, notice: None, owner: None, next: Some(next) }
        }
        Applied::Owner(owner) => Outcome { event: None, notice: None, owner: Some(owner), next: None },
        Applied::Registered { owner, event } => {
            let note = "The webhook configuration was brought up to date.";
            let notice = notice(&event, Reason::WebhooksRegistered, note);
            Outcome { event: Some(*event), notice, owner: Some(owner), next: None }
        }
        Applied::Written { what, event } => {
            let (reason, note) = match what {
                Written::Authority => (
                    Reason::CertificateAuthorityMade,
                    "A new authority was made; it signs once it is known everywhere.",
                ),
                Written::Bundle => (Reason::CertificateAuthorityMade, "The bundle was renewed."),
                Written::Leaf => (Reason::CertificateIssued, "A new serving certificate was issued."),
            };
            let notice = notice(&event, reason, note);
            Outcome { event: Some(*event), notice, owner: None, next: None }
        }
    }
}

fn notice(event: &Event, reason: Reason, note: &str) -> Option<Notice> {
    let regarding = match event {
        Event::CaSecret(Delta::Applied(secret)) | Event::TlsSecret(Delta::Applied(secret)) => secret.object_ref(&()),
        Event::Validating(Delta::Applied(live)) => live.object_ref(&()),
        Event::Mutating(Delta::Applied(live)) => live.object_ref(&()),
        _ => return None,
    };
    Some(Notice { regarding, reason, note: note.to_owned() })
}
