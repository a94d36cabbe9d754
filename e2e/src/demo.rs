//! The main job, act by act, on a real cluster: what `make demo` plays.
//!
//! Every act does what a user would do (kubectl, helm, the plugin, requests from outside), measures what came of it and
//! fails if it is not what Portreeve promises. Nothing is simulated; the load is bounded in count and goes only to the
//! cluster's own namespaces.

mod acts;
mod backend;
mod install;
mod keep;
mod kubectl;
mod load;
mod report;
mod wait;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};

pub use self::keep::in_background;
use self::kubectl::Kubectl;
use self::report::Measured;
pub use self::report::{ActReport, Report, passed};
use crate::assets::{Assets, Binary};
use crate::cluster::{Cluster, ClusterOptions};
use crate::image::{Image, catalogue, release};
use crate::node::config::ProxyMode;
use crate::progress::Progress;

/// Where the image of this build is written.
const IMAGES: &str = "target/image";

/// What every act has at hand.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) client: kube::Client,
    pub(crate) kubectl: Kubectl,
    pub(crate) helm: PathBuf,
    /// The `kubectl-portreeve` of this build.
    pub(crate) plugin: PathBuf,
    pub(crate) image: crate::image::Written,
    pub(crate) proxy_mode: ProxyMode,
}

/// What is to be played, and on what.
#[derive(Clone, Debug, Default)]
pub struct Play {
    /// Return the cluster instead of taking it down.
    pub keep: bool,
    /// Ids of acts; the others are left out, but for the installation. All when empty.
    pub only: Vec<String>,
    /// kube-proxy's mode.
    pub proxy_mode: ProxyMode,
}

/// Brings a cluster up, plays the acts, writes `report.json` into `out`.
///
/// An act that fails does not stop the ones after it, unless they build on it (the installation); the report says which.
pub async fn play(play: &Play, out: &Path) -> Result<(Report, Option<Cluster>)> {
    let acts = acts::chosen(&play.only)?;
    let stage = raise(play.proxy_mode).await?;
    let report = acts::play_all(&stage, &acts).await;
    report.write(out)?;
    say(&report.summary(out));
    let Stage { cluster, .. } = stage;
    if play.keep {
        return Ok((report, Some(cluster)));
    }
    cluster.down().await.context("taking the cluster down")?;
    Ok((report, None))
}

/// Everything that must be there before the curtain rises.
async fn raise(proxy_mode: ProxyMode) -> Result<Stage> {
    let began = Instant::now();
    let progress = Progress::Shown;
    let prepared = tokio::task::spawn_blocking(move || -> Result<_> {
        let assets = Assets::ensure(progress)?;
        let log = crate::run_dir::root().join("demo-build.log");
        std::fs::create_dir_all(crate::run_dir::root())?;
        let binaries = release::build(&log, progress)?;
        let image: Image = catalogue::portreeve(&binaries)?;
        let written = catalogue::write_all(&[image], Path::new(IMAGES), progress)?;
        Ok((ClusterOptions::new(assets.clone(), progress)?, assets, written))
    });
    let (mut options, assets, mut written) = prepared.await.context("preparing programs and images")??;
    let image = written.pop().context("invariant: one image was written")?;
    options.proxy_mode = proxy_mode;
    let cluster = Cluster::up(options).await?;
    let client = cluster.client().await?;
    let kubectl = Kubectl::new(assets.path(Binary::Kubectl), cluster.kubeconfig().to_owned());
    say(&format!("{:>7.1}s  cluster up: 3 nodes, 2 outside clients, load balancers", began.elapsed().as_secs_f64()));
    Ok(Stage { client, kubectl, helm: assets.path(Binary::Helm), plugin: plugin()?, image, proxy_mode, cluster })
}

/// The plugin beside this program.
fn plugin() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let beside = this.ancestors().skip(1).take(2).map(|dir| dir.join("kubectl-portreeve")).find(|path| path.is_file());
    beside.with_context(|| {
        format!("no kubectl-portreeve beside {}: run `cargo build --workspace --bins`", this.display())
    })
}

/// One line for people.
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}
