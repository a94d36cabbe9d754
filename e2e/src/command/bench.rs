//! `portreeve-testbed bench`: what `make bench` measures on a real API server and on real packets.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use portreeve_e2e::{
    bench::{self, Part, Settings},
    preflight::{self, Tier},
    progress::Progress,
};

use super::Interrupts;

/// Options of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Parts to measure; all without this
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART,…")]
    only: Vec<Part>,
    /// Numbers of Services at which the data path is measured
    #[arg(long, value_delimiter = ',', default_values_t = [1, 1_000, 10_000], value_name = "N,…")]
    services: Vec<usize>,
    /// Rounds of the data path: ten cycles, in each of which every variant takes a turn of 25 ms; forty changes or 5 s
    #[arg(long, default_value_t = 5, value_name = "N")]
    rounds: usize,
    /// Where results are written, one JSON file each
    #[arg(long, default_value = "target/bench", value_name = "DIR")]
    out: PathBuf,
    /// The page whose tables are renewed; charts are written beside it
    #[arg(long, default_value = "config/docs/benchmarks.md", value_name = "FILE")]
    page: PathBuf,
}

pub(crate) async fn run(arguments: &Arguments, interrupts: &mut Interrupts) -> Result<ExitCode> {
    let Arguments { only, services, rounds, out, page } = arguments;
    let settings = Settings {
        only: only.clone(),
        services: services.clone(),
        rounds: *rounds,
        out: out.clone(),
        page: page.clone(),
    };
    preflight::check(if settings.asks_any(Part::has_nodes) { Tier::Cluster } else { Tier::Api })?;
    interrupts.or(bench::run(&settings, Progress::Shown)).await?;
    Ok(ExitCode::SUCCESS)
}
