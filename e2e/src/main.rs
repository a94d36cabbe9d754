//! `portreeve-testbed`: the testbed by hand. Tests use the library; this is for people and for the Makefile.
#![allow(clippy::print_stdout, reason = "a command prints its result; progress and errors go to stderr")]

use std::{ffi::OsString, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Result;
use clap::{Parser, Subcommand};
use portreeve_e2e::{
    assets::Assets,
    preflight::{self, Tier},
    progress::Progress,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

mod command;
use command::{api, bench, cluster, demo, image};

/// A real Kubernetes for Portreeve's tests, from nothing but Go modules and Debian packages.
///
/// Files go to target/testbed (PORTREEVE_TESTBED_DIR) and ~/.cache/portreeve (XDG_CACHE_HOME; PORTREEVE_ASSETS names a
/// directory of ready programs instead). Everything that is started is ended with the command, even when that is
/// killed.
#[derive(Debug, Parser)]
#[command(name = "portreeve-testbed", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build the Go programs into the cache, unless they are there
    Assets,
    /// Build the container images
    Image(image::Arguments),
    /// Start an API server (with etcd, controllers, scheduler) on loopback; no root needed
    Api(api::Arguments),
    /// Start the cluster of nodes in network namespaces (root)
    Up(cluster::UpArguments),
    /// Play the main job, act by act, on a cluster of its own (root)
    Demo(demo::Arguments),
    /// Measure control plane and data path at 10,000 Services, beside their peers
    Bench(bench::Arguments),
    /// End the cluster that `up` or `demo --keep` left in the background
    Down,
    /// Run a command inside a node of the running cluster
    Exec(cluster::ExecArguments),
    /// PID 1 of a node; started by the testbed itself
    #[command(hide = true)]
    NodeInit {
        /// What to do, as JSON
        plan: PathBuf,
    },
    /// Say what this machine lacks for the cluster
    Preflight,
}

/// The client library calls every unanswered question an error, and we ask until the API server is ready.
const LOG: &str = "warn,kube_client::client::builder=off";
/// What a shell reports for a command ended by SIGINT.
const INTERRUPTED: u8 = 130;
/// How long helper threads may take to end before the process ends anyhow: what they started ends with it.
const LINGER: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG));
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    let command = Arguments::parse().command;
    // PID 1 of a node is single-threaded and blocking; it must not start a runtime.
    let outcome =
        if let Command::NodeInit { plan } = command { cluster::node_init(&plan) } else { asynchronous(command) };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn asynchronous(command: Command) -> Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    let outcome = runtime.block_on(async {
        let mut interrupts = Interrupts::new()?;
        run(command, &mut interrupts).await
    });
    runtime.shutdown_timeout(LINGER);
    match outcome {
        Err(error) if error.is::<Interrupted>() => Ok(ExitCode::from(INTERRUPTED)),
        outcome => outcome,
    }
}

/// SIGINT and SIGTERM, each of which asks for an orderly end.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

/// The user asked for the end.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
struct Interrupted;

impl Interrupts {
    fn new() -> Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for one.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// The outcome of `work`, or [`Interrupted`]; dropping the work ends what it has started.
    async fn or<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            outcome = work => outcome,
            () = self.next() => Err(Interrupted.into()),
        }
    }
}

async fn run(command: Command, interrupts: &mut Interrupts) -> Result<ExitCode> {
    match command {
        Command::Assets => {
            preflight::check(Tier::Api)?;
            let build = async { Ok(tokio::task::spawn_blocking(|| Assets::ensure(Progress::Shown)).await??) };
            println!("{}", interrupts.or(build).await?.dir().display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Image(arguments) => interrupts.or(image::run(arguments)).await,
        Command::Api(arguments) => api::run(arguments, interrupts).await,
        Command::Up(arguments) => cluster::up(arguments, interrupts).await,
        Command::Demo(arguments) => demo::run(&arguments, interrupts).await,
        Command::Bench(arguments) => bench::run(&arguments, interrupts).await,
        Command::Down => cluster::down().await,
        Command::Exec(arguments) => interrupts.or(cluster::exec(arguments)).await,
        Command::NodeInit { plan } => cluster::node_init(&plan),
        Command::Preflight => {
            preflight::check(Tier::Cluster)?;
            println!("nothing is missing");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs a user's command to its end; it dies with us.
async fn run_for_user(words: &[OsString], env: &[(&str, OsString)]) -> Result<ExitCode> {
    let status = tokio::process::Command::new(&words[0])
        .args(&words[1..])
        .envs(env.iter().map(|(key, value)| (key, value)))
        .kill_on_drop(true)
        .status()
        .await
        .map_err(|error| anyhow::anyhow!("run {}: {error}", words[0].display()))?;
    // Ended by a signal: no code, and a failure.
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
