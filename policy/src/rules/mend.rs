//! Mends: what action `Fix` changes, as JSON Patch (RFC 6902) with pointers escaped by construction (RFC 6901).

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::Value;

/// A change that removes what a rule found. Applied once, the rule finds nothing more to mend.
pub(crate) struct Mend {
    pub(crate) operations: Vec<PatchOperation>,
    /// What was done, at most 44 characters: it takes the place of the fix in texts.
    pub(crate) done: String,
}

impl Mend {
    pub(super) fn new(done: &str, operations: impl IntoIterator<Item = PatchOperation>) -> Self {
        Self { operations: operations.into_iter().collect(), done: done.to_owned() }
    }
}

pub(super) fn add(path: &[&str], value: Value) -> PatchOperation {
    PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(path.iter().copied()), value })
}

pub(super) fn replace(path: &[&str], value: Value) -> PatchOperation {
    PatchOperation::Replace(ReplaceOperation { path: PointerBuf::from_tokens(path.iter().copied()), value })
}

pub(super) fn remove(path: &[&str]) -> PatchOperation {
    PatchOperation::Remove(RemoveOperation { path: PointerBuf::from_tokens(path.iter().copied()) })
}

pub(super) fn remove_annotation(key: &str) -> PatchOperation {
    remove(&["metadata", "annotations", key])
}
