//! The schema of a definition as data: every field, every bound, and an example that breaks it.

use serde_json::{Value, json};

/// One bound of one field.
#[derive(Clone, Debug)]
pub(crate) struct Bound {
    /// Keyword of the schema, e.g. `maximum`.
    pub(crate) keyword: &'static str,
    /// JSON Pointer of the value that breaks it.
    pub(crate) pointer: String,
    /// The value, or none to leave the member out.
    pub(crate) value: Option<Value>,
    /// The field as the API server names it.
    pub(crate) field: String,
    /// What the API server says about it.
    pub(crate) says: String,
}

/// Every schema at and below `schema`, with the pointer and the field of the value in `example` that it is about. A member
/// of a list or a map is met by the example's first.
pub(crate) fn walk<'a>(schema: &'a Value, example: &Value, visit: &mut dyn FnMut(&'a Value, &str, &str)) {
    below(schema, example, "", "", visit);
}

fn below<'a>(
    schema: &'a Value,
    example: &Value,
    pointer: &str,
    field: &str,
    visit: &mut dyn FnMut(&'a Value, &str, &str),
) {
    visit(schema, pointer, field);
    for (name, member) in schema["properties"].as_object().into_iter().flatten() {
        let field = if field.is_empty() { name.clone() } else { format!("{field}.{name}") };
        below(member, example, &format!("{pointer}/{}", escaped(name)), &field, visit);
    }
    if schema["items"].is_object() {
        below(&schema["items"], example, &format!("{pointer}/0"), &format!("{field}[0]"), visit);
    }
    if schema["additionalProperties"].is_object() {
        let map = example.pointer(pointer).and_then(Value::as_object);
        if let Some(first) = map.and_then(|map| map.keys().next()) {
            let pointer = format!("{pointer}/{}", escaped(first));
            below(&schema["additionalProperties"], example, &pointer, &format!("{field}.{first}"), visit);
        }
    }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Every bound of `schema`, each with a value that breaks it in `example`, which holds every field.
pub(crate) fn bounds(schema: &Value, example: &Value) -> Vec<Bound> {
    let mut found = Vec::new();
    walk(schema, example, &mut |schema, pointer, field| {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            found.push(Bound {
                keyword: "required",
                pointer: format!("{pointer}/{name}"),
                value: None,
                field: if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") },
                says: "Required value".to_owned(),
            });
        }
        for (keyword, value, says) in broken(schema, example.pointer(pointer).unwrap_or(&Value::Null)) {
            found.push(Bound {
                keyword,
                pointer: pointer.to_owned(),
                value: Some(value),
                field: field.to_owned(),
                says,
            });
        }
    });
    found
}

/// A value for each bound of one field that breaks it, and the API server's words about it.
fn broken(schema: &Value, example: &Value) -> Vec<(&'static str, Value, String)> {
    let number = |keyword: &str| schema[keyword].as_f64().map(|number| number as i64);
    let first = || example.get(0).cloned().unwrap_or_default();
    let copies = |times: i64| Value::from(vec![first(); usize::try_from(times).unwrap()]);
    let text = |length: i64| Value::from("x".repeat(usize::try_from(length).unwrap()));
    let mut all = Vec::new();
    if schema["enum"].is_array() {
        all.push(("enum", json!("Nonsense"), "Unsupported value: \"Nonsense\"".to_owned()));
    }
    if let Some(most) = number("maximum") {
        all.push(("maximum", json!(most + 1), format!("should be less than or equal to {most}")));
    }
    if let Some(least) = number("minimum") {
        all.push(("minimum", json!(least - 1), format!("should be greater than or equal to {least}")));
    }
    if let Some(most) = number("maxLength") {
        all.push(("maxLength", text(most + 1), format!("may not be more than {most} bytes")));
    }
    if let Some(least) = number("minLength") {
        all.push(("minLength", text(least - 1), format!("should be at least {least} chars long")));
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        let long_enough = usize::try_from(number("minLength").unwrap_or(1)).unwrap();
        all.push(("pattern", json!("%".repeat(long_enough)), format!("should match '{pattern}'")));
    }
    if let Some(most) = number("maxItems") {
        all.push(("maxItems", copies(most + 1), format!("must have at most {most} items")));
    }
    if let Some(least) = number("minItems") {
        all.push(("minItems", copies(least - 1), format!("should have at least {least} items")));
    }
    if schema["x-kubernetes-list-type"] == "set" || schema["x-kubernetes-list-type"] == "map" {
        all.push(("unique", copies(2), "Duplicate value".to_owned()));
    }
    if let Some(kind) = schema["type"].as_str() {
        let wrong = if kind == "string" { json!(7) } else { json!("seven") };
        let kind = schema["format"].as_str().filter(|format| *format == "date-time").unwrap_or(kind);
        all.push(("type", wrong, format!("must be of type {kind}")));
    }
    all
}

/// `example` with the value at `pointer` replaced, or left out.
pub(crate) fn with(example: &Value, pointer: &str, value: Option<&Value>) -> Value {
    let mut changed = example.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = changed.pointer_mut(parent).unwrap_or_else(|| panic!("the example has no {pointer}"));
    match (value, parent) {
        (Some(value), Value::Array(items)) => items[name.parse::<usize>().unwrap()] = value.clone(),
        (Some(value), parent) => parent[name.replace("~1", "/").replace("~0", "~")] = value.clone(),
        (None, parent) => drop(parent.as_object_mut().unwrap().remove(name)),
    }
    changed
}
