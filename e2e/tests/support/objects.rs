//! Objects as the JSON that is sent, and where the API server keeps them.

use serde::Deserialize as _;
use serde_json::{Value, json};

/// The documents of a YAML stream, read as kubectl reads them but for YAML 1.1's booleans.
pub(crate) fn documents(yaml: &str) -> Vec<Value> {
    let all = serde_yaml::Deserializer::from_str(yaml).map(|document| Value::deserialize(document).unwrap());
    all.filter(|value| !value.is_null()).collect()
}

/// The one document of a YAML text.
#[track_caller]
pub(crate) fn document(yaml: &str) -> Value {
    let mut all = documents(yaml);
    assert_eq!(all.len(), 1, "{yaml}");
    all.remove(0)
}

/// `object` in this namespace.
pub(crate) fn within(mut object: Value, namespace: &str) -> Value {
    object["metadata"]["namespace"] = json!(namespace);
    object
}

/// Path of the collection that `object` belongs to.
pub(crate) fn collection(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let root = if version.contains('/') { format!("/apis/{version}") } else { format!("/api/{version}") };
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{}", plural(&kind)),
        None => format!("{root}/{}", plural(&kind)),
    }
}

/// Path of `object` itself.
pub(crate) fn path(object: &Value) -> String {
    format!("{}/{}", collection(object), object["metadata"]["name"].as_str().unwrap_or_default())
}

fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None => format!("{kind}s"),
    }
}

/// A Service of this spec.
pub(crate) fn service(namespace: &str, name: &str, spec: Value) -> Value {
    let metadata = json!({"namespace": namespace, "name": name});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
}

/// The Service with one more annotation.
pub(crate) fn annotated(mut service: Value, key: &str, value: &str) -> Value {
    service["metadata"]["annotations"][key] = json!(value);
    service
}

/// Ready endpoints of a Service, one per name of a node.
pub(crate) fn slice(namespace: &str, service: &str, nodes: &[&str]) -> Value {
    let endpoint = |(index, node): (usize, &&str)| json!({"addresses": [format!("10.250.0.{}", index + 1)], "nodeName": node, "conditions": {"ready": true}});
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "namespace": namespace, "name": format!("{service}-by-hand"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "endpoints": nodes.iter().enumerate().map(endpoint).collect::<Vec<_>>(),
    })
}

/// A TrafficPolicy with the name `policy` and this body.
pub(crate) fn policy(namespace: &str, body: Value) -> Value {
    let mut spec = body;
    spec["enforcement"] = json!({"mode": "Enforce"});
    json!({
        "apiVersion": "portreeve.io/v1alpha1", "kind": "TrafficPolicy",
        "metadata": {"namespace": namespace, "name": "policy"}, "spec": spec,
    })
}
