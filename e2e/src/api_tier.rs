//! An API server for tests: one control plane per test binary, a fresh Kubernetes namespace per test.
//!
//! With `PORTREEVE_USE_EXISTING_CLUSTER=1` the tests run against the cluster of `KUBECONFIG` (or `~/.kube/config`)
//! instead. That must be asked for: a `KUBECONFIG` that happens to be set never decides.

use std::{
    io,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::Duration,
};

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api as KubeApi, ObjectMeta, PostParams};
use rand::Rng;
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep},
};

use crate::{
    assets::{Assets, AssetsError, Binary},
    control_plane::{self, ControlPlane, ControlPlaneError, ControlPlaneOptions},
    kubeconfig::{self, KubeconfigError},
    process::ProcessError,
    progress::Progress,
    run_dir::RunDir,
};

/// Set to `1`, it makes the cluster of `KUBECONFIG` the one under test.
pub const EXISTING: &str = "PORTREEVE_USE_EXISTING_CLUSTER";
/// How long the controller manager may take to give a new namespace its service account.
const ACCOUNT_WITHIN: Duration = Duration::from_secs(60);

/// Why there is no API to test against.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The programs could not be had.
    #[error(transparent)]
    Assets(#[from] AssetsError),
    /// The run's directory could not be made.
    #[error("create the run directory")]
    RunDir(#[source] io::Error),
    /// The control plane did not start.
    #[error(transparent)]
    ControlPlane(#[from] ControlPlaneError),
    /// The kubeconfig gives no client.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// An existing cluster was asked for and none is configured.
    #[error("{EXISTING} is set, but neither KUBECONFIG nor HOME names a kubeconfig")]
    NoExisting,
    /// The API refused.
    #[error("prepare namespace {namespace}")]
    Namespace {
        /// The namespace.
        namespace: String,
        /// What the client library said.
        source: Box<kube::Error>,
    },
    /// The namespace never got its `default` service account, without which no Pod can be created.
    #[error("namespace {0} has no default service account: is the controller manager running?")]
    NoServiceAccount(String),
}

/// A Kubernetes API to test against.
#[derive(Debug, Clone)]
pub struct Api {
    kubeconfig: PathBuf,
    kubectl: PathBuf,
    control_plane: Option<&'static ControlPlane>,
}

/// The test binary's API, started by the first caller (three to four seconds) and shared by all.
///
/// It ends with the process: its parts carry a parent death signal. Tests that break a part start a
/// [`ControlPlane`] of their own.
pub async fn start() -> Result<Api, ApiError> {
    if std::env::var_os(EXISTING).is_some_and(|value| value == "1") {
        return Api::existing();
    }
    static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();
    let plane = SHARED.get_or_try_init(start_shared).await?;
    Ok(Api {
        kubeconfig: plane.kubeconfig().to_owned(),
        kubectl: plane.program(Binary::Kubectl),
        control_plane: Some(plane),
    })
}

async fn start_shared() -> Result<ControlPlane, ApiError> {
    // Never dropped: what it holds is pruned by the next run, as after any process that was killed.
    static RUN: OnceLock<RunDir> = OnceLock::new();
    let run = RunDir::create("api").map_err(ApiError::RunDir)?;
    let assets = assets(Progress::Shown).await?;
    let plane = ControlPlane::start(ControlPlaneOptions::new(assets, run.path())).await?;
    RUN.get_or_init(|| run);
    Ok(plane)
}

/// The programs of this tier, built when they are not there.
pub async fn assets(progress: Progress) -> Result<Assets, AssetsError> {
    const NEED: [Binary; 5] =
        [Binary::Etcd, Binary::KubeApiserver, Binary::KubeControllerManager, Binary::KubeScheduler, Binary::Kubectl];
    tokio::task::spawn_blocking(move || Assets::for_api(&NEED, progress))
        .await
        .expect("invariant: looking for programs does not panic")
}

impl Api {
    fn existing() -> Result<Self, ApiError> {
        let named = std::env::var_os("KUBECONFIG").map(PathBuf::from);
        let kubeconfig = named
            .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".kube/config")))
            .ok_or(ApiError::NoExisting)?;
        Ok(Self { kubeconfig, kubectl: "kubectl".into(), control_plane: None })
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The control plane, unless the cluster is somebody else's.
    pub fn control_plane(&self) -> Option<&'static ControlPlane> {
        self.control_plane
    }

    /// An administrator's client on the calling runtime.
    pub async fn client(&self) -> Result<kube::Client, ApiError> {
        Ok(kubeconfig::client(&self.kubeconfig).await?)
    }

    /// Runs kubectl as administrator and returns what it printed.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String, ProcessError> {
        control_plane::kubectl(self.kubectl.clone(), &self.kubeconfig, args).await
    }

    /// Makes a namespace `PREFIX-RANDOM` in which Pods can be created, and returns its name.
    pub async fn namespace(&self, prefix: &str) -> Result<String, ApiError> {
        let name = format!("{prefix}-{:08x}", rand::rng().random::<u32>());
        let fail = |source| ApiError::Namespace { namespace: name.clone(), source: Box::new(source) };
        let client = self.client().await?;
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        KubeApi::all(client.clone()).create(&PostParams::default(), &namespace).await.map_err(fail)?;
        let accounts: KubeApi<ServiceAccount> = KubeApi::namespaced(client, &name);
        let began = Instant::now();
        while accounts.get_opt("default").await.map_err(fail)?.is_none() {
            if began.elapsed() > ACCOUNT_WITHIN {
                return Err(ApiError::NoServiceAccount(name));
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(name)
    }
}
