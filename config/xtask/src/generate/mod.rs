//! Generated files: one function per family turns what the rooms declare into text; this module writes or compares.
//!
//! Nothing here invents: CRDs come from `crds`, RBAC from each room's `rbac` module, rules from the policy engine, the
//! command line reference from the CLI's own parser.

mod alerts;
mod crds;
mod dashboards;
mod docs;
mod install;
mod objects;
mod promql;
mod render;

use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Generated files by path relative to the workspace root.
type Files = BTreeMap<String, String>;

/// Folders in which every file is generated: one that no generator writes any more is stale.
const OWNED: &[&str] =
    &["crds/manifests", "config/rbac", "config/dashboards", "config/alerts", "config/helm/portreeve/crds"];

/// Writes every generated file under `root`, or with `check` compares and changes nothing.
pub(crate) fn run(root: &Path, check: bool) -> Result<()> {
    let mut files = Files::new();
    crds::add(&mut files)?;
    install::add(&mut files)?;
    docs::add(&mut files);
    dashboards::add(&mut files)?;
    alerts::add(&mut files)?;

    let mut differing = Vec::new();
    for (path, text) in &files {
        let on_disk = fs::read_to_string(root.join(path)).unwrap_or_default();
        if on_disk == *text {
            continue;
        }
        differing.push(path.clone());
        if !check {
            let target = root.join(path);
            let folder = target.parent().context("invariant: a generated file lies in a folder")?;
            fs::create_dir_all(folder)?;
            fs::write(&target, text).with_context(|| path.clone())?;
        }
    }
    for stale in stale_files(root, &files)? {
        if !check {
            fs::remove_file(root.join(&stale))?;
        }
        differing.push(format!("{stale} (no longer generated)"));
    }
    match (check, differing.is_empty()) {
        (_, true) => println!("gen: {} files, all up to date", files.len()),
        (false, false) => println!("gen: wrote {}", differing.join(", ")),
        (true, false) => bail!("out of date: {}. Run `make gen` and commit the result.", differing.join(", ")),
    }
    Ok(())
}

fn stale_files(root: &Path, files: &Files) -> Result<Vec<String>> {
    let mut stale = Vec::new();
    for folder in OWNED {
        let Ok(entries) = fs::read_dir(root.join(folder)) else { continue };
        for entry in entries {
            let path = format!("{folder}/{}", entry?.file_name().to_string_lossy());
            if !files.contains_key(&path) {
                stale.push(path);
            }
        }
    }
    Ok(stale)
}
