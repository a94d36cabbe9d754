//! Which one thing to do next about certificates. Pure; times are arguments.

use super::validate::{Ca, Tls};
use jiff::Timestamp;
use portreeve_runtime::tls::{Decision, RenewalPlan, overlap};
use std::time::Duration;

/// How long API servers are given to see a new bundle in the configurations before a leaf of the new authority is
/// served: they read the configurations by watch, within seconds.
pub(crate) const SETTLE: Duration = Duration::from_secs(10);

/// One step. After it the world is looked at again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make an authority and store it.
    MakeAuthority,
    /// Publish this bundle beside the leaf that is served now.
    PublishBundle(String),
    /// Make a leaf, and publish it with this bundle.
    IssueLeaf(String),
    /// Certificates are right until then; registrations must carry this bundle.
    Register { bundle: String, next: Next },
}

/// When certificates need a look again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// At this time.
    At(Timestamp),
    /// Once this much time has passed since the registrations carry the bundle.
    Settling(Duration),
}

/// `registered_for` is how long both registrations are known to have carried the bundle of `tls`.
pub(crate) fn plan(
    ca: Option<&Ca>,
    tls: Option<&Tls>,
    names: &[String],
    registered_for: Option<Duration>,
    now: Timestamp,
) -> Step {
    let renewal = RenewalPlan::new(now, ca.map(|ca| ca.validity), tls.map(|tls| tls.validity));
    let Some(ca) = ca.filter(|_| renewal.ca == Decision::Keep) else { return Step::MakeAuthority };
    let Some(tls) = tls else { return Step::IssueLeaf(overlap(&ca.cert_pem, "", now)) };
    let bundle = overlap(&ca.cert_pem, &tls.bundle, now);
    let due = renewal.leaf == Decision::Renew || tls.names != names;
    if tls.by_current {
        if due {
            return Step::IssueLeaf(bundle);
        }
        if tls.bundle != bundle {
            return Step::PublishBundle(bundle);
        }
        return Step::Register { bundle, next: Next::At(renewal.next) };
    }
    // The leaf is another authority's. While it verifies, the new authority has to be known everywhere first.
    if tls.validity.expired(now) || now < tls.validity.not_before {
        return Step::IssueLeaf(bundle);
    }
    if tls.bundle != bundle {
        return Step::PublishBundle(bundle);
    }
    match registered_for {
        Some(passed) if passed >= SETTLE => Step::IssueLeaf(bundle),
        passed => Step::Register { bundle, next: Next::Settling(SETTLE.saturating_sub(passed.unwrap_or_default())) },
    }
}
