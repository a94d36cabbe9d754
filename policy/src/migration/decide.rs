//! The decision table.

use crate::legacy::{LegacyAnnotations, LegacyPolicy};
use crate::subject::Subject;
use crate::text::clean;
use portreeve_crds::migration::Decision;
use portreeve_crds::service_traffic::ExternalTrafficPolicy::{self, Cluster, Local};

/// A row of the table.
pub(super) struct Verdict {
    pub(super) decision: Decision,
    pub(super) reason: String,
    /// What the field says today; none where the Service can have no external traffic, or nobody knows.
    pub(super) field: Option<ExternalTrafficPolicy>,
}

impl Verdict {
    /// NeedsApproval has one meaning: the field goes from `Cluster` to `Local`.
    pub(super) fn to_local(&self) -> bool {
        self.decision == Decision::NeedsApproval
    }
}

pub(super) fn decide(subject: Subject<'_>, legacy: &LegacyAnnotations) -> Verdict {
    let verdict = |decision, reason: &str, field| Verdict { decision, reason: reason.to_owned(), field };
    if let Some(value) = legacy.external_traffic.as_ref().filter(|value| value.meaning.is_none()) {
        let reason = format!(
            "{} says {:?}, which is neither OnlyLocal nor Global; nothing is guessed and nothing is touched",
            value.key,
            clean(&value.raw)
        );
        return verdict(Decision::Invalid, &reason, None);
    }
    let Some(kind) = subject.kind() else {
        return verdict(Decision::Invalid, "spec.type is none of the four types, so nothing follows from it", None);
    };
    if subject.headless() || !subject.externally_accessible() {
        let what = if subject.headless() { "headless" } else { kind.as_str() };
        let reason = format!("external traffic cannot reach this {what} Service, so the annotations say nothing");
        return verdict(Decision::Safe, &reason, None);
    }
    let field = match subject.traffic_policy() {
        // The API server's default.
        None | Some("Cluster") => Cluster,
        Some("Local") => Local,
        Some(other) => {
            let reason = format!("spec.externalTrafficPolicy is {:?}, neither Local nor Cluster", clean(other));
            return verdict(Decision::Invalid, &reason, None);
        }
    };
    let (decision, reason) = match (legacy.policy(), field) {
        (Some(LegacyPolicy::OnlyLocal), Local) => (Decision::Safe, "the field says Local, as the annotation does"),
        (Some(LegacyPolicy::OnlyLocal), Cluster) => (
            Decision::NeedsApproval,
            "the annotation asks for OnlyLocal, but traffic has been spread over the cluster since Kubernetes 1.8; \
             Local changes where it goes",
        ),
        (Some(LegacyPolicy::Global), Cluster) => (Decision::Safe, "the field says Cluster, as the annotation does"),
        (Some(LegacyPolicy::Global), Local) => (
            Decision::Safe,
            "the annotation says Global, but the field says Local and has been the law since Kubernetes 1.8; it stays",
        ),
        (None, Local | Cluster) => {
            (Decision::Safe, "only healthcheck-nodeport is left, and nothing reads it since Kubernetes 1.8")
        }
    };
    verdict(decision, reason, Some(field))
}

/// The annotation that counts and the field, where external traffic can arrive and they do not say the same. For the rule
/// that finds such Services, so that it and the migration speak of the same ones.
pub(crate) fn contradiction(subject: Subject<'_>) -> Option<(&'static str, LegacyPolicy, ExternalTrafficPolicy)> {
    let legacy = LegacyAnnotations::parse(subject.service());
    let policy = legacy.policy()?;
    let field = decide(subject, &legacy).field?;
    let key = legacy.external_traffic.as_ref()?.key;
    let agree = matches!((policy, field), (LegacyPolicy::OnlyLocal, Local) | (LegacyPolicy::Global, Cluster));
    (!agree).then_some((key, policy, field))
}

/// What to say where the alpha annotation contradicts the beta one.
pub(super) fn notes(legacy: &LegacyAnnotations) -> Vec<String> {
    let differing = |key: &str, raw: &str| {
        format!(
            "{key} says {:?} and its alpha form something else; beta is taken, as Kubernetes 1.7 did (1.5 and 1.6 took alpha)",
            clean(raw)
        )
    };
    let policy = legacy.external_traffic.as_ref().filter(|v| v.both_differ).map(|v| differing(v.key, &v.raw));
    let port = legacy.health_check_port.as_ref().filter(|v| v.both_differ).map(|v| differing(v.key, &v.raw));
    policy.into_iter().chain(port).collect()
}
