//! What an API server's refusal means for the one who asked.

use kube::core::Status;

/// The status that the API server answered with, if it answered.
pub(crate) fn status(error: &kube::Error) -> Option<&Status> {
    match error {
        kube::Error::Api(status) => Some(status),
        _ => None,
    }
}

/// The HTTP code of a refusal.
pub(crate) fn code(error: &kube::Error) -> Option<u16> {
    status(error).map(|status| status.code)
}

/// The object is not there.
pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    code(error) == Some(404)
}

/// The object is no longer as we saw it, or there already. What a watch tells next decides anew.
pub(crate) fn is_conflict(error: &kube::Error) -> bool {
    code(error) == Some(409)
}

/// Nothing can be created in the namespace any more: it is going away, and what we keep there with it.
pub(crate) fn is_namespace_terminating(error: &kube::Error) -> bool {
    let Some(status) = status(error) else { return false };
    status.code == 403
        && status.details.iter().flat_map(|details| &details.causes).any(|cause| cause.reason == "NamespaceTerminating")
}

/// A short text of the refusal for status fields and Events: the server's message, capped.
pub(crate) fn text(error: &kube::Error) -> String {
    let text = match status(error) {
        Some(status) => format!("HTTP {}: {}", status.code, status.message),
        None => error.to_string(),
    };
    text.chars().filter(|c| !c.is_control()).take(512).collect()
}

/// A JSON Patch that did not fit the object: a `test` failed or a path was missing. The API server says so with 422 and
/// reason `Invalid` but, unlike for an invalid object, without naming the object.
pub(crate) fn is_patch_mismatch(error: &kube::Error) -> bool {
    let Some(status) = status(error) else { return false };
    status.code == 422 && status.details.as_ref().is_none_or(|details| details.causes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{is_namespace_terminating, is_patch_mismatch};
    use serde_json::{Value, json};

    fn refusal(status: Value) -> kube::Error {
        kube::Error::Api(Box::new(serde_json::from_value(status).unwrap()))
    }

    // The statuses are those of Kubernetes 1.36.3.

    #[test]
    fn a_failed_test_operation_is_told_from_an_invalid_object() {
        let mismatch = json!({"kind": "Status", "metadata": {}, "status": "Failure", "reason": "Invalid", "details": {},
            "message": "the server rejected our request due to an error in our request", "code": 422});
        assert!(is_patch_mismatch(&refusal(mismatch)));
        let invalid = json!({"kind": "Status", "metadata": {}, "status": "Failure", "reason": "Invalid", "code": 422,
            "message": "Service \"web\" is invalid", "details": {"name": "web", "kind": "Service", "causes": [
                {"reason": "FieldValueNotSupported", "message": "Unsupported", "field": "spec.externalTrafficPolicy"}]}});
        assert!(!is_patch_mismatch(&refusal(invalid)));
    }

    #[test]
    fn a_namespace_that_is_going_away_is_told_from_missing_rights() {
        let terminating = json!({"status": "Failure", "reason": "Forbidden", "code": 403, "message": "",
            "details": {"causes": [{"reason": "NamespaceTerminating", "message": "", "field": "metadata.namespace"}]}});
        assert!(is_namespace_terminating(&refusal(terminating)));
        let forbidden = json!({"status": "Failure", "reason": "Forbidden", "code": 403, "message": "", "details": {}});
        assert!(!is_namespace_terminating(&refusal(forbidden)));
    }
}
