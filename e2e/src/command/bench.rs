//! `portreeve-testbed bench`: what `make bench` measures on a real API server.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use portreeve_e2e::{
    bench,
    preflight::{self, Tier},
    progress::Progress,
};

use super::Interrupts;

/// Options of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where results are written, one JSON file each
    #[arg(long, default_value = "target/bench", value_name = "DIR")]
    out: PathBuf,
    /// The page whose table is renewed
    #[arg(long, default_value = "config/docs/benchmarks.md", value_name = "FILE")]
    page: PathBuf,
}

pub(crate) async fn run(arguments: &Arguments, interrupts: &mut Interrupts) -> Result<ExitCode> {
    preflight::check(Tier::Api)?;
    interrupts.or(bench::run(&arguments.out, &arguments.page, Progress::Shown)).await?;
    Ok(ExitCode::SUCCESS)
}
