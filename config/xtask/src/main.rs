//! `cargo xtask`: what keeps the house in order.
//!
//! - `gen`: writes every generated file (CRDs, RBAC, plain YAML, Helm templates, dashboards, alerts, rule and CLI docs);
//!   with `--check` it writes nothing and fails if a file on disk differs.
//! - `layers`: checks the dependency arrows of the workspace and the purity of the pure rooms.
//! - `orphans`: checks that every `.rs` file is reached from a crate root, and that none is longer than 800 lines.
//! - `check`: all of it, then formatting, clippy and cargo-deny; what `make test` runs first.
#![allow(clippy::print_stdout, reason = "a command line tool: its output is its product")]

mod check;
mod generate;
mod layers;
mod orphans;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use std::path::PathBuf;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Keeps the house in order")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write every generated file
    Gen {
        /// Write nothing; fail if a file on disk differs from what would be written
        #[arg(long)]
        check: bool,
    },
    /// Check the dependency arrows of the workspace
    Layers,
    /// Check that every source file is reached from a crate root
    Orphans,
    /// Run every check: layers, orphans, generated files, formatting, clippy, cargo-deny
    Check,
}

fn main() -> Result<()> {
    let root = workspace_root()?;
    match Cli::parse().command {
        Command::Gen { check } => generate::run(&root, check),
        Command::Layers => layers::run(&root),
        Command::Orphans => orphans::run(&root),
        Command::Check => check::run(&root),
    }
}

fn workspace_root() -> Result<PathBuf> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(PathBuf::from).context("invariant: xtask lives two folders below the workspace root")
}
