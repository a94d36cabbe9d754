use super::*;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};

fn roots() -> Vec<(String, JSONSchemaProps)> {
    all()
        .into_iter()
        .map(|crd| {
            let schema = crd.spec.versions[0].schema.clone().and_then(|s| s.open_api_v3_schema).unwrap();
            (crd.spec.names.kind, schema)
        })
        .collect()
}

fn walk(path: &str, schema: &JSONSchemaProps, visit: &mut impl FnMut(&str, &JSONSchemaProps)) {
    visit(path, schema);
    for (name, child) in schema.properties.iter().flatten() {
        walk(&format!("{path}.{name}"), child, visit);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(child)) = &schema.items {
        walk(&format!("{path}[]"), child, visit);
    }
}

#[test]
fn every_field_of_every_kind_has_a_description() {
    let mut missing = Vec::new();
    for (kind, root) in roots() {
        walk(&kind, &root, &mut |path, schema| {
            let item_of_plain_list = path.ends_with("[]") && schema.type_.as_deref() != Some("object");
            if schema.description.as_deref().unwrap_or("").is_empty() && !item_of_plain_list {
                missing.push(path.to_owned());
            }
        });
    }
    // metav1.LabelSelector's own list items carry their text on the list.
    missing.retain(|path| !path.ends_with("elector.matchExpressions[]"));
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn every_list_and_string_of_ours_has_a_bound() {
    let mut unbounded = Vec::new();
    for (kind, root) in roots() {
        walk(&kind, &root, &mut |path, schema| {
            let foreign = path.contains("elector"); // metav1.LabelSelector
            let bounded = match schema.type_.as_deref() {
                Some("array") => schema.max_items.is_some(),
                Some("string") => schema.max_length.is_some() || schema.enum_.is_some() || schema.format.is_some(),
                _ => true,
            };
            let typemeta = [format!("{kind}.apiVersion"), format!("{kind}.kind")].contains(&path.to_owned());
            if !bounded && !foreign && !typemeta {
                unbounded.push(path.to_owned());
            }
        });
    }
    assert_eq!(unbounded, Vec::<String>::new());
}

#[test]
fn a_mode_caps_every_action_and_never_raises_one() {
    for action in [Action::Off, Action::Audit, Action::Warn, Action::Fix, Action::Deny] {
        assert!(Mode::Audit.cap(action) <= Action::Audit);
        assert!(Mode::Warn.cap(action) <= Action::Warn);
        assert_eq!(Mode::Enforce.cap(action), action);
        for mode in [Mode::Audit, Mode::Warn] {
            assert!(mode.cap(action) <= action);
        }
    }
}

#[test]
fn a_condition_keeps_its_transition_time_until_its_status_changes() {
    let early: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let late: jiff::Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
    let first = condition::merge(&[], &[condition::Desired::yes(condition::READY, "Reported", "fine")], Some(1), early);
    let same =
        condition::merge(&first, &[condition::Desired::yes(condition::READY, "Reported", "still")], Some(2), late);
    assert_eq!(same[0].last_transition_time.0, early);
    assert_eq!((same[0].message.as_str(), same[0].observed_generation), ("still", Some(2)));
    let flipped = condition::merge(&same, &[condition::Desired::no(condition::READY, "Stale", "no")], Some(2), late);
    assert_eq!(flipped[0].last_transition_time.0, late);
}

#[test]
fn every_rule_id_reads_back_from_its_own_text() {
    for id in RuleId::ALL {
        assert_eq!(serde_json::to_value(id).unwrap(), serde_json::json!(id.as_str()));
    }
}
