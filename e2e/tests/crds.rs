//! The seven kinds at a real API server: what is accepted, what is refused and with which words, and how kubectl shows,
//! explains and awaits them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::{
    Site, eventually,
    objects::{document, path, within},
    schema::{bounds, walk, with},
    site::workspace,
};

/// A kind as users meet it.
struct Kind {
    name: &'static str,
    plural: &'static str,
    short: &'static str,
    /// Columns of `kubectl get -o wide` between the name and nothing.
    columns: &'static [&'static str],
    /// An object with every field.
    full: &'static str,
}

const KINDS: [Kind; 7] = [
    Kind {
        name: "ClusterTrafficPolicy",
        plural: "clustertrafficpolicies",
        short: "ctp",
        columns: &["MODE", "PRIORITY", "SERVICES", "VIOLATIONS", "ACCEPTED", "PROGRAMMED", "AGE", "REASON"],
        full: include_str!("data/kinds/clustertrafficpolicy.yaml"),
    },
    Kind {
        name: "TrafficPolicy",
        plural: "trafficpolicies",
        short: "tp",
        columns: &["MODE", "PRIORITY", "SERVICES", "VIOLATIONS", "ACCEPTED", "PROGRAMMED", "AGE", "REASON"],
        full: include_str!("data/kinds/trafficpolicy.yaml"),
    },
    Kind {
        name: "TrafficMigration",
        plural: "trafficmigrations",
        short: "tmig",
        columns: &["MODE", "PHASE", "SAFE", "APPROVAL", "INVALID", "DONE", "FAILED", "PLAN", "AGE"],
        full: include_str!("data/kinds/trafficmigration.yaml"),
    },
    Kind {
        name: "TrafficMigrationItem",
        plural: "trafficmigrationitems",
        short: "tmi",
        columns: &["SERVICE", "DECISION", "STATE", "OWNER", "MIGRATION", "MESSAGE", "AGE"],
        full: include_str!("data/kinds/trafficmigrationitem.yaml"),
    },
    Kind {
        name: "ServiceTraffic",
        plural: "servicetraffics",
        short: "svct",
        columns: &[
            "POLICY",
            "PODS",
            "NODES",
            "RATIO‰",
            "USABLE‰",
            "HC-PORT",
            "BALANCED",
            "DATA-PATH",
            "HOTTEST",
            "AGE",
        ],
        full: include_str!("data/kinds/servicetraffic.yaml"),
    },
    Kind {
        name: "NodeDatapath",
        plural: "nodedatapaths",
        short: "ndp",
        columns: &["BACKEND", "UPLINKS", "SERVICES", "READY", "PROGRAMMED", "KERNEL", "WHY", "AGE"],
        full: include_str!("data/kinds/nodedatapath.yaml"),
    },
    Kind {
        name: "DatapathConfig",
        plural: "datapathconfigs",
        short: "dpc",
        columns: &["BACKEND", "NODES", "READY", "AGE"],
        full: include_str!("data/kinds/datapathconfig.yaml"),
    },
];

impl Kind {
    /// The definition, as it is generated.
    fn definition(&self) -> Value {
        let file = workspace().join(format!("crds/manifests/{}.yaml", self.plural));
        document(&std::fs::read_to_string(file).unwrap())
    }

    fn namespaced(&self) -> bool {
        self.definition()["spec"]["scope"] == "Namespaced"
    }

    /// The schemas of `spec` and `status`.
    fn schema(&self) -> Value {
        self.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
    }

    /// The objects that together hold every field, and that the API server accepts.
    fn examples(&self, namespace: &str) -> Vec<Value> {
        let full = document(self.full);
        let full = if self.namespaced() { within(full, namespace) } else { full };
        let mut all = vec![full.clone()];
        if self.name == "ClusterTrafficPolicy" {
            let mut overriding = full;
            let body = overriding["spec"].as_object_mut().unwrap().remove("defaults").unwrap();
            overriding["spec"]["overrides"] = body;
            overriding["metadata"]["name"] = json!("full-overrides");
            all.push(overriding);
        }
        all
    }
}

/// `spec`, or a prefix of it by name.
fn part(schema: &Value, name: &str) -> Value {
    json!({"properties": {name: schema["properties"][name]}})
}

