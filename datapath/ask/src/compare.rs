//! Where two writings of a Service differ.

use crate::view::ServiceView;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One field in which two writings of a Service differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldDifference {
    /// Its path, e.g. `ports.http/tcp/IPv4.targets`.
    pub field: String,
    /// What the first has there; null if it has no such field.
    pub first: Value,
    /// What the second has there.
    pub second: Value,
}

/// Every field in which `first` and `second` differ, in the order of their paths; lists are compared as a whole.
#[must_use]
pub fn compare(first: &ServiceView, second: &ServiceView) -> Vec<FieldDifference> {
    let value = |view: &ServiceView| serde_json::to_value(view).expect("invariant: a view has texts for keys");
    let mut found = Vec::new();
    fields("", &value(first), &value(second), &mut found);
    found
}

fn fields(path: &str, first: &Value, second: &Value, found: &mut Vec<FieldDifference>) {
    if first == second {
        return;
    }
    let (Value::Object(one), Value::Object(other)) = (first, second) else {
        found.push(FieldDifference { field: path.to_owned(), first: first.clone(), second: second.clone() });
        return;
    };
    let member = |members: &Map<String, Value>, name: &str| members.get(name).cloned().unwrap_or_default();
    let mut names: Vec<&String> = one.keys().chain(other.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        fields(&path, &member(one, name), &member(other, name), found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{PerFamilyView, PortView, SourcesView, TargetView};

    fn view() -> ServiceView {
        let port = PortView {
            frontends: vec![],
            standing: "LocalReady".to_owned(),
            targets: vec![TargetView { to: "10.0.0.1:80".to_owned(), weight: 1 }],
            kept: vec![],
        };
        ServiceView {
            created: 1,
            mode: "Local".to_owned(),
            on_no_local: "Drop".to_owned(),
            sources: PerFamilyView { v4: SourcesView::default(), v6: SourcesView::default() },
            affinity_seconds: None,
            health_check_node_port: Some(31_000),
            local_ready: PerFamilyView { v4: 1, v6: 0 },
            ports: [("http/tcp/IPv4".to_owned(), port)].into(),
        }
    }

    #[test]
    fn equal_writings_do_not_differ_and_each_field_that_does_is_named() {
        assert_eq!(compare(&view(), &view()), []);
        let mut other = view();
        other.on_no_local = "Reject".to_owned();
        other.local_ready.v4 = 2;
        let port = other.ports.get_mut("http/tcp/IPv4").unwrap();
        port.targets.clear();
        port.standing = "Elsewhere".to_owned();
        let extra = port.clone();
        other.ports.insert("dns/udp/IPv4".to_owned(), extra);
        let found = compare(&view(), &other);
        let fields: Vec<&str> = found.iter().map(|difference| difference.field.as_str()).collect();
        let ports = ["ports.dns/udp/IPv4", "ports.http/tcp/IPv4.standing", "ports.http/tcp/IPv4.targets"];
        assert_eq!(fields, [&["localReady.IPv4", "onNoLocal"], &ports[..]].concat());
        assert_eq!((&found[1].first, &found[1].second), (&"Drop".into(), &"Reject".into()));
        assert_eq!(found[2].first, Value::Null, "the first has no such port");
    }
}
