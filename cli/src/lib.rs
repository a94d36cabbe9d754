//! `kubectl portreeve`: the engines of the webhook and the operator, on files and on a live cluster.
//!
//! This room knows how to read manifests (with the place of every field), how to ask a cluster, and how to speak to
//! people and to scripts. It decides nothing itself: findings come from `portreeve-policy`, the same code that admission
//! runs, and where a packet goes from `portreeve-table`, the model that the data path is tested against. It may not know
//! any data-path backend.
#![allow(
    clippy::print_stderr,
    reason = "a command line tool: what went wrong is for people; what it says goes through `output`"
)]

mod agents;
pub mod args;
mod balance;
mod cluster;
mod diff;
mod exit;
mod explain;
pub mod lint;
mod migrate;
mod output;
pub mod rbac;
mod reference;
pub mod source;
mod status;
mod text;
mod world;

pub use args::Cli;
pub use exit::Exit;
pub use reference::reference;

use args::Command;

/// Runs one command line; what it prints goes to stdout, what went wrong to stderr.
pub async fn run(cli: Cli) -> Exit {
    let result = match cli.command {
        Command::Lint(args) => lint::run(args, &cli.cluster, cli.color).await,
        Command::Explain(args) => explain::run(&args, &cli.cluster).await,
        Command::Balance(args) => balance::run(&args, &cli.cluster).await,
        Command::Diff(args) => diff::run(&args, &cli.cluster).await,
        Command::Migrate(args) => migrate::run(args.command, &cli.cluster).await,
        Command::Status(args) => status::run(&args, &cli.cluster).await,
    };
    result.unwrap_or_else(|failure| {
        eprintln!("error: {failure}");
        failure.exit()
    })
}