#[tokio::test]
async fn every_field_of_every_kind_is_accepted_stored_and_shown_by_kubectl() {
    let site = Site::shared().await;
    let (http, kubectl) = (site.http().await, site.kubectl());
    let namespace = site.namespace("kinds").await;
    let _one = THE_ONE.lock().await;
    for kind in &KINDS {
        for mut example in kind.examples(&namespace) {
            // Under a name of its own: the other tests store the same examples.
            if kind.name != "DatapathConfig" {
                example["metadata"]["name"] = json!(format!("{}-shown", example["metadata"]["name"].as_str().unwrap()));
            }
            kubectl.run_with(&["create", "-f", "-"], &example.to_string()).await.ok();
            let stored = http.get(&path(&example)).await.ok();
            assert_eq!(stored["spec"], example["spec"], "{}: spec comes back as it was sent", kind.name);
            let mut with_status = stored;
            with_status["status"] = example["status"].clone();
            if !example["status"].is_null() {
                let put = http
                    .send(http::Method::PUT, &format!("{}/status", path(&example)), "application/json", &with_status)
                    .await;
                assert_eq!(put.ok()["status"], example["status"], "{}: status too", kind.name);
            }
            let namespace = if kind.namespaced() { ["-n", &namespace] } else { ["-n", "default"] };
            let name = example["metadata"]["name"].as_str().unwrap();
            let table = kubectl.run(&["get", kind.short, name, "-o", "wide", namespace[0], namespace[1]]).await.ok();
            let header: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
            assert_eq!(header[0], "NAME");
            assert_eq!(&header[1..], kind.columns, "{}", kind.name);
            // A column whose path leads nowhere shows nothing.
            assert!(!table.contains("<none>") && !table.contains("<unknown>"), "{table}");
        }
    }
    let all = kubectl.run(&["get", "portreeve", "-A", "-o", "name"]).await.ok();
    for kind in &KINDS {
        let singular = kind.name.to_lowercase();
        assert!(all.contains(&format!("{singular}.portreeve.io/")), "category portreeve lists {}: {all}", kind.name);
    }
    http.delete("/apis/portreeve.io/v1alpha1/datapathconfigs/default").await.ok();
}

#[tokio::test]
async fn the_examples_hold_every_field_that_the_schemas_know() {
    for kind in &KINDS {
        let (schema, examples) = (kind.schema(), kind.examples("any"));
        let mut fields = 0;
        for name in ["spec", "status"].into_iter().filter(|name| schema["properties"][name].is_object()) {
            walk(&part(&schema, name), &examples[0], &mut |_, pointer, field| {
                fields += 1;
                let held = examples.iter().any(|example| example.pointer(pointer).is_some());
                assert!(held, "data/kinds: {} has no {field}", kind.name);
            });
        }
        assert!(fields > 5, "{}: {fields} fields", kind.name);
    }
}

/// There is one DatapathConfig in a cluster: a test that stores it holds this.
static THE_ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test]
async fn every_bound_of_every_field_refuses_what_is_beyond_it() {
    let site = Site::shared().await;
    let http = site.http().await;
    let namespace = site.namespace("bounds").await;
    let mut tried = 0;
    let _one = THE_ONE.lock().await;
    for kind in &KINDS {
        let schema = kind.schema();
        for example in kind.examples(&namespace) {
            http.create(&example).await.ok();
            for name in ["spec", "status"] {
                let all = bounds(&part(&schema, name), &example);
                for bound in all.iter().filter(|bound| example.pointer(&bound.pointer).is_some()) {
                    let changed = with(&example, &bound.pointer, bound.value.as_ref());
                    let answer = if name == "spec" {
                        http.dry_run(&changed).await
                    } else {
                        let status = format!("{}/status?dryRun=All", path(&example));
                        http.merge(&status, &json!({"status": changed["status"]})).await
                    };
                    let (keyword, field, says) = (bound.keyword, &bound.field, &bound.says);
                    assert_eq!(answer.status, 422, "{} {keyword} {field}: {answer:?}", kind.name);
                    let causes = answer.causes();
                    let told = causes.iter().any(|(at, message)| at.starts_with(field) && message.contains(says));
                    assert!(told, "{} {keyword} {field}: {says:?} is not in {causes:#?}", kind.name);
                    tried += 1;
                }
            }
            http.delete(&path(&example)).await.ok();
        }
    }
    assert!(tried > 250, "{tried} bounds");
}

