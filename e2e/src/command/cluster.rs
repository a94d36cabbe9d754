//! `portreeve-testbed up`, `down`, `exec`, and the nodes' PID 1.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use portreeve_e2e::{
    assets::Assets,
    cluster::{self, Cluster, ClusterOptions, HeldCluster},
    node::{config::ProxyMode, init},
    preflight::{self, Tier},
    progress::Progress,
    run_dir,
};

use super::{Interrupts, run_for_user};

/// Options of `up`.
#[derive(Debug, clap::Args)]
pub(crate) struct UpArguments {
    /// Stay in the foreground until Ctrl-C; otherwise the cluster is left in the background until `down`
    #[arg(long)]
    hold: bool,
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// How kube-proxy writes its rules
    #[arg(long, value_enum, default_value_t = ProxyMode::default())]
    proxy_mode: ProxyMode,
    /// Load this OCI archive on every node; may be repeated
    #[arg(long = "image", value_name = "ARCHIVE")]
    images: Vec<PathBuf>,
    /// Run this command with KUBECONFIG set, then take the cluster down
    #[arg(last = true, conflicts_with = "hold")]
    command: Vec<OsString>,
}

/// Options of `exec`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExecArguments {
    /// The node: n1, n2, …
    node: String,
    /// The command
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

pub(crate) async fn up(arguments: UpArguments, interrupts: &mut Interrupts) -> Result<ExitCode> {
    preflight::check(Tier::Cluster)?;
    if !arguments.hold && arguments.command.is_empty() {
        return in_background().await;
    }
    let cluster = interrupts.or(bring_up(&arguments)).await?;
    println!("export KUBECONFIG={}", cluster.kubeconfig().display());
    if arguments.hold {
        cluster.hold().await?;
        return Ok(ExitCode::SUCCESS);
    }
    let env = [("KUBECONFIG", cluster.kubeconfig().as_os_str().to_owned())];
    let code = interrupts.or(run_for_user(&arguments.command, &env)).await;
    cluster.down().await?;
    code
}

async fn bring_up(arguments: &UpArguments) -> Result<Cluster> {
    let mut options =
        tokio::task::spawn_blocking(|| ClusterOptions::new(Assets::ensure(Progress::Shown)?, Progress::Shown))
            .await??;
    options.nodes = arguments.nodes;
    options.proxy_mode = arguments.proxy_mode;
    let cluster = Cluster::up(options).await?;
    for archive in &arguments.images {
        cluster.import_image(archive).await?;
    }
    Ok(cluster)
}

/// The same command again, with `--hold`, as the supervisor.
async fn in_background() -> Result<ExitCode> {
    let mut supervisor = Command::new(std::env::current_exe()?);
    supervisor.args(std::env::args_os().skip(1)).arg("--hold");
    let log = run_dir::root().join("supervisor.log");
    fs::create_dir_all(run_dir::root())?;
    let step = Progress::Shown.step(format!("bring the cluster up; log {}", log.display()));
    let held = cluster::detach(supervisor, &log, || Ok(())).await?;
    step.done();
    println!("export KUBECONFIG={}", held.kubeconfig.display());
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn down() -> Result<ExitCode> {
    let ended = cluster::down().await?;
    println!("{ended} cluster(s) taken down");
    Ok(ExitCode::SUCCESS)
}

pub(crate) async fn exec(arguments: ExecArguments) -> Result<ExitCode> {
    let clusters = cluster::held()?;
    let [HeldCluster { dir, .. }] = clusters.as_slice() else {
        bail!("{} clusters are up; exec needs exactly one (`portreeve-testbed up`)", clusters.len());
    };
    let pid = init_of(dir, &arguments.node)?.with_context(|| format!("no running node {}", arguments.node))?;
    let mut words: Vec<OsString> =
        ["nsenter", "--target", &pid.to_string(), "--mount", "--uts", "--ipc", "--net", "--pid", "--"]
            .map(Into::into)
            .to_vec();
    words.extend(arguments.command);
    run_for_user(&words, &[]).await
}

/// The pid of a node's PID 1: the process `… node-init PLAN` whose plan lies in `dir` and names the node.
fn init_of(dir: &Path, node: &str) -> Result<Option<u32>> {
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Processes come and go while we look; one that is gone is not the node.
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let words: Vec<_> = line.split(|&byte| byte == 0).map(String::from_utf8_lossy).collect();
        let [_, subcommand, plan, ..] = words.as_slice() else { continue };
        if subcommand != "node-init" || !Path::new(plan.as_ref()).starts_with(dir) {
            continue;
        }
        let plan: init::InitPlan = serde_json::from_slice(&fs::read(plan.as_ref())?)?;
        if plan.name == node {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

pub(crate) fn node_init(plan: &Path) -> Result<ExitCode> {
    init::run(plan)?;
    Ok(ExitCode::SUCCESS)
}
