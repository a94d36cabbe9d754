//! The cluster with Portreeve's definitions, and with its daemons beside it.

use super::{Daemon, Http, Kubectl, daemon::free_port, eventually, holds, objects};
use portreeve_crds::names;
use portreeve_e2e::{
    api_tier::{self, Api},
    run_dir::RunDir,
};
use serde_json::json;
use std::path::{Path, PathBuf};
use tokio::sync::OnceCell;

/// The workspace's directory.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// An API server that knows Portreeve's kinds.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) api: Api,
    pub(crate) log: PathBuf,
}

impl Site {
    /// The test binary's one site: control plane, definitions, and the namespace `portreeve-system`.
    pub(crate) async fn shared() -> &'static Self {
        static SHARED: OnceCell<Site> = OnceCell::const_new();
        SHARED.get_or_init(Self::make).await
    }

    async fn make() -> Self {
        let api = api_tier::start().await.unwrap();
        let run = RunDir::create("daemons").unwrap();
        let site = Self { api, log: run.log() };
        let kubectl = site.kubectl();
        kubectl.run(&["apply", "-f", workspace().join("crds/manifests").to_str().unwrap()]).await.ok();
        let definitions = "crd/--selector=app.kubernetes.io/part-of=portreeve".split_once('/').unwrap();
        kubectl.run(&["wait", definitions.0, definitions.1, "--for=condition=Established", "--timeout=60s"]).await.ok();
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": names::NAMESPACE}});
        kubectl.run_with(&["apply", "-f", "-"], &namespace.to_string()).await.ok();
        site
    }

    pub(crate) fn kubectl(&self) -> Kubectl {
        Kubectl::admin(&self.api)
    }

    /// As administrator, on the calling runtime.
    pub(crate) async fn http(&self) -> Http {
        Http::new(self.api.client().await.unwrap())
    }

    /// A namespace of the calling test's own.
    pub(crate) async fn namespace(&self, prefix: &str) -> String {
        self.api.namespace(prefix).await.unwrap()
    }

    /// Starts an operator that registers a webhook on this port, with a short lease so that tests of its end are short.
    pub(crate) fn operator(&self, identity: &str, webhook_port: u16, more: &[&str]) -> Daemon {
        let name = format!("operator-{identity}");
        let mut args = self.flags(&[
            &format!("--identity={identity}"),
            &format!("--webhook-url=https://127.0.0.1:{webhook_port}/"),
            "--webhook-names=127.0.0.1",
            "--lease-duration=3",
            "--renew-deadline=2",
            "--retry-period=1",
        ]);
        override_flags(&mut args, more);
        Daemon::start(&name, names::OPERATOR, self.log.join(format!("{name}.log")), &args)
    }

    /// Starts a webhook on this port.
    pub(crate) fn webhook(&self, port: u16, more: &[&str]) -> Daemon {
        let mut args = self.flags(&[&format!("--listen=127.0.0.1:{port}"), "--drain-delay=0"]);
        override_flags(&mut args, more);
        let name = format!("webhook-{port}");
        Daemon::start(&name, names::WEBHOOK, self.log.join(format!("{name}.log")), &args)
    }

    fn flags(&self, flags: &[&str]) -> Vec<String> {
        let kubeconfig = format!("--kubeconfig={}", self.api.kubeconfig().display());
        let namespace = format!("--namespace={}", names::NAMESPACE);
        [kubeconfig, namespace].into_iter().chain(flags.iter().map(|&flag| flag.to_owned())).collect()
    }
}

/// A flag that is given anew replaces the one of the same name.
fn override_flags(args: &mut Vec<String>, more: &[&str]) {
    let name = |flag: &str| flag.split('=').next().unwrap_or_default().to_owned();
    args.retain(|old| more.iter().all(|new| name(new) != name(old)));
    args.extend(more.iter().map(|&flag| flag.to_owned()));
}

/// A site with one operator and one webhook that the API server calls.
pub(crate) struct Installed {
    pub(crate) site: &'static Site,
    pub(crate) operator: Daemon,
    pub(crate) webhook: Daemon,
    pub(crate) port: u16,
}

/// The test binary's one installation.
pub(crate) async fn installed() -> &'static Installed {
    static SHARED: OnceCell<Installed> = OnceCell::const_new();
    SHARED.get_or_init(|| Installed::with(&[])).await
}

impl Installed {
    /// Starts both daemons and waits until the API server asks the webhook in both phases.
    pub(crate) async fn with(operator_flags: &[&str]) -> Self {
        let site = Site::shared().await;
        let port = free_port();
        let operator = site.operator("a", port, operator_flags);
        let webhook = site.webhook(port, &[]);
        operator.ready().await;
        webhook.ready().await;
        let installed = Self { site, operator, webhook, port };
        installed.asked_in_both_phases().await;
        installed
    }

    /// Waits until the API server asks the webhook in both phases.
    pub(crate) async fn asked_in_both_phases(&self) {
        let http = self.site.http().await;
        let spec = json!({"type": "ClusterIP", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]});
        let refused = objects::service("default", "mutating-phase", spec);
        let spec = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]});
        let warned = objects::service("default", "validating-phase", spec);
        eventually("the API server asks the webhook", async || {
            let (mutating, validating) = (http.dry_run(&refused).await, http.dry_run(&warned).await);
            holds(mutating.denied() == ["ETP016"] && validating.warned() == ["ETP004"], (mutating, validating))
        })
        .await;
    }
}