#[tokio::test]
async fn every_value_of_every_enum_is_accepted_as_kubectl_apply_made_it() {
    let site = Site::shared().await;
    let http = site.http().await;
    let namespace = site.namespace("enums").await;
    let mut tried = BTreeSet::new();
    for kind in &KINDS {
        let schema = kind.schema();
        for example in kind.examples(&namespace) {
            let mut values: Vec<(String, Value)> = Vec::new();
            walk(&part(&schema, "spec"), &example, &mut |schema, pointer, _| {
                let all = schema["enum"].as_array().into_iter().flatten();
                values.extend(all.map(|value| (pointer.to_owned(), value.clone())));
            });
            for (pointer, value) in values.iter().filter(|(pointer, _)| example.pointer(pointer).is_some()) {
                let mut changed = with(&example, pointer, Some(value));
                if kind.name != "DatapathConfig" {
                    changed["metadata"]["name"] = json!("one-value");
                }
                let answer = http.dry_run(&changed).await;
                // Another rule may refuse the combination, but not the value.
                assert!(
                    !answer.message().contains("Unsupported value"),
                    "{} {pointer}: {}",
                    kind.name,
                    answer.message()
                );
                tried.insert(value.as_str().unwrap().to_owned());
            }
        }
    }
    for value in ["Off", "Audit", "Warn", "Fix", "Deny", "Balance", "Forward", "Direct", "Inject", "Iptables"] {
        assert!(tried.contains(value), "{value} was not tried");
    }
}

