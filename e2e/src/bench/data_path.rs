//! The data path beside its peers: plain routing, kube-proxy in both its modes, our agent with each of its engines.
//!
//! Every variant is a node of its own with the same addresses, the same Services and its own client and Pods; all are there
//! at once and take turns in slices of 25 ms, and what is compared lies in the same cycle. What a change costs is measured
//! of one daemon at a time. Nothing here asserts a time.

mod chart;
mod daemons;
mod node;
mod packets;
mod page;
mod plan;
mod rows;
#[cfg(test)]
mod sample;
mod server;
mod slices;
mod statistics;
mod turns;
mod updates;
mod usage;
mod variant;
mod worker;
mod world;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use self::rows::Wide;
use self::slices::Kind;
use self::world::World;
use super::programs::Programs;
use super::{Part, Settings, table};
use crate::assets::Assets;
use crate::control_plane::ControlPlane;
use crate::progress::Progress;
use crate::run_dir::{self, RunDir};
use crate::teardown::{self, Supervisor};

/// Name of the run's directory; what a killed run left is found by it.
const RUN: &str = "bench-data-path";
/// The only size at which streams are measured: they do not know of Services.
const STREAM_AT: usize = 1_000;

/// Runs the parts of the data path that are asked for, and writes each size's rows as soon as they are there.
pub(super) async fn measure(
    settings: &Settings,
    assets: Assets,
    programs: &Programs,
    progress: Progress,
) -> Result<()> {
    let most = settings.services.iter().copied().max().unwrap_or(0);
    ensure!(most <= plan::MOST_SERVICES, "at most {} Services can be told apart", plan::MOST_SERVICES);
    for dir in teardown::runs_of(&run_dir::root(), RUN)? {
        if !Supervisor::read(&dir)?.is_some_and(|owner| owner.is_alive()) {
            let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
            teardown::sweep(&name, &dir)?;
        }
    }
    let run = RunDir::create(RUN)?;
    Supervisor::this().write(run.path())?;
    let cp = node::control_plane(run.path())?;
    let plane = ControlPlane::start(world::options(assets, &run, &cp)).await?;
    let (client, agent, settings) = (plane.client().await?, programs.agent.clone(), settings.clone());
    let runtime = tokio::runtime::Handle::current();
    worker::run(move |stop| {
        let mut world = World::new(plane, client, runtime, stop, progress, agent, (cp, run))?;
        sizes(&mut world, &settings)
    })
    .await
}

fn sizes(world: &mut World, settings: &Settings) -> Result<()> {
    let mut services = settings.services.clone();
    services.sort_unstable();
    for &services in &services {
        world.grow(services)?;
        // One Service is no load, and its change is that of one among many.
        if settings.asks(Part::Updates) && services > 1 {
            let measured = updates::measure(world, services, settings.rounds);
            keep(world, settings, &measured.with_context(|| format!("updates at {services}"))?)?;
        }
        let kinds: Vec<Kind> = [
            (Part::Connections, Kind::Connections),
            (Part::RequestResponse, Kind::RequestResponse),
            (Part::FirstPacket, Kind::FirstPacket),
            (Part::Stream, Kind::Stream),
        ]
        .into_iter()
        .filter(|(part, kind)| settings.asks(*part) && (*kind != Kind::Stream || streams_at(settings, services)))
        .map(|(_, kind)| kind)
        .collect();
        if !kinds.is_empty() {
            let measured = packets::measure(world, services, &kinds, settings.rounds);
            keep(world, settings, &measured.with_context(|| format!("packets at {services}"))?)?;
        }
    }
    Ok(())
}

/// What has been measured stays, whatever becomes of the rest.
fn keep(world: &World, settings: &Settings, rows: &[Wide]) -> Result<()> {
    for row in rows {
        row.write(&settings.out.join("data-path"))?;
        world.progress.say(&format!("{} {}", row.line(), page::verdict(row)));
    }
    Ok(())
}

/// At [`STREAM_AT`] or, in a run without that size, at the largest.
fn streams_at(settings: &Settings, services: usize) -> bool {
    let has = settings.services.contains(&STREAM_AT);
    services == if has { STREAM_AT } else { settings.services.iter().copied().max().unwrap_or(0) }
}

/// Objects that an agent lists at this size: Services, slices, directives, the node and its configuration.
const fn objects(services: usize) -> usize {
    3 * services + 2
}

/// Renews the page's tables and the charts beside it from every row in `out`.
pub(super) fn write(out: &Path, page: &Path) -> Result<()> {
    let rows = Wide::read_all(&out.join("data-path"))?;
    if rows.is_empty() {
        return Ok(());
    }
    let beside = page.parent().unwrap_or(Path::new("."));
    let drawn = chart::draw(&rows)?;
    for (chart, text) in &drawn {
        let path = beside.join(chart.file);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    let charts: Vec<_> = drawn.iter().map(|(chart, _)| *chart).collect();
    let text = format!("{}{}", page::tables(&rows), page::pictures(&charts));
    table::replace(page, (page::BEGIN, page::END), &text)
}
