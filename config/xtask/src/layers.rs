//! The arrows of the house: who may depend on whom.
//!
//! The rule book is `[workspace.metadata.layers]` in the root manifest. Three things are checked, from `cargo metadata`
//! (so what is checked is what is built): an arrow between two rooms must be listed by the upper one; it must point down,
//! but for that of a room's tests to a proof; a pure room may not depend, even in part, on a client, an async runtime, a
//! clock source, a file or network crate, or randomness. Dev-dependencies are exempt from the ban list, not from the arrows.

use anyhow::{Context as _, Result, bail};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layer {
    layer: u8,
    pure: bool,
    may_use: Vec<String>,
}

type RuleBook = BTreeMap<String, Layer>;

/// Crates that a pure room may not name among its dependencies, each with what it would let in.
const IMPURE: &[(&str, &str)] = &[
    ("tokio", "an async runtime"),
    ("async-std", "an async runtime"),
    ("futures", "async code"),
    ("kube-client", "a Kubernetes client"),
    ("kube-runtime", "a Kubernetes client"),
    ("hyper", "the network"),
    ("axum", "the network"),
    ("reqwest", "the network"),
    ("rand", "randomness"),
    ("getrandom", "randomness"),
    ("nix", "the operating system"),
    ("libc", "the operating system"),
    ("tempfile", "files"),
];

/// Features of `kube` that bring a client with them.
const CLIENT_FEATURES: &[&str] = &["client", "runtime", "config", "rustls-tls", "aws-lc-rs", "default", "ws", "gzip"];

/// The layer of proofs, whose rooms may know all others.
const PROOFS: u8 = 4;

/// Whether it is only a room's tests that use a proof.
fn proves(kind: DependencyKind, lower: &Layer) -> bool {
    kind == DependencyKind::Development && lower.layer == PROOFS
}

/// Checks the workspace under `root`; the error lists every arrow that is wrong.
pub(crate) fn run(root: &Path) -> Result<()> {
    let metadata = MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec()?;
    let book: RuleBook = serde_json::from_value(metadata.workspace_metadata.get("layers").cloned().unwrap_or_default())
        .context("[workspace.metadata.layers] in Cargo.toml")?;
    let wrong = violations(&metadata, &book);
    if wrong.is_empty() {
        println!("layers: {} rooms, every arrow points down", book.len());
        return Ok(());
    }
    bail!(
        "layers: {} wrong\n  {}\nThe rule book is [workspace.metadata.layers] in Cargo.toml.",
        wrong.len(),
        wrong.join("\n  ")
    )
}

fn violations(metadata: &Metadata, book: &RuleBook) -> Vec<String> {
    let mut wrong = Vec::new();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let Some(rule) = book.get(name) else {
            wrong.push(format!("{name}: has no entry, so nobody knows its layer"));
            continue;
        };
        for dependency in &package.dependencies {
            let target = dependency.name.as_str();
            if let Some(lower) = book.get(target) {
                if !rule.may_use.iter().any(|allowed| allowed == target || allowed == "*") {
                    wrong.push(format!("{name} → {target}: not listed in its may_use"));
                } else if lower.layer >= rule.layer && rule.layer < PROOFS && !proves(dependency.kind, lower) {
                    wrong.push(format!(
                        "{name} (layer {}) → {target} (layer {}): must point down",
                        rule.layer, lower.layer
                    ));
                }
            }
            if !rule.pure || dependency.kind == DependencyKind::Development {
                continue;
            }
            if let Some((_, lets_in)) = IMPURE.iter().find(|(banned, _)| *banned == target) {
                wrong.push(format!("{name} is pure, but {target} lets in {lets_in}"));
            }
            if target == "kube" {
                let features = dependency.features.iter().filter(|f| CLIENT_FEATURES.contains(&f.as_str()));
                wrong.extend(
                    features.map(|f| format!("{name} is pure, but kube's feature `{f}` lets in a Kubernetes client")),
                );
                if dependency.uses_default_features {
                    wrong.push(format!("{name} is pure, but kube's default features let in a Kubernetes client"));
                }
            }
        }
    }
    let rooms: Vec<&str> = metadata.workspace_packages().iter().map(|package| package.name.as_str()).collect();
    wrong.extend(
        book.keys()
            .filter(|room| !rooms.contains(&room.as_str()))
            .map(|room| format!("{room}: in the rule book, but no such crate")),
    );
    wrong
}
