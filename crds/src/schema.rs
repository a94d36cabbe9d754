//! Parts of the schema that no derive can say.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use schemars::{Schema, SchemaGenerator, json_schema};

/// Schema of `status.conditions`: a list keyed by `type`, 16 at most, with bounded texts.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "description": "Conditions in the usual form; `kubectl wait --for=condition=TYPE` reads them.",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "description": "One aspect of the object's state.",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {"type": "string", "maxLength": 64, "description": "Name of the condition."},
                "status": {"type": "string", "enum": ["True", "False", "Unknown"], "description": "Whether it holds."},
                "reason": {"type": "string", "minLength": 1, "maxLength": 128, "description": "Why, as one CamelCase word of a closed set."},
                "message": {"type": "string", "maxLength": 32768, "description": "Why, for people."},
                "lastTransitionTime": {"type": "string", "format": "date-time", "description": "When `status` last changed."},
                "observedGeneration": {"type": "integer", "format": "int64", "description": "Generation of the spec that this condition speaks of."}
            }
        }
    })
}

/// Schema of a JSON value of any type.
pub(crate) fn any_value(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "Any JSON value.",
        "x-kubernetes-preserve-unknown-fields": true
    })
}

/// Finishes a derived definition: `apiVersion`, `kind` and `metadata` are described by the API server itself; the root,
/// `spec` and `status` get the text that `kubectl explain` shows. The label lets one command remove all definitions.
pub(crate) fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    let kind = crd.spec.names.kind.clone();
    crd.metadata.labels.get_or_insert_default().insert("app.kubernetes.io/part-of".to_owned(), "portreeve".to_owned());
    for version in &mut crd.spec.versions {
        let Some(root) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
            continue;
        };
        let Some(properties) = root.properties.as_mut() else { continue };
        describe(properties.get_mut("spec"), || format!("What is asked of this {kind}."));
        describe(properties.get_mut("status"), || {
            "What was found and done; written by Portreeve, not by users.".to_owned()
        });
    }
    crd
}

fn describe(property: Option<&mut JSONSchemaProps>, text: impl FnOnce() -> String) {
    if let Some(property) = property {
        property.description.get_or_insert_with(text);
    }
}
