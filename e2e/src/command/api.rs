//! `portreeve-testbed api`.

use std::{ffi::OsString, process::ExitCode, time::Instant};

use anyhow::Result;
use portreeve_e2e::{
    api_tier,
    control_plane::{ControlPlane, ControlPlaneOptions},
    preflight::{self, Tier},
    progress::Progress,
    run_dir::RunDir,
};

use super::{Interrupts, run_for_user};

/// Options of `api`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Keep it until Ctrl-C, instead of taking it down as soon as it is ready
    #[arg(long)]
    hold: bool,
    /// Run this command with KUBECONFIG set, then take the API server down
    #[arg(last = true, conflicts_with = "hold")]
    command: Vec<OsString>,
}

pub(crate) async fn run(arguments: Arguments, interrupts: &mut Interrupts) -> Result<ExitCode> {
    preflight::check(Tier::Api)?;
    let assets = interrupts.or(async { Ok(api_tier::assets(Progress::Shown).await?) }).await?;
    let run = RunDir::create("api-command")?;
    let began = Instant::now();
    let start = ControlPlane::start(ControlPlaneOptions::new(assets, run.path()));
    let plane = interrupts.or(async { Ok(start.await?) }).await?;
    Progress::Shown.say(&format!(
        "API server {} ready in {:.1}s; logs in {}",
        plane.server(),
        began.elapsed().as_secs_f64(),
        plane.log_dir().display()
    ));
    println!("export KUBECONFIG={}", plane.kubeconfig().display());
    let code = if arguments.hold {
        Progress::Shown.say("Ctrl-C ends it");
        interrupts.next().await;
        ExitCode::SUCCESS
    } else if arguments.command.is_empty() {
        ExitCode::SUCCESS
    } else {
        let env = [
            ("KUBECONFIG", plane.kubeconfig().as_os_str().to_owned()),
            (api_tier::EXISTING, "1".into()),
            ("PATH", path_with(plane.program(portreeve_e2e::assets::Binary::Kubectl))),
        ];
        interrupts.or(run_for_user(&arguments.command, &env)).await?
    };
    plane.stop()?;
    Ok(code)
}

/// `PATH` with the matching kubectl first.
fn path_with(kubectl: std::path::PathBuf) -> OsString {
    let mut path = kubectl.parent().map_or_else(OsString::new, |dir| dir.as_os_str().to_owned());
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}
