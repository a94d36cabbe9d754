//! `kubectl portreeve lint` says beforehand what the API server will say: the same rules, as strict, in the same words.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use portreeve_e2e::run_dir::RunDir;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};
use support::{
    Answer, Http, eventually, holds, installed,
    kubectl::{Printed, printed, program},
    objects::{documents, path, within},
    site::workspace,
};
use tokio::process::Command;

/// In a fixture: the namespace that the test runs it in.
const NAMESPACE: &str = "namespace-of-the-test";

/// Runs `kubectl portreeve` with nothing of the user's environment but `PATH` and `HOME`.
async fn portreeve(args: &[&str], input: &str) -> Printed {
    let mut command = Command::new(program("kubectl-portreeve"));
    command.env_remove("KUBECONFIG").args(args);
    printed(&mut command, input).await
}

/// The findings of a run with `-o json`.
#[track_caller]
fn findings(printed: &Printed) -> Vec<Value> {
    let all: Value = serde_json::from_str(&printed.stdout).unwrap_or_else(|error| panic!("{error}: {printed:?}"));
    assert_eq!(all.as_object().unwrap().keys().collect::<Vec<_>>(), ["findings"]);
    all["findings"].as_array().unwrap().clone()
}

fn text<'a>(finding: &'a Value, member: &str) -> &'a str {
    finding[member].as_str().unwrap_or_else(|| panic!("{member} of {finding}"))
}

/// Every fixture by name, with `namespace` filled in.
fn fixtures(namespace: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(workspace().join("cli/tests/data")).unwrap();
    let mut all: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|file| (file.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(file).unwrap()))
        .map(|(name, text)| (name, text.replace(NAMESPACE, namespace)))
        .collect();
    all.sort();
    all
}

/// The objects of a fixture, the items of lists among them.
fn objects(yaml: &str) -> Vec<Value> {
    let all = documents(yaml).into_iter();
    all.flat_map(|object| object["items"].as_array().cloned().unwrap_or_else(|| vec![object])).collect()
}

/// One thing that is said about a Service: `denied` or `warned`, the rule, the policy's short name. The API server passes
/// on each warning once, so these are sets.
type Said = (&'static str, String, String);

fn short(policy: &str) -> String {
    let name = policy.rsplit('/').next().unwrap_or_default();
    match policy.split('/').next().unwrap_or_default() {
        "ClusterTrafficPolicy" | "ctp" => format!("ctp/{name}"),
        "TrafficPolicy" | "tp" => format!("tp/{name}"),
        _ => policy.to_owned(),
    }
}

/// What lint makes us expect of the API server. A Service that the mutating phase refuses never comes to the validating
/// one, so of its other findings only the mended are heard.
fn expected(findings: &[Value]) -> BTreeSet<Said> {
    let refused_early = findings.iter().any(|one| one["rule"] == "ETP016" && one["action"] == "Deny");
    findings
        .iter()
        .filter(|one| !refused_early || one["rule"] == "ETP016" || one["action"] == "Fix")
        .filter_map(|one| {
            let class = match text(one, "action") {
                "Deny" => "denied",
                "Warn" | "Fix" => "warned",
                "Audit" => return None,
                other => panic!("lint says {other}"),
            };
            Some((class, text(one, "rule").to_owned(), short(text(one, "policy"))))
        })
        .collect()
}

/// What the API server said.
fn heard(answer: &Answer) -> BTreeSet<Said> {
    // `[RULE NAME] …` in a warning, `[RULE policy=NAME] …` in a cause.
    let read = |class: &'static str, text: &str| {
        let (rule, policy) = text.split_once(']').unwrap().0.trim_start_matches('[').split_once(' ').unwrap();
        (class, rule.to_owned(), policy.trim_start_matches("policy=").to_owned())
    };
    let causes = answer.causes();
    let ours = causes.iter().filter(|(_, message)| message.starts_with("[ETP"));
    let denied = ours.map(|(_, message)| read("denied", message));
    denied.chain(answer.our_warnings().into_iter().map(|warning| read("warned", warning))).collect()
}

