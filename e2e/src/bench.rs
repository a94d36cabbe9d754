//! What `make bench` measures: on a real API server admission beside an echo, the operator at 10,000 Services and hand-overs;
//! on real packets the data path beside kube-proxy.
//!
//! Every row stands beside its peer in the same run, in short slices that take turns, so that both see the same machine.
//! Nothing here asserts a time: the goal stands beside the figure, and the table says which is met.

mod admission;
mod data_path;
mod handover;
mod operator;
mod programs;
mod row;
mod table;
mod world;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use self::programs::Programs;
pub use self::row::Row;
use crate::assets::Assets;
use crate::control_plane::{ControlPlane, ControlPlaneOptions};
use crate::progress::Progress;
use crate::run_dir::RunDir;

/// What can be measured by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// How long nobody leads when a leader goes.
    Handover,
    /// Writes through the API server with and without our webhook.
    Admission,
    /// The operator beside 10,000 Services.
    Operator,
    /// New connections a second, all variants of the data path in turn.
    Connections,
    /// One byte there and back over an open connection.
    RequestResponse,
    /// SYN to SYN-ACK.
    FirstPacket,
    /// Bytes one way with offloads off.
    Stream,
    /// API write to packet, CPU per update, start, memory: kube-proxy and our agent, one after the other.
    Updates,
}

impl Part {
    /// Whether it needs nodes, and so root.
    pub const fn has_nodes(self) -> bool {
        !matches!(self, Self::Handover | Self::Admission | Self::Operator)
    }
}

/// What is measured, and where results go.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Parts; without any, all.
    pub only: Vec<Part>,
    /// Numbers of Services at which the data path is measured.
    pub services: Vec<usize>,
    /// Rounds of ten cycles of slices.
    pub rounds: usize,
    /// One JSON file for each row goes here.
    pub out: PathBuf,
    /// The page whose tables are renewed; charts go beside it.
    pub page: PathBuf,
}

impl Settings {
    /// Whether a part is asked for.
    pub fn asks(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// Whether any part is asked for that fits.
    pub fn asks_any(&self, fits: impl Fn(Part) -> bool) -> bool {
        use clap::ValueEnum as _;
        Part::value_variants().iter().any(|part| fits(*part) && self.asks(*part))
    }
}

/// What the scenarios have at hand.
struct Bench {
    plane: ControlPlane,
    client: kube::Client,
    programs: Programs,
    run: RunDir,
    progress: Progress,
}

/// Runs every part that is asked for, writes its results below `out`, and the tables of all results there into the page.
pub async fn run(settings: &Settings, progress: Progress) -> Result<()> {
    let programs = Programs::beside_us()?;
    let assets = tokio::task::spawn_blocking(move || Assets::ensure(progress)).await??;
    if settings.asks_any(|part| !part.has_nodes()) {
        control_plane(settings, assets.clone(), programs.clone(), progress).await?;
    }
    if settings.asks_any(Part::has_nodes) {
        data_path::measure(settings, assets, &programs, progress).await.context("data path")?;
    }
    table::write(&settings.out, &settings.page)?;
    data_path::write(&settings.out, &settings.page)
}

async fn control_plane(settings: &Settings, assets: Assets, programs: Programs, progress: Progress) -> Result<()> {
    let run = RunDir::create("bench")?;
    let mut options = ControlPlaneOptions::new(assets, run.path());
    // Nobody but us writes: the controllers would make EndpointSlices of their own.
    (options.with_controller_manager, options.with_scheduler) = (false, false);
    // Each of the 10,000 Local Services takes a health check node port.
    options.extra_apiserver_args.push("--service-node-port-range=10000-32767".to_owned());
    let plane = ControlPlane::start(options).await?;
    let client = plane.client().await?;
    plane.kubectl(&["apply", "--server-side", "--filename", world::CRDS]).await.context("applying the CRDs")?;
    let bench = Bench { plane, client, programs, run, progress };

    let mut rows = Vec::new();
    if settings.asks(Part::Handover) {
        rows.extend(handover::measure(&bench).await.context("hand-over")?);
    }
    if settings.asks(Part::Admission) || settings.asks(Part::Operator) {
        world::fill(&bench).await.context("filling the cluster")?;
    }
    if settings.asks(Part::Admission) {
        rows.extend(admission::measure(&bench).await.context("admission")?);
    }
    if settings.asks(Part::Operator) {
        rows.extend(operator::measure(&bench).await.context("operator at scale")?);
    }
    for row in &rows {
        row.write(&settings.out)?;
        progress.say(&row.line());
    }
    Ok(bench.plane.stop()?)
}
