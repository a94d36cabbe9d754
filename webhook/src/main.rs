//! `portreeve-webhook`: reads its command line and runs.

use clap::Parser as _;
use portreeve_webhook::args::Args;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    portreeve_runtime::telemetry::init(&args.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    Ok(runtime.block_on(portreeve_webhook::run(args))?)
}