/// What no bound of a single field says: kind, pointer, value, and the message of the rule.
const ACROSS_FIELDS: [(&str, &str, &str, &str); 11] = [
    (
        "ClusterTrafficPolicy",
        "/spec/overrides",
        r#"{"spread": {"mode": "Off"}}"#,
        "must set exactly one of `defaults` (lower levels may change it) and `overrides` (they may only tighten it)",
    ),
    (
        "ClusterTrafficPolicy",
        "/spec",
        r#"{"enforcement": {"mode": "Warn"}}"#,
        "must set exactly one of `defaults` (lower levels may change it) and `overrides` (they may only tighten it)",
    ),
    (
        "ClusterTrafficPolicy",
        "/spec/defaults/rules/0/id",
        r#""ETP001""#,
        "`params.minNodes` may be set only for rule ETP005",
    ),
    (
        "ClusterTrafficPolicy",
        "/spec/defaults/spread/mechanism",
        r#""TopologySpread""#,
        "`weight` may be set only for mechanisms Auto and PodAntiAffinity",
    ),
    (
        "TrafficPolicy",
        "/spec",
        r#"{"enforcement": {"mode": "Warn"}}"#,
        "must set at least one of `rules`, `externalTrafficPolicy`, `spread`, `imbalance` and `dataPath`",
    ),
    ("TrafficPolicy", "/spec/rules/0/id", r#""ETP016""#, "`params.minNodes` may be set only for rule ETP005"),
    (
        "TrafficPolicy",
        "/spec/spread/mechanism",
        r#""TopologySpread""#,
        "`weight` may be set only for mechanisms Auto and PodAntiAffinity",
    ),
    (
        "TrafficMigration",
        "/spec",
        r#"{"mode": "Propose", "rollback": true}"#,
        "`rollback` may be set only with mode Apply: nothing has been applied otherwise",
    ),
    ("TrafficMigration", "/spec/mode", r#""Plan""#, "`approval` may be set only with mode Apply"),
    ("TrafficMigration", "/spec/mode", r#""Propose""#, "`approval` may be set only with mode Apply"),
    (
        "DatapathConfig",
        "/metadata/name",
        r#""second""#,
        "must be named 'default': there is one configuration for all nodes",
    ),
];

#[tokio::test]
async fn what_contradicts_itself_across_fields_is_refused_in_our_own_words() {
    let site = Site::shared().await;
    let http = site.http().await;
    let namespace = site.namespace("across").await;
    for (name, pointer, value, says) in ACROSS_FIELDS {
        let kind = KINDS.iter().find(|kind| kind.name == name).unwrap();
        let value: Value = serde_json::from_str(value).unwrap();
        let mut changed = with(&kind.examples(&namespace)[0], pointer, Some(&value));
        if name != "DatapathConfig" {
            changed["metadata"]["name"] = json!("contradiction");
        }
        let answer = http.dry_run(&changed).await;
        assert_eq!(answer.status, 422, "{name} {pointer}: {answer:?}");
        assert!(answer.causes().iter().any(|(_, message)| message.contains(says)), "{name}: {:?}", answer.causes());
    }
}

#[tokio::test]
async fn no_rule_across_fields_lacks_its_refused_example() {
    let mut said = BTreeSet::new();
    for kind in &KINDS {
        let schema = kind.schema();
        walk(&schema, &kind.examples("any")[0], &mut |schema, _, _| {
            let rules = schema["x-kubernetes-validations"].as_array().into_iter().flatten();
            said.extend(rules.map(|rule| (kind.name, rule["message"].as_str().unwrap().to_owned())));
        });
    }
    let tried: BTreeSet<_> = ACROSS_FIELDS.iter().map(|(name, _, _, says)| (*name, (*says).to_owned())).collect();
    assert_eq!(said, tried);
}

#[tokio::test]
async fn kubectl_explains_every_field() {
    let site = Site::shared().await;
    let kubectl = site.kubectl();
    for kind in &KINDS {
        for below in ["", ".spec", ".status"] {
            if below == ".status" && !kind.schema()["properties"]["status"].is_object() {
                continue;
            }
            let told = kubectl.run(&["explain", &format!("{}{below}", kind.plural)]).await.ok();
            assert!(!told.contains("<no description>"), "{told}");
            assert!(told.contains(&format!("KIND:       {}", kind.name)), "{told}");
        }
    }
    // The rest from what kubectl explain reads, field by field.
    let http = site.http().await;
    let published = eventually("the API server publishes the schemas", async || {
        let answer = http.get("/openapi/v3/apis/portreeve.io/v1alpha1").await;
        let schemas = answer.body["components"]["schemas"].clone();
        if KINDS.iter().all(|kind| schemas[format!("io.portreeve.v1alpha1.{}", kind.name)].is_object()) {
            Ok(schemas)
        } else {
            Err(format!("{:?}", answer.status))
        }
    })
    .await;
    let mut fields = 0;
    for kind in &KINDS {
        let schema = &published[format!("io.portreeve.v1alpha1.{}", kind.name)];
        for name in ["spec", "status"].into_iter().filter(|name| schema["properties"][name].is_object()) {
            walk(&schema["properties"][name], &Value::Null, &mut |schema, pointer, _| {
                fields += 1;
                let told = schema["description"].as_str().is_some_and(|text| text.len() >= 5);
                // Items and map values that are plain words are told of by their list.
                let plain = schema["properties"].is_null() && (pointer.ends_with("/0") || pointer.is_empty());
                assert!(told || plain, "{} {name}{pointer} has no description", kind.name);
            });
        }
    }
    assert!(fields > 200, "{fields} fields");
}

/// The sample Services are there for lint to find something, and one of them for the API server to refuse.
#[tokio::test]
async fn kubectl_apply_takes_every_sample_of_our_kinds() {
    let site = Site::shared().await;
    let kubectl = site.kubectl();
    kubectl.run(&["create", "namespace", "shop"]).await.ok();
    for entry in std::fs::read_dir(workspace().join("config/samples")).unwrap() {
        let file = entry.unwrap().path();
        let objects = support::objects::documents(&std::fs::read_to_string(&file).unwrap());
        if objects.iter().any(|object| object["kind"] == "Service") {
            continue;
        }
        let taken = kubectl.run(&["apply", "--dry-run=server", "-f", file.to_str().unwrap()]).await.ok();
        assert_eq!(taken.lines().count(), objects.len(), "{}: {taken}", file.display());
    }
}
