//! What a change of the API costs and how soon packets follow it: one daemon at a time, so that none waits for another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use super::daemons::{Programmed, Worked, await_agent, await_served, start_agent, start_proxy, who};
use super::node::Node;
use super::objects;
use super::plan;
use super::rows::{Metric, Wide};
use super::statistics::{Figure, figure, quantile};
use super::usage::cpu;
use super::variant::Variant;
use super::world::{Pods, World, change};
use crate::bench::programs::mebibytes;
use crate::process::Child;

/// Services that are asked whether they are served.
const ASKED: usize = 64;
/// Changes of one round, at most, and how long they may take in all.
const CHANGES: usize = 40;
const FOR: Duration = Duration::from_secs(5);
/// How long idleness is watched in all, and a hundred changes a second in one round.
const IDLE: Duration = Duration::from_secs(4);
const LOAD: Duration = Duration::from_millis(2_500);
/// Between two changes of the load.
const PACE: Duration = Duration::from_millis(10);
/// Writes of the load that may be under way; were there more, the API server would be measured.
const AT_ONCE: usize = 16;
/// Between two probes.
const PROBE: Duration = Duration::from_micros(300);
/// Anything beyond this is a fault, not a slow run.
const WITHIN: Duration = Duration::from_secs(60);
/// kube-proxy programs at most once a second by default; a change that comes sooner waits for that, and not for work.
const PROXY_PAUSE: Duration = Duration::from_millis(1_100);
const OUR_PAUSE: Duration = Duration::from_millis(5);
const LOADED_PAUSE: Duration = Duration::from_millis(50);
/// Last rounds of a daemon may still be under way when a probe is answered.
const TRAIL: Duration = Duration::from_millis(500);

/// What was measured of one daemon.
struct Measured {
    variant: Variant,
    figures: Vec<(Metric, Figure)>,
    /// Changes that were waited for, one after the other.
    changes: usize,
}

/// Each of the daemons alone, from its start.
pub(super) fn measure(world: &World, services: usize, rounds: usize) -> Result<Vec<Wide>> {
    let mut all = Vec::new();
    for variant in Variant::DAEMONS {
        let step = world.progress.step(format!("{} with {services} Services: start, changes", variant.legend()));
        let measured = one(world, services, variant, u32::try_from(rounds)?).with_context(|| variant.legend())?;
        step.done();
        all.push(measured);
    }
    let wide = |metric: &Metric| {
        let found = all.iter().filter_map(|one| {
            let (_, figure) = one.figures.iter().find(|(has, _)| has == metric)?;
            Some((one.variant, *figure))
        });
        let figures: Vec<_> = found.collect();
        let rounds = all.iter().map(|one| one.changes).min().unwrap_or(0);
        (!figures.is_empty()).then(|| Wide::new(*metric, services, rounds, figures.into_iter()))
    };
    Ok(Metric::OF_UPDATES.iter().filter_map(wide).collect())
}

fn one(world: &World, services: usize, variant: Variant, rounds: u32) -> Result<Measured> {
    let name = format!("{}-{services}-alone", variant.id());
    let node = world.node(variant, &name)?;
    if let Some(engine) = variant.engine() {
        world.choose(engine)?;
    }
    let asked = plan::spread(services, ASKED);
    let began = Instant::now();
    let (mut daemon, programmed) = match (variant.proxy(), variant.engine()) {
        (Some(mode), _) => (start_proxy(world, &node, &name, mode)?, Programmed::default()),
        (None, Some(engine)) => {
            let mut agent = start_agent(world, &node, &name)?;
            let programmed = await_agent(&node, engine, objects(services), &mut agent, &world.stop)?;
            (agent, programmed)
        }
        (None, None) => anyhow::bail!("{} has no daemon", variant.column()),
    };
    let served = await_served(&node, &asked, &mut daemon, &world.stop)?;
    // Our own clock for our own daemon: its answer was looked for as soon as its metrics told of success.
    let up = programmed.in_force.map_or(served, |in_force| in_force.min(served));
    let mut out = vec![(Metric::Start, figure(&[(up - began).as_secs_f64()]))];
    if let Some(listed) = programmed.listed {
        out.push((Metric::AfterLists, figure(&[up.saturating_duration_since(listed).as_secs_f64()])));
    }
    let pid = daemon.pid();
    world.stop.sleep(TRAIL + PROXY_PAUSE)?;
    out.push((Metric::IdleMemory, figure(&[mebibytes(pid, "VmRSS")?])));
    let share = share_of_core(&daemon, || world.stop.sleep(IDLE))?;
    out.push((Metric::IdleCpu, figure(&[share.0])));

    let mut prober = Prober { world, node: &node, random: StdRng::seed_from_u64(7) };
    let pause = if variant.proxy().is_some() { PROXY_PAUSE } else { OUR_PAUSE };
    let (before, worked) = (cpu(pid)?, Worked::of(&node)?);
    let quiet = prober.changes(&asked, pause, CHANGES * rounds as usize, FOR * rounds)?;
    world.stop.sleep(TRAIL)?;
    let spent = (cpu(pid)? - before).as_secs_f64() * 1e3;
    let changes = quiet.len();
    if variant.engine().is_some() {
        let went = Worked::of(&node)?.since(worked);
        world.progress.say(&format!("         {}, {changes} changes: {went}", variant.legend()));
    }
    out.push((Metric::CpuPerUpdate, figure(&[spent / changes as f64])));
    out.extend(latencies(quiet, [Metric::ApplyP50, Metric::ApplyP99, Metric::ApplyMost]));

    if variant.engine().is_some() {
        let (busy, share, rate) = prober.under_load(&daemon, services, &asked, LOAD * rounds)?;
        world.progress.say(&format!("         {}: {rate:.0} changes/s beside the probes", variant.legend()));
        out.extend(latencies(busy, [Metric::LoadedP50, Metric::LoadedP99, Metric::LoadedMost]));
        out.push((Metric::LoadedCpu, figure(&[share])));
    }
    out.push((Metric::Memory, figure(&[mebibytes(pid, "VmRSS")?])));
    world.restore(&asked)?;
    daemon.require_running()?;
    daemon.kill()?;
    Ok(Measured { variant, figures: out, changes })
}

