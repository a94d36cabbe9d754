//! Reading an AdmissionReview of `admission.k8s.io/v1`.

use super::{Hook, Refusal, Unexpected};
use portreeve_policy::Operation;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::borrow::Cow;

/// The only version that we are registered for.
const API_VERSION: &str = "admission.k8s.io/v1";

/// A request about an object that the webhook is registered for.
#[derive(Debug)]
pub(super) struct Request<T> {
    pub(super) uid: String,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) operation: Operation,
    pub(super) object: T,
    /// The stored object; [`Operation::Update`] only.
    pub(super) old: Option<T>,
}

/// What a review turned out to be.
#[derive(Debug)]
pub(super) enum Read<T> {
    /// To be decided.
    Ours(Request<T>),
    /// To be let through: its uid, and why.
    Other(String, Unexpected),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireReview<'a, T> {
    #[serde(borrow)]
    api_version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    request: Option<WireRequest<'a, T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireRequest<'a, T> {
    #[serde(borrow)]
    uid: Cow<'a, str>,
    #[serde(borrow)]
    kind: WireKind<'a>,
    #[serde(borrow, default)]
    sub_resource: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    namespace: Option<Cow<'a, str>>,
    #[serde(borrow)]
    operation: Cow<'a, str>,
    object: Option<T>,
    old_object: Option<T>,
}

#[derive(Deserialize)]
struct WireKind<'a> {
    #[serde(borrow, default)]
    group: Cow<'a, str>,
    #[serde(borrow, default)]
    version: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

/// Reads `body` in one pass. Only when the object does not fit `T` is it read again without the object: a review about
/// something else is no error, it is let through.
pub(super) fn read<T: DeserializeOwned>(body: &[u8], hook: Hook) -> Result<Read<T>, Refusal> {
    match serde_json::from_slice::<WireReview<'_, T>>(body) {
        Ok(review) => sort(review, hook, || "request.object is missing".to_owned()),
        Err(error) => {
            let problem = format!("the review cannot be read: {error}");
            let Ok(review) = serde_json::from_slice::<WireReview<'_, IgnoredAny>>(body) else {
                return Err(malformed(uid_of(body), problem));
            };
            match sort(review, hook, || problem.clone())? {
                Read::Ours(request) => Err(malformed(request.uid, problem)),
                Read::Other(uid, reason) => Ok(Read::Other(uid, reason)),
            }
        }
    }
}

fn sort<T>(review: WireReview<'_, T>, hook: Hook, missing: impl FnOnce() -> String) -> Result<Read<T>, Refusal> {
    let WireReview { api_version, kind, request } = review;
    let uid = request.as_ref().map(|request| request.uid.clone().into_owned()).unwrap_or_default();
    if api_version != API_VERSION || kind != "AdmissionReview" {
        return Err(malformed(uid, format!("the body must be an AdmissionReview of {API_VERSION}")));
    }
    let Some(request) = request else {
        return Err(malformed(uid, "the review has no request".to_owned()));
    };
    if uid.is_empty() {
        return Err(malformed(uid, "request.uid is empty".to_owned()));
    }
    let WireRequest { uid: _, kind, sub_resource, name, namespace, operation, object, old_object } = request;
    if !(kind.group.is_empty() && kind.version == "v1" && kind.kind == hook.kind()) {
        return Ok(Read::Other(uid, Unexpected::Kind));
    }
    if sub_resource.is_some_and(|sub| !sub.is_empty()) {
        return Ok(Read::Other(uid, Unexpected::Subresource));
    }
    let operation = match (operation.as_ref(), hook) {
        ("CREATE", _) => Operation::Create,
        ("UPDATE", Hook::MutateServices | Hook::ValidateServices) => Operation::Update,
        _ => return Ok(Read::Other(uid, Unexpected::Operation)),
    };
    let Some(object) = object else { return Err(malformed(uid, missing())) };
    let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) else {
        return Err(malformed(uid, "request.namespace is missing".to_owned()));
    };
    let old = match (operation, old_object) {
        (Operation::Create, _) => None,
        (Operation::Update, Some(old)) => Some(old),
        (Operation::Update, None) => return Err(malformed(uid, "request.oldObject is missing".to_owned())),
    };
    let (name, namespace) = (name.unwrap_or_default().into_owned(), namespace.into_owned());
    Ok(Read::Ours(Request { uid, name, namespace, operation, object, old }))
}

fn malformed(uid: String, problem: String) -> Refusal {
    Refusal::Malformed { uid, problem }
}

/// The uid of a review that has nothing else to offer.
fn uid_of(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Bare {
        request: BareRequest,
    }
    #[derive(Deserialize)]
    struct BareRequest {
        uid: String,
    }
    serde_json::from_slice::<Bare>(body).map(|bare| bare.request.uid).unwrap_or_default()
}