/// The cause that the API server should give for a finding.
fn cause(finding: &Value) -> (String, String) {
    let (rule, policy) = (text(finding, "rule"), short(text(finding, "policy")));
    let (problem, fix) = (text(finding, "message"), text(finding, "fix"));
    let message = format!("[{rule} policy={policy}] {problem}. Fix: {fix}. See: kubectl portreeve explain {rule}");
    (text(finding, "field").to_owned(), message)
}

/// Brings the policies and the namespace's labels of a fixture into the cluster; returns the policies.
async fn prepare(http: &Http, namespace: &str, all: &[Value]) -> Vec<Value> {
    let mut made = Vec::new();
    for object in all {
        match object["kind"].as_str().unwrap() {
            "Namespace" => {
                let labels = json!({"metadata": {"labels": object["metadata"]["labels"]}});
                http.merge(&path(object), &labels).await.ok();
            }
            "ClusterTrafficPolicy" => made.push(object.clone()),
            "TrafficPolicy" => made.push(within(object.clone(), namespace)),
            _ => {}
        }
    }
    for policy in &made {
        http.create(policy).await.ok();
    }
    made
}

#[tokio::test]
async fn lint_and_the_api_server_say_the_same_about_every_service_of_the_fixtures() {
    let site = &installed().await.site;
    let http = site.http().await;
    let run = RunDir::create("lint").unwrap();
    let (mut services, mut denied, mut rules) = (0, 0, BTreeSet::new());
    for index in 0..fixtures("").len() {
        let namespace = site.namespace("lint").await;
        let (name, yaml) = fixtures(&namespace).remove(index);
        let file = run.state().join(format!("{name}.yaml"));
        std::fs::write(&file, &yaml).unwrap();
        let linted = portreeve(&["lint", "-o", "json", "-n", &namespace, file.to_str().unwrap()], "").await;
        let findings = findings(&linted);
        let all = objects(&yaml);
        let policies = prepare(&http, &namespace, &all).await;
        for service in all.iter().filter(|object| object["kind"] == "Service") {
            services += 1;
            let about: Vec<Value> =
                findings.iter().filter(|one| one["object"]["name"] == service["metadata"]["name"]).cloned().collect();
            let what = format!("{name}.yaml: {}", service["metadata"]["name"]);
            let service = within(service.clone(), &namespace);
            let first = expected(&about);
            let mends: Vec<Value> = about.iter().filter(|one| one["action"] == "Fix").cloned().collect();
            let (expected, answer) = eventually(&what, async || {
                let answer = http.dry_run(&service).await;
                // The validating phase sees what the mutating one has mended, and so must lint.
                let expected = match mends.is_empty() {
                    true => first.clone(),
                    false => &expected(&mends) | &expected(&relint(&namespace, &policies, &answer.body).await),
                };
                holds(heard(&answer) == expected, (&expected, heard(&answer)))?;
                Ok((expected, answer))
            })
            .await;
            let refused = expected.iter().any(|(class, _, _)| *class == "denied");
            assert_eq!(answer.status, if refused { 422 } else { 201 }, "{what}: {answer:?}");
            let causes = answer.causes();
            for finding in about.iter().filter(|one| expected.iter().any(|said| said.1 == one["rule"])) {
                rules.insert(text(finding, "rule").to_owned());
                if finding["action"] == "Deny" {
                    denied += 1;
                    assert!(causes.contains(&cause(finding)), "{what}: {:?} is not in {causes:#?}", cause(finding));
                }
            }
        }
        for policy in &policies {
            http.delete(&path(policy)).await.ok();
        }
    }
    assert!(services >= 20 && denied >= 10, "{services} Services, {denied} refusals compared");
    let from_manifests = ["ETP001", "ETP002", "ETP003", "ETP004", "ETP006", "ETP013", "ETP015", "ETP016"];
    assert!(from_manifests.iter().all(|rule| rules.contains(*rule)), "{rules:?}");
}

/// What lint finds on an object that the API server returned, under these policies.
async fn relint(namespace: &str, policies: &[Value], object: &Value) -> Vec<Value> {
    let items = [policies, std::slice::from_ref(object)].concat();
    let all = json!({"apiVersion": "v1", "kind": "List", "items": items});
    findings(&portreeve(&["lint", "-o", "json", "-n", namespace, "-"], &all.to_string()).await)
}

