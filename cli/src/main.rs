//! The `kubectl-portreeve` command; kubectl finds it on PATH as `kubectl portreeve`.

use clap::Parser as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    kubectl_portreeve::run(kubectl_portreeve::Cli::parse()).await.into()
}
