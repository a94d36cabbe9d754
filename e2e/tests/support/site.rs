//! The cluster with Portreeve's definitions, and with its daemons beside it.

use super::{Daemon, Http, Kubectl, daemon::free_port, eventually, holds, objects};
use portreeve_crds::names;
use portreeve_e2e::{
    api_tier,
    assets::Binary,
    control_plane::{ControlPlane, ControlPlaneOptions},
    kubeconfig,
    progress::Progress,
    run_dir::RunDir,
};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::OnceCell;

/// Name of the audit log.
const AUDIT: &str = "audit.log";

/// The workspace's directory.
pub(crate) fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// An API server that knows Portreeve's kinds.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) kubeconfig: PathBuf,
    pub(crate) log: PathBuf,
    program: PathBuf,
    /// What belongs to this site alone, and ends with it.
    own: Option<Arc<Own>>,
}

struct Own {
    plane: ControlPlane,
    run: RunDir,
}

impl Site {
    /// The test binary's one site: control plane, definitions, and the namespace `portreeve-system`.
    pub(crate) async fn shared() -> &'static Self {
        static SHARED: OnceCell<Site> = OnceCell::const_new();
        let make = async || {
            let api = api_tier::start().await.unwrap();
            let program = api.control_plane().map_or_else(|| "kubectl".into(), |plane| plane.program(Binary::Kubectl));
            let log = RunDir::create("daemons").unwrap().log();
            let site = Self { kubeconfig: api.kubeconfig().to_owned(), log, program, own: None };
            site.define().await;
            site
        };
        SHARED.get_or_init(make).await
    }

    /// A site of one test's own, whose API server tells of every request by [`Self::audit`].
    pub(crate) async fn audited(name: &str) -> Self {
        let run = RunDir::create(name).unwrap();
        let policy = run.state().join("audit-policy.yaml");
        let rules = json!([{"level": "Metadata"}]);
        let text = json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": rules, "omitStages": ["RequestReceived"],
        });
        std::fs::write(&policy, text.to_string()).unwrap();
        let assets = api_tier::assets(Progress::Shown).await.unwrap();
        let mut options = ControlPlaneOptions::new(assets, run.path());
        options.with_scheduler = false;
        options.extra_apiserver_args = vec![
            "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned(),
            format!("--audit-policy-file={}", policy.display()),
            format!("--audit-log-path={}", run.log().join(AUDIT).display()),
        ];
        let plane = ControlPlane::start(options).await.unwrap();
        let (kubeconfig, program) = (plane.kubeconfig().to_owned(), plane.program(Binary::Kubectl));
        let site = Self { kubeconfig, log: run.log(), program, own: Some(Arc::new(Own { plane, run })) };
        site.define().await;
        site
    }

    /// Every request that the API server of an audited site has answered, in order.
    pub(crate) fn audit(&self) -> Vec<Value> {
        let log = std::fs::read_to_string(self.log.join(AUDIT)).unwrap();
        // The last line may be half written.
        let whole = log.rsplit_once('\n').map_or("", |(lines, _)| lines);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn define(&self) {
        let kubectl = self.kubectl();
        kubectl.run(&["apply", "-f", workspace().join("crds/manifests").to_str().unwrap()]).await.ok();
        let ours = "--selector=app.kubernetes.io/part-of=portreeve";
        kubectl.run(&["wait", "crd", ours, "--for=condition=Established", "--timeout=60s"]).await.ok();
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": names::NAMESPACE}});
        kubectl.run_with(&["apply", "-f", "-"], &namespace.to_string()).await.ok();
    }

    pub(crate) fn kubectl(&self) -> Kubectl {
        Kubectl::new(self.program.clone(), self.kubeconfig.clone())
    }

    /// As administrator, on the calling runtime.
    pub(crate) async fn http(&self) -> Http {
        Http::new(kubeconfig::client(&self.kubeconfig).await.unwrap())
    }

    /// A kubeconfig of somebody else: the administrator's with this user in it.
    pub(crate) fn kubeconfig_of(&self, name: &str, user: &Value) -> PathBuf {
        let text = std::fs::read_to_string(&self.kubeconfig).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        let admin = config["users"][0]["user"].as_object().unwrap().clone();
        let user = user.as_object().unwrap();
        // Impersonation needs the administrator's own credentials beside it; a token stands alone.
        let whole =
            if user.contains_key("token") { user.clone() } else { admin.into_iter().chain(user.clone()).collect() };
        config["users"][0]["user"] = Value::Object(whole);
        let file = self.kubeconfig.with_file_name(format!("{name}.kubeconfig"));
        std::fs::write(&file, config.to_string()).unwrap();
        file
    }

    /// A namespace of the calling test's own, in which Pods can be made.
    pub(crate) async fn namespace(&self, prefix: &str) -> String {
        let http = self.http().await;
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"generateName": format!("{prefix}-")}});
        let name = http.create(&namespace).await.ok()["metadata"]["name"].as_str().unwrap().to_owned();
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        eventually("the namespace has its account", async || {
            let answer = http.get(&account).await;
            holds(answer.status == 200, answer)
        })
        .await;
        name
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
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig.display());
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
    pub(crate) site: Site,
    pub(crate) operator: Daemon,
    pub(crate) webhook: Daemon,
    pub(crate) port: u16,
}

/// The test binary's one installation.
pub(crate) async fn installed() -> &'static Installed {
    static SHARED: OnceCell<Installed> = OnceCell::const_new();
    SHARED.get_or_init(async || Installed::on(Site::shared().await.clone(), &[]).await).await
}

impl Installed {
    /// Starts both daemons and waits until the API server asks the webhook in both phases.
    pub(crate) async fn on(site: Site, operator_flags: &[&str]) -> Self {
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
