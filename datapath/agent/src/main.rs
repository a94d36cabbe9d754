//! `portreeve-agent`: reads its command line and runs, or asks the agent that runs.

use clap::Parser as _;
use portreeve_agent::args::{Args, Command};
use std::process::ExitCode;

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    if let Some(Command::Ask(args)) = &args.command {
        // One sentence for whoever asked, and no backtrace.
        return Ok(portreeve_agent::ask(args).map_or_else(
            |error| {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            },
            |()| ExitCode::SUCCESS,
        ));
    }
    portreeve_runtime::telemetry::init(&args.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(portreeve_agent::run::run(args))?;
    Ok(ExitCode::SUCCESS)
}
