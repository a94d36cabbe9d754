//! What the operator says in Events: reasons from one closed set, each with the object it is about.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use portreeve_runtime::events::EventReason;

/// Why an Event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    ImbalanceAboveLimit,
    ImbalanceWithinLimit,
    LegacyAnnotationContradicts,
    CertificateAuthorityMade,
    CertificateIssued,
    WebhooksRegistered,
    MigrationItemApplied,
    MigrationItemDone,
    MigrationItemBlocked,
    MigrationItemFailed,
    MigrationItemRolledBack,
    MigrationPlanned,
    MigrationAwaitsApproval,
    MigrationCompleted,
    MigrationFailed,
    MigrationRolledBack,
}

impl EventReason for Reason {
    fn reason(&self) -> &'static str {
        match self {
            Self::ImbalanceAboveLimit => "ImbalanceAboveLimit",
            Self::ImbalanceWithinLimit => "ImbalanceWithinLimit",
            Self::LegacyAnnotationContradicts => "LegacyAnnotationContradicts",
            Self::CertificateAuthorityMade => "CertificateAuthorityMade",
            Self::CertificateIssued => "CertificateIssued",
            Self::WebhooksRegistered => "WebhooksRegistered",
            Self::MigrationItemApplied => "MigrationItemApplied",
            Self::MigrationItemDone => "MigrationItemDone",
            Self::MigrationItemBlocked => "MigrationItemBlocked",
            Self::MigrationItemFailed => "MigrationItemFailed",
            Self::MigrationItemRolledBack => "MigrationItemRolledBack",
            Self::MigrationPlanned => "MigrationPlanned",
            Self::MigrationAwaitsApproval => "MigrationAwaitsApproval",
            Self::MigrationCompleted => "MigrationCompleted",
            Self::MigrationFailed => "MigrationFailed",
            Self::MigrationRolledBack => "MigrationRolledBack",
        }
    }

    fn action(&self) -> &'static str {
        match self {
            Self::ImbalanceAboveLimit | Self::ImbalanceWithinLimit | Self::LegacyAnnotationContradicts => "Assess",
            Self::CertificateAuthorityMade | Self::CertificateIssued | Self::WebhooksRegistered => "Register",
            _ => "Migrate",
        }
    }

    fn warns(&self) -> bool {
        matches!(
            self,
            Self::ImbalanceAboveLimit
                | Self::LegacyAnnotationContradicts
                | Self::MigrationItemBlocked
                | Self::MigrationItemFailed
                | Self::MigrationItemRolledBack
                | Self::MigrationFailed
        )
    }
}

/// One Event to write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notice {
    pub(crate) regarding: ObjectReference,
    pub(crate) reason: Reason,
    pub(crate) note: String,
}

impl Notice {
    /// A notice about an object that is at hand.
    pub(crate) fn about<K>(object: &K, reason: Reason, note: impl Into<String>) -> Self
    where
        K: Resource<DynamicType = ()>,
    {
        Self { regarding: object.object_ref(&()), reason, note: note.into() }
    }

    /// A notice about a Service.
    pub(crate) fn about_service(
        namespace: &str,
        name: &str,
        uid: &str,
        reason: Reason,
        note: impl Into<String>,
    ) -> Self {
        let regarding = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            namespace: Some(namespace.to_owned()),
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()),
            ..ObjectReference::default()
        };
        Self { regarding, reason, note: note.into() }
    }
}