#[tokio::test]
async fn linting_a_live_namespace_finds_what_linting_its_manifests_found() {
    let site = &installed().await.site;
    let http = site.http().await;
    let namespace = site.namespace("live").await;
    let kubeconfig = site.kubeconfig.to_str().unwrap();
    for (name, yaml) in fixtures(&namespace) {
        // What is refused, or mended on the way, is not there to be found.
        if ["legacy", "external-ips", "siblings"].contains(&name.as_str()) {
            for object in objects(&yaml) {
                http.create(&within(object, &namespace)).await.ok();
            }
        }
    }
    let data = workspace().join("cli/tests/data");
    let files = ["legacy", "external-ips", "siblings"].map(|name| data.join(format!("{name}.yaml")));
    let files = files.each_ref().map(|file| file.to_str().unwrap());
    let from_files = portreeve(&[&["lint", "-o", "json", "-n", &namespace], &files[..]].concat(), "").await;
    let live = ["lint", "--cluster", "-o", "json", "-n", &namespace, "--kubeconfig", kubeconfig];
    let from_cluster = portreeve(&live, "").await;
    let essence = |printed: &Printed| {
        let mut all: Vec<_> = findings(printed)
            .into_iter()
            // In the cluster these Services have no Pod, which no manifest tells.
            .filter(|one| one["rule"] != "ETP005")
            .map(|one| (one["object"].to_string(), one["rule"].to_string(), one["field"].to_string()))
            .collect();
        all.sort();
        all
    };
    assert!(essence(&from_files).len() > 10);
    assert_eq!(essence(&from_files), essence(&from_cluster));
}

#[tokio::test]
async fn findings_have_the_promised_shape_and_point_into_their_manifest() {
    let data = workspace().join("cli/tests/data");
    let linted = portreeve(&["lint", "-o", "json", data.to_str().unwrap()], "").await;
    let all = findings(&linted);
    assert!(all.len() > 20, "{}", all.len());
    let members = ["action", "field", "file", "fix", "line", "message", "object", "policy", "rule"];
    let mut files = BTreeMap::new();
    for finding in &all {
        let mut keys: Vec<_> = finding.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, members, "{finding}");
        assert_eq!(finding["object"]["kind"], "Service");
        assert!(["default", NAMESPACE].contains(&text(&finding["object"], "namespace")), "{finding}");
        let file = text(finding, "file").to_owned();
        assert!(Path::new(&file).is_file(), "{file}");
        let lines = files.entry(file.clone()).or_insert_with(|| std::fs::read_to_string(&file).unwrap());
        let line = usize::try_from(finding["line"].as_u64().unwrap()).unwrap();
        let manifest: Vec<&str> = lines.lines().collect();
        // Within the Service's own part of the file: from its name back no other name comes in between.
        let name = format!("name: {}", text(&finding["object"], "name"));
        let is_named = |at: &&str| at.trim_end_matches('}').ends_with(&name);
        let named = manifest.iter().position(is_named).unwrap() + 1;
        let end =
            manifest[named..].iter().position(|at| at.contains("kind: Service")).map_or(manifest.len(), |n| named + n);
        assert!(line + 4 >= named && line <= end, "{file}:{line} is not in the Service of line {named}");
        // Where the field was written, its value stands there.
        if let Some(key) = text(finding, "field").split_once('[').map(|(_, key)| key.trim_end_matches(']')) {
            assert!(manifest[line - 1].contains(key), "{file}:{line}: {key}");
        }
    }
}

