//! Every check in one go, cheapest first; all of them run even if an early one fails, so that one run tells everything.

use crate::{generate, layers, orphans};
use anyhow::{Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs every check on the workspace under `root`.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut failed = Vec::new();
    let mut note = |name: &str, result: Result<()>| {
        if let Err(error) = result {
            println!("FAILED {name}: {error:#}\n");
            failed.push(name.to_owned());
        }
    };
    note("layers", layers::run(root));
    note("orphans", orphans::run(root));
    note("generated files", generate::run(root, true));
    note("formatting", command(root, "cargo", &["fmt", "--all", "--check"]));
    note("cargo-deny", command(root, &cargo_deny(), &["--log-level", "error", "check", "bans", "licenses", "sources"]));
    note(
        "clippy",
        command(root, "cargo", &["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]),
    );
    if failed.is_empty() {
        println!("check: everything in order");
        return Ok(());
    }
    bail!("check: {} failed: {}", failed.len(), failed.join(", "))
}

/// cargo-deny from the tool cache that the Makefile fills, or from PATH.
fn cargo_deny() -> String {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    cache
        .map(|cache| cache.join("portreeve/tools/bin/cargo-deny"))
        .filter(|path| path.is_file())
        .map_or_else(|| "cargo-deny".to_owned(), |path| path.display().to_string())
}

fn command(root: &Path, program: &str, args: &[&str]) -> Result<()> {
    let status = Command::new(program).args(args).current_dir(root).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("`{program} {}` ended with {status}", args.join(" ")),
        Err(error) => bail!("`{program}` cannot be run ({error}); `make setup` installs it"),
    }
}
