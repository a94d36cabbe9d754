//! Writing the answer: an AdmissionReview of `admission.k8s.io/v1` with a response.

use super::{Decision, Refusal, Reply, Tally};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json_patch::Patch;
use portreeve_crds::RuleId;
use portreeve_policy::Finding;
use serde::Serialize;
use std::collections::BTreeMap;

/// An answer before it is written.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) tally: Tally,
    pub(super) warnings: Vec<String>,
    pub(super) patch: Patch,
    status: Option<Status>,
    audit: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: &'static str,
    kind: &'static str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    /// JSON Patch, base64 of its JSON: Go's form of bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    audit_annotations: &'a BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Debug, Serialize)]
struct Status {
    status: &'static str,
    message: String,
    reason: &'static str,
    code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

#[derive(Debug, Serialize)]
struct Details {
    name: String,
    group: &'static str,
    kind: &'static str,
    causes: Vec<Cause>,
}

#[derive(Debug, Serialize)]
struct Cause {
    reason: &'static str,
    message: String,
    field: String,
}

impl Answer {
    pub(super) fn allowed(decision: Decision) -> Self {
        Self {
            tally: Tally::of(decision),
            warnings: Vec::new(),
            patch: Patch(Vec::new()),
            status: None,
            audit: BTreeMap::new(),
        }
    }

    /// Refuses a Service: one cause per finding, because kubectl prints the causes of an `Invalid` and nothing else.
    pub(super) fn deny_service(&mut self, name: &str, findings: &[&Finding]) {
        let causes: Vec<_> = findings
            .iter()
            .map(|finding| Cause {
                reason: cause_reason(finding.rule),
                message: finding.message(),
                field: finding.field.clone(),
            })
            .collect();
        let texts: Vec<_> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let message = match texts.as_slice() {
            [only] => format!("Service \"{name}\" is invalid: {only}"),
            many => format!("Service \"{name}\" is invalid: [{}]", many.join(", ")),
        };
        let details = Details { name: name.to_owned(), group: "", kind: "Service", causes };
        self.status = Some(Status { status: "Failure", message, reason: "Invalid", code: 422, details: Some(details) });
        self.tally.decision = Decision::Denied;
    }

    /// Adds an audit annotation; the API server puts the webhook's name before the key.
    pub(super) fn note(&mut self, key: &'static str, value: impl Into<String>) {
        self.audit.insert(key, value.into());
    }

    pub(super) fn into_reply(mut self, uid: &str) -> Result<Reply, Refusal> {
        self.note("decision", self.tally.decision.as_str());
        let unwritable =
            |error: serde_json::Error| Refusal::Unwritable { uid: uid.to_owned(), problem: error.to_string() };
        let patched = self.status.is_none() && !self.patch.0.is_empty();
        let patch = match patched {
            true => Some(STANDARD.encode(serde_json::to_vec(&self.patch).map_err(unwritable)?)),
            false => None,
        };
        let response = Response {
            uid,
            allowed: self.status.is_none(),
            status: self.status.as_ref(),
            patch_type: patch.is_some().then_some("JSONPatch"),
            patch,
            audit_annotations: &self.audit,
            warnings: &self.warnings,
        };
        Ok(Reply { body: review(response).map_err(unwritable)?, tally: self.tally })
    }
}

/// The answer to a request that got no decision.
pub(super) fn refused(uid: &str, code: u16, message: &str) -> Vec<u8> {
    let reason = if code == 400 { "BadRequest" } else { "InternalError" };
    let status = Status { status: "Failure", message: message.to_owned(), reason, code, details: None };
    let response = Response {
        uid,
        allowed: false,
        status: Some(&status),
        patch_type: None,
        patch: None,
        audit_annotations: &BTreeMap::new(),
        warnings: &[],
    };
    review(response).expect("invariant: strings and numbers always serialize")
}

fn review(response: Response<'_>) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Review { api_version: "admission.k8s.io/v1", kind: "AdmissionReview", response })
}

/// The API's own words: a value that does not fit is `Invalid`; what should not be there at all is `Forbidden`.
const fn cause_reason(rule: RuleId) -> &'static str {
    match rule {
        RuleId::ETP001 | RuleId::ETP013 | RuleId::ETP015 => "FieldValueForbidden",
        RuleId::ETP002
        | RuleId::ETP003
        | RuleId::ETP004
        | RuleId::ETP005
        | RuleId::ETP006
        | RuleId::ETP008
        | RuleId::ETP016 => "FieldValueInvalid",
    }
}
