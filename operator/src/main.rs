//! The operator's process; everything is in the library.

use clap::Parser as _;
use portreeve_operator::{args::RunArgs, run};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    run(RunArgs::parse()).await
}
