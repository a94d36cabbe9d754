//! What the API server does to a Service of its own accord when a patch arrives.

use json_patch::{Patch, PatchError};
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

/// The number that it allocates.
pub(in crate::migration) const ALLOCATED: u16 = 32700;

/// `service` after `patch`.
pub(in crate::migration) fn write(service: &Service, patch: &Patch) -> Result<Service, PatchError> {
    let old = serde_json::to_value(service).unwrap();
    let mut new = old.clone();
    json_patch::patch(&mut new, patch)?;
    let health_checked =
        |object: &Value| object["spec"]["type"] == "LoadBalancer" && object["spec"]["externalTrafficPolicy"] == "Local";
    let (was, is) = (health_checked(&old), health_checked(&new));
    let spec = new["spec"].as_object_mut().unwrap();
    if is && !spec.contains_key("healthCheckNodePort") {
        spec.insert("healthCheckNodePort".to_owned(), json!(ALLOCATED));
    }
    if was && !is {
        spec.remove("healthCheckNodePort");
    }
    if new["metadata"]["annotations"] == json!({}) {
        new["metadata"].as_object_mut().unwrap().remove("annotations");
    }
    Ok(serde_json::from_value(new).unwrap())
}
