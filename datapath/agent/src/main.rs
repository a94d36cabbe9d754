//! `portreeve-agent`: reads its command line and runs.

use clap::Parser as _;
use portreeve_agent::args::Args;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    portreeve_runtime::telemetry::init(&args.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(portreeve_agent::run::run(args))
}