#[tokio::test]
async fn exit_codes_tell_clean_findings_wrong_input_and_no_cluster_apart() {
    let data = workspace().join("cli/tests/data");
    let file = |name: &str| data.join(name).to_str().unwrap().to_owned();
    let run = RunDir::create("lint").unwrap();
    let broken = run.state().join("broken.yaml");
    std::fs::write(&broken, "kind: Service\n  spec: [").unwrap();
    let wrong_shape = run.state().join("shape.yaml");
    std::fs::write(&wrong_shape, "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: 80}\n").unwrap();
    let unknown_rule = run.state().join("rule.yaml");
    std::fs::write(
        &unknown_rule,
        "apiVersion: portreeve.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {name: a}\n\
         spec: {enforcement: {mode: Enforce}, rules: [{id: ETP999, action: Deny}]}\n",
    )
    .unwrap();
    let empty = run.state().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let nowhere = run.state().join("nowhere.kubeconfig");
    let config = "{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}], \
                  clusters: [{name: a, cluster: {server: 'http://127.0.0.1:9'}}], users: [{name: a, user: {}}]}";
    std::fs::write(&nowhere, config).unwrap();
    let (broken, wrong_shape, unknown_rule, empty, nowhere) = (
        broken.to_str().unwrap(),
        wrong_shape.to_str().unwrap(),
        unknown_rule.to_str().unwrap(),
        empty.to_str().unwrap(),
        nowhere.to_str().unwrap(),
    );
    let (clean, warned, denied) = (file("clean.yaml"), file("external-ips.yaml"), file("inside-only.yaml"));
    let cases: [(&[&str], i32, &str); 18] = [
        (&["lint", &clean], 0, "No findings"),
        (&["lint", &clean, "--fail-on", "audit"], 0, "No findings"),
        (&["lint", &warned], 1, "ETP013"),
        (&["lint", &warned, "--fail-on", "warn"], 1, "ETP013"),
        (&["lint", &warned, "--fail-on", "deny"], 0, "ETP013"),
        (&["lint", &warned, "--fail-on", "never"], 0, "ETP013"),
        (&["lint", &denied, "--fail-on", "deny"], 1, "ETP016"),
        (&["lint", &denied, "--fail-on", "never"], 0, "ETP016"),
        (&["lint", &clean, &warned], 1, "ETP003"),
        (&["lint", "-o", "json", &clean], 0, "{\"findings\":[]}"),
        (&["lint", "no/such/file.yaml"], 2, "no/such/file.yaml"),
        (&["lint", broken], 2, "broken.yaml"),
        (&["lint", wrong_shape], 2, "shape.yaml:1: Service 'a'"),
        (&["lint", unknown_rule], 2, "ETP999"),
        (&["lint", empty], 2, "no *.yaml"),
        (&["lint"], 2, "required"),
        (&["lint", &clean, "--fail-on", "sometimes"], 2, "sometimes"),
        (&["lint", "--cluster", "--kubeconfig", nowhere], 4, "cannot reach the cluster"),
    ];
    for (args, code, says) in cases {
        let printed = portreeve(args, "").await;
        assert_eq!(printed.code, Some(code), "{args:?}: {printed:?}");
        let all = format!("{}{}", printed.stdout, printed.stderr);
        assert!(all.contains(says), "{args:?}: {says:?} is not in {all}");
    }
}

#[tokio::test]
async fn standard_input_and_directories_are_read_like_files() {
    let data = workspace().join("cli/tests/data");
    let file = data.join("external-ips.yaml");
    let yaml = std::fs::read_to_string(&file).unwrap();
    let without_file = |printed: &Printed| {
        let mut all = findings(printed);
        for finding in &mut all {
            finding["file"] = Value::Null;
        }
        all
    };
    let from_file = portreeve(&["lint", "-o", "json", file.to_str().unwrap()], "").await;
    let from_stdin = portreeve(&["lint", "-o", "json", "-"], &yaml).await;
    assert_eq!(without_file(&from_file), without_file(&from_stdin));
    assert!(findings(&from_stdin).iter().all(|finding| finding["file"] == "<stdin>"));
    assert_eq!((from_file.code, from_stdin.code), (Some(1), Some(1)));

    let run = RunDir::create("lint").unwrap();
    let deep = run.state().join("manifests/a/b");
    std::fs::create_dir_all(&deep).unwrap();
    for (name, text) in [("one.yml", yaml.as_str()), ("notes.txt", "not: [yaml"), ("b.json", "{\"kind\": \"Other\"}")] {
        std::fs::write(deep.join(name), text).unwrap();
    }
    let directory = run.state().join("manifests");
    let from_directory = portreeve(&["lint", "-o", "json", directory.to_str().unwrap()], "").await;
    assert_eq!(without_file(&from_file), without_file(&from_directory));
    assert!(findings(&from_directory).iter().all(|finding| text(finding, "file").ends_with("a/b/one.yml")));
}