fn latencies(mut samples: Vec<f64>, metrics: [Metric; 3]) -> [(Metric, Figure); 3] {
    let [half, most, all] = [0.5, 0.99, 1.0].map(|share| figure(&[quantile(&mut samples, share)]));
    let [p50, p99, max] = metrics;
    [(p50, half), (p99, most), (max, all)]
}

/// CPU time over wall time of the daemon while `during` runs, and what that returned.
fn share_of_core<T>(daemon: &Child, during: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    let (before, began) = (cpu(daemon.pid())?, Instant::now());
    let outcome = during()?;
    let spent = cpu(daemon.pid())? - before;
    Ok((spent.as_secs_f64() / began.elapsed().as_secs_f64(), outcome))
}

struct Prober<'a> {
    world: &'a World,
    node: &'a Node,
    random: StdRng,
}

impl Prober<'_> {
    /// Changes one Service after the other and waits each time until a packet meets the new Pod; milliseconds from before
    /// the write. Ends after `most` or when the time is up.
    fn changes(&mut self, asked: &[usize], pause: Duration, most: usize, time: Duration) -> Result<Vec<f64>> {
        let (began, mut took) = (Instant::now(), Vec::new());
        for &n in asked.iter().cycle().take(most) {
            // Not in step with any timer of the daemon.
            let wait = pause + self.random.random_range(Duration::ZERO..pause.max(Duration::from_millis(50)) / 2);
            self.world.stop.sleep(wait)?;
            took.push(self.change(n)?);
            if began.elapsed() > time {
                break;
            }
        }
        Ok(took)
    }

    fn change(&self, n: usize) -> Result<f64> {
        let pod = self.world.pods.turn(n);
        let (wanted, target) = (plan::local_pod(n, pod), plan::target(n, false));
        let write = change(&self.world.client, n, pod);
        let work = || -> Result<f64> {
            self.node.client.0.join_current_thread()?;
            let began = Instant::now();
            // It goes on to its end when a probe was faster.
            let (mut write, mut asked) = (self.world.runtime.spawn(write), false);
            while who(target) != Some(wanted) {
                ensure!(began.elapsed() < WITHIN, "Service {n} does not get its new Pod");
                self.world.stop.check()?;
                failed_early(&mut write, &mut asked)?;
                std::thread::sleep(PROBE);
            }
            Ok(began.elapsed().as_secs_f64() * 1e3)
        };
        std::thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }

    /// The same while a hundred other Services a second change; also the share of a core that the daemon takes, and how many
    /// changes a second there really were beside ours.
    fn under_load(
        &mut self,
        daemon: &Child,
        services: usize,
        asked: &[usize],
        time: Duration,
    ) -> Result<(Vec<f64>, f64, f64)> {
        let others = (0..services).filter(|n| asked.binary_search(n).is_err()).collect();
        let written = Arc::new(AtomicU64::new(0));
        let (client, pods) = (self.world.client.clone(), self.world.pods.clone());
        let mut load = Load(self.world.runtime.spawn(load(client, pods, others, Arc::clone(&written))));
        let began = Instant::now();
        let (share, samples) = share_of_core(daemon, || self.changes(asked, LOADED_PAUSE, usize::MAX, time))?;
        let rate = written.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
        failed_early(&mut load.0, &mut false)?;
        Ok((samples, share, rate))
    }
}

/// A task that ends with the value.
struct Load(JoinHandle<Result<()>>);

impl Drop for Load {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An error if the task has ended with one. It is asked at most once after its end.
fn failed_early(task: &mut JoinHandle<Result<()>>, asked: &mut bool) -> Result<()> {
    if !*asked
        && task.is_finished()
        && let Some(outcome) = task.now_or_never()
    {
        *asked = true;
        outcome.context("a write was cut off")??;
    }
    Ok(())
}

/// A change every [`PACE`] of one after the other, for ever; without others there is no load.
async fn load(client: kube::Client, pods: Pods, others: Vec<usize>, written: Arc<AtomicU64>) -> Result<()> {
    let mut clock = interval(PACE);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut writes = JoinSet::new();
    for &n in others.iter().cycle() {
        clock.tick().await;
        while writes.len() >= AT_ONCE {
            settled(writes.join_next().await, &written)?;
        }
        writes.spawn(change(&client, n, pods.turn(n)));
        while let Some(outcome) = writes.try_join_next() {
            settled(Some(outcome), &written)?;
        }
    }
    Ok(())
}

fn settled(outcome: Option<Result<Result<()>, tokio::task::JoinError>>, written: &AtomicU64) -> Result<()> {
    if let Some(outcome) = outcome {
        outcome.context("a write was cut off")??;
        written.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
