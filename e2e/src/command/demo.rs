//! `portreeve-testbed demo`: the main job, act by act.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use portreeve_e2e::{
    demo,
    node::config::ProxyMode,
    preflight::{self, Tier},
    run_dir,
};

use super::Interrupts;

/// Options of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Leave the cluster up when the acts are over
    #[arg(long)]
    keep: bool,
    /// Hold the cluster in this process; what `--keep` starts in the background
    #[arg(long, hide = true, conflicts_with = "keep")]
    hold: bool,
    /// Only these acts, by id, and the installation; all when absent
    #[arg(long, value_delimiter = ',', value_name = "ACT")]
    only: Vec<String>,
    /// kube-proxy's mode
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    proxy_mode: ProxyMode,
    /// Where `report.json` is written
    #[arg(long, default_value = "target/demo", value_name = "DIR")]
    out: PathBuf,
}

pub(crate) async fn run(arguments: &Arguments, interrupts: &mut Interrupts) -> Result<ExitCode> {
    preflight::check(Tier::Cluster)?;
    if arguments.keep {
        return keep(arguments, interrupts).await;
    }
    let play = demo::Play { keep: arguments.hold, only: arguments.only.clone(), proxy_mode: arguments.proxy_mode };
    let (report, cluster) = interrupts.or(demo::play(&play, &arguments.out)).await?;
    if let Some(cluster) = cluster {
        cluster.hold().await?;
    }
    Ok(verdict(report.passed))
}

async fn keep(arguments: &Arguments, interrupts: &mut Interrupts) -> Result<ExitCode> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.args(std::env::args_os().skip(1).filter(|argument| argument != "--keep")).arg("--hold");
    std::fs::create_dir_all(run_dir::root())?;
    let held = interrupts.or(demo::in_background(command, &run_dir::root().join("demo.log"))).await?;
    println!(
        "\nThe cluster stays up. Look around:\n  export KUBECONFIG={}\nStop it:\n  make demo-down",
        held.kubeconfig.display()
    );
    // Written by the process that holds the cluster, before it announced it.
    Ok(verdict(demo::passed(&arguments.out)?))
}

fn verdict(passed: bool) -> ExitCode {
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
