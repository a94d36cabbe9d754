//! What `make bench` measures on a real API server: admission beside an echo, the operator at 10,000 Services, hand-overs.
//!
//! Every row stands beside its peer in the same run, in short slices that take turns, so that both see the same machine.
//! Nothing here asserts a time: the goal stands beside the figure, and the table says which is met.

mod admission;
mod handover;
mod operator;
mod programs;
mod row;
mod table;
mod world;

use std::path::Path;

use anyhow::{Context as _, Result};

use self::programs::Programs;
pub use self::row::Row;
use crate::assets::Assets;
use crate::control_plane::{ControlPlane, ControlPlaneOptions};
use crate::progress::Progress;
use crate::run_dir::RunDir;

/// What the scenarios have at hand.
struct Bench {
    plane: ControlPlane,
    client: kube::Client,
    programs: Programs,
    run: RunDir,
    progress: Progress,
}

/// Runs every scenario, writes `OUT/*.json`, and the table of all results there into `page`.
pub async fn run(out: &Path, page: &Path, progress: Progress) -> Result<()> {
    let programs = Programs::beside_us()?;
    let assets = tokio::task::spawn_blocking(move || Assets::ensure(progress)).await??;
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

    let mut rows = handover::measure(&bench).await.context("hand-over")?;
    world::fill(&bench).await.context("filling the cluster")?;
    rows.extend(admission::measure(&bench).await.context("admission")?);
    rows.extend(operator::measure(&bench).await.context("operator at scale")?);
    for row in &rows {
        row.write(out)?;
        progress.say(&row.line());
    }
    bench.plane.stop()?;
    table::write(out, page)
}
