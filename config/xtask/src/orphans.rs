//! Every `.rs` file must be reached by a `mod` line (or be a target of its crate), and be at most 800 lines long.
//!
//! A file that no `mod` names is not compiled: its tests never run and nobody notices.

use anyhow::{Context as _, Result, bail};
use cargo_metadata::MetadataCommand;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const LONGEST: usize = 800;

/// Checks every crate of the workspace under `root`.
pub(crate) fn run(root: &Path) -> Result<()> {
    let metadata = MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec()?;
    let (mut reached, mut present) = (BTreeSet::new(), BTreeSet::new());
    for package in metadata.workspace_packages() {
        for target in &package.targets {
            follow(target.src_path.as_std_path(), true, &mut reached)?;
        }
        let folder = package.manifest_path.parent().context("invariant: a manifest lies in a folder")?;
        for part in ["src", "tests", "benches", "examples"] {
            collect(&folder.join(part).into_std_path_buf(), &mut present)?;
        }
    }
    let orphans: Vec<_> =
        present.difference(&reached).map(|path| format!("{} is reached by no `mod`", shown(root, path))).collect();
    let mut wrong = orphans;
    for path in &present {
        let lines = fs::read_to_string(path)?.lines().count();
        if lines > LONGEST {
            wrong.push(format!("{} has {lines} lines; {LONGEST} is the most", shown(root, path)));
        }
    }
    if wrong.is_empty() {
        println!("orphans: {} files, every one reached, none over {LONGEST} lines", present.len());
        return Ok(());
    }
    bail!("orphans: {} wrong\n  {}", wrong.len(), wrong.join("\n  "))
}

fn shown(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string()
}

fn collect(folder: &Path, into: &mut BTreeSet<PathBuf>) -> Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // Fixtures are data, whatever their names end in.
        if path.is_dir() && path.file_name().is_some_and(|name| name != "data" && name != "snapshots") {
            collect(&path, into)?;
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            into.insert(path);
        }
    }
    Ok(())
}

/// Adds `file` and everything its `mod name;` lines reach. `root_like` files (crate roots, `mod.rs`) look for children
/// beside themselves, others in a folder of their own name.
fn follow(file: &Path, root_like: bool, reached: &mut BTreeSet<PathBuf>) -> Result<()> {
    if !reached.insert(file.to_path_buf()) {
        return Ok(());
    }
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let parent = file.parent().context("invariant: a source file lies in a folder")?;
    let folder = if root_like { parent.to_path_buf() } else { file.with_extension("") };
    let mut explicit: Option<PathBuf> = None;
    for line in text.lines().map(str::trim) {
        if let Some(path) = line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]")) {
            explicit = Some(parent.join(path));
            continue;
        }
        let Some(name) = module_name(line) else { continue };
        let (beside, inside) = (folder.join(format!("{name}.rs")), folder.join(name).join("mod.rs"));
        match explicit.take() {
            Some(path) => follow(&path, true, reached)?,
            None if beside.is_file() => follow(&beside, false, reached)?,
            None if inside.is_file() => follow(&inside, true, reached)?,
            None => bail!("{}: `mod {name};` names no file", file.display()),
        }
    }
    Ok(())
}

/// The module that a line such as `pub(crate) mod name;` declares in another file.
fn module_name(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("#[cfg(test)] ").unwrap_or(line);
    let rest = match rest.strip_prefix("pub") {
        Some(after) if after.starts_with('(') => after.split_once(')')?.1.trim_start(),
        Some(after) => after.trim_start(),
        None => rest,
    };
    let name = rest.strip_prefix("mod ")?.strip_suffix(';')?;
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some(name)
}
