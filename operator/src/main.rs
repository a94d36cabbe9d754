//! The operator's process; everything is in the library.

use portreeve_operator::{args::Program, run};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Program::parse(std::env::args_os()) {
        Ok(program) => run(program).await,
        Err(error) => error.exit(),
    }
}
