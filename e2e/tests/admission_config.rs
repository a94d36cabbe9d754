//! The webhook's registration is the operator's: it comes back, it stays true through a rotation of certificates, and it
//! sends Pods only while somebody wants them spread.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use nix::sys::signal::Signal;
use portreeve_crds::names;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use support::{Http, Installed, Site, eventually, holds, installed, objects};
use tokio::{net::TcpStream, sync::Mutex};
use tokio_rustls::TlsConnector;

const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/portreeve";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/portreeve";

/// Tests that change the shared registration hold this.
static REGISTRATION: Mutex<()> = Mutex::const_new(());

fn secret(name: &str) -> String {
    format!("/api/v1/namespaces/{}/secrets/{name}", names::NAMESPACE)
}

#[tokio::test]
async fn a_registration_that_somebody_edits_or_deletes_comes_back() {
    let installed = installed().await;
    let _alone = REGISTRATION.lock().await;
    let http = installed.site.http().await;
    for path in [VALIDATING, MUTATING] {
        let right = http.get(path).await.ok();
        let edits = [
            json!({"webhooks": null}),
            edited(&right, "failurePolicy", json!("Fail")),
            edited(&right, "timeoutSeconds", json!(30)),
            edited(&right, "matchConditions", json!([])),
            edited(&right, "namespaceSelector", json!({})),
            edited(&right, "clientConfig", json!({"url": "https://192.0.2.1:443/other"})),
        ];
        for edit in edits {
            let changed = http.merge(path, &edit).await.ok();
            assert_ne!(changed["webhooks"], right["webhooks"], "the edit changes something: {edit}");
            comes_back(&http, path, &right).await;
        }
        let marked = json!({"metadata": {"labels": {"team": "blue"}, "annotations": {"example.org/note": "ours"}}});
        http.merge(path, &marked).await.ok();
        http.merge(path, &edited(&right, "failurePolicy", json!("Fail"))).await.ok();
        let back = comes_back(&http, path, &right).await;
        assert_eq!(back["metadata"]["labels"]["team"], "blue", "what others wrote beside it stays");
        assert_eq!(back["metadata"]["annotations"]["example.org/note"], "ours");
        http.delete(path).await.ok();
        let anew = comes_back(&http, path, &right).await;
        assert_ne!(anew["metadata"]["uid"], right["metadata"]["uid"]);
    }
    installed.asked_in_both_phases().await;
}

/// The first webhook of a configuration with one member changed.
fn edited(right: &Value, member: &str, value: Value) -> Value {
    let mut webhooks = right["webhooks"].clone();
    webhooks[0][member] = value;
    json!({ "webhooks": webhooks })
}

/// Waits until the webhooks are again as they were.
async fn comes_back(http: &Http, path: &str, right: &Value) -> Value {
    eventually("the registration comes back", async || {
        let now = http.get(path).await;
        holds(now.body["webhooks"] == right["webhooks"], &now.body["webhooks"])?;
        Ok(now.body)
    })
    .await
}

#[tokio::test]
async fn what_is_registered_fails_open_and_leaves_the_system_alone() {
    let installed = installed().await;
    let _alone = REGISTRATION.lock().await;
    let http = installed.site.http().await;
    for (path, count) in [(VALIDATING, 1), (MUTATING, 1)] {
        let all = http.get(path).await.ok()["webhooks"].as_array().unwrap().clone();
        assert_eq!(all.len(), count);
        for webhook in all {
            assert_eq!(webhook["failurePolicy"], "Ignore");
            assert_eq!(webhook["timeoutSeconds"], 2);
            assert_eq!(webhook["sideEffects"], "None");
            assert_eq!(webhook["matchPolicy"], "Equivalent");
            assert!(path == VALIDATING || webhook["reinvocationPolicy"] == "IfNeeded");
            let left_out = webhook["namespaceSelector"].to_string();
            assert!([names::NAMESPACE, "kube-system"].iter().all(|name| left_out.contains(name)), "{left_out}");
            assert_eq!(webhook["rules"].as_array().unwrap().len(), 1);
            assert_eq!(webhook["rules"][0]["resources"], json!(["services"]), "no subresource");
        }
    }
}

#[tokio::test]
async fn a_lost_certificate_is_made_anew_and_served() {
    let installed = installed().await;
    let _alone = REGISTRATION.lock().await;
    let http = installed.site.http().await;
    for lost in [names::SECRET_TLS, names::SECRET_CA] {
        let (path, old) = (secret(lost), http.get(&secret(lost)).await.ok());
        http.delete(&path).await.ok();
        eventually("the Secret is made anew", async || {
            let now = http.get(&path).await;
            holds(now.status == 200 && now.body["data"] != old["data"], now)
        })
        .await;
        installed.asked_in_both_phases().await;
    }
    let leaf = http.get(&secret(names::SECRET_TLS)).await.ok();
    assert_eq!(leaf["type"], "kubernetes.io/tls");
}

#[tokio::test]
async fn pods_are_sent_to_the_webhook_only_while_a_policy_wants_them_spread() {
    let installed = installed().await;
    let _alone = REGISTRATION.lock().await;
    let (site, http) = (&installed.site, installed.site.http().await);
    let names = async || -> Vec<String> {
        let all = http.get(MUTATING).await.ok()["webhooks"].as_array().unwrap().clone();
        all.iter().map(|webhook| webhook["name"].as_str().unwrap().to_owned()).collect()
    };
    let services = [names::WEBHOOK_SERVICES_MUTATE];
    assert_eq!(names().await, services);

    let namespace = site.namespace("spread").await;
    let spec = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "selector": {"app": "web"}, "ports": [{"port": 80}],
    });
    http.create(&objects::service(&namespace, "web", spec)).await.ok();
    let policy = objects::policy(&namespace, json!({"spread": {"mode": "Inject", "weight": 70}}));
    http.create(&policy).await.ok();
    eventually("Pods are registered", async || {
        let names = names().await;
        holds(names == [names::WEBHOOK_SERVICES_MUTATE, names::WEBHOOK_PODS_MUTATE], names)
    })
    .await;
    let pod = |name: &str, spec: Value| {
        let mut spec = spec;
        spec["containers"] = json!([{"name": "web", "image": "none"}]);
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": spec});
        pod["metadata"] = json!({"namespace": namespace, "name": name, "labels": {"app": "web"}});
        pod
    };
    let injected = eventually("a Pod is spread", async || {
        let answer = http.dry_run(&pod("bare", json!({}))).await;
        holds(answer.body["spec"]["affinity"].is_object(), &answer.body["spec"])?;
        Ok(answer.body)
    })
    .await;
    let terms = &injected["spec"]["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
    assert_eq!(terms.as_array().unwrap().len(), 1, "{terms}");
    assert_eq!(terms[0]["weight"], 70);
    assert_eq!(terms[0]["podAffinityTerm"]["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(terms[0]["podAffinityTerm"]["labelSelector"]["matchLabels"], json!({"app": "web"}));
    let origin = injected["metadata"]["annotations"][names::ANNOTATION_INJECTED].as_str().unwrap();
    assert!(origin.contains("policy"), "{origin}");
    for (name, left_alone) in [
        ("host-network", json!({"hostNetwork": true})),
        ("pinned", json!({"nodeSelector": {"kubernetes.io/hostname": "n1"}})),
    ] {
        let answer = http.dry_run(&pod(name, left_alone)).await.ok();
        assert!(answer["spec"]["affinity"].is_null(), "{name}: {}", answer["spec"]["affinity"]);
    }
    // A real workload gets it through its own controller.
    let template = json!({
        "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "none"}]},
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace, "name": "web"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template},
    });
    http.create(&deployment).await.ok();
    eventually("all Pods of the Deployment are spread", async || {
        let pods = http.get(&format!("/api/v1/namespaces/{namespace}/pods")).await.ok()["items"].clone();
        let spread = |pod: &Value| pod["spec"]["affinity"]["podAntiAffinity"].is_object();
        let pods = pods.as_array().unwrap();
        holds(pods.len() == 3 && pods.iter().all(spread), pods.len())
    })
    .await;
    let template = http.get(&objects::path(&deployment)).await.ok()["spec"]["template"]["spec"]["affinity"].clone();
    assert!(template.is_null(), "the template is the user's: {template}");

    http.merge(&objects::path(&policy), &json!({"spec": {"spread": {"mode": "Off"}}})).await.ok();
    eventually("Pods are not registered any more", async || {
        let names = names().await;
        holds(names == services, names)
    })
    .await;
}

#[tokio::test]
async fn writes_pass_while_the_webhook_hangs_or_is_gone_and_are_reviewed_when_it_is_back() {
    let installed = installed().await;
    let _alone = REGISTRATION.lock().await;
    let (site, http) = (&installed.site, installed.site.http().await);
    let namespace = site.namespace("open").await;
    let spec = json!({"type": "NodePort", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]});
    let passes = async |name: &str| {
        let answer = http.create(&objects::service(&namespace, name, spec.clone())).await;
        assert_eq!((answer.status, answer.our_warnings().len()), (201, 0), "{answer:?}");
    };
    let warned = objects::service(&namespace, "warned", spec.clone());
    assert_eq!(http.dry_run(&warned).await.warned(), ["ETP004"]);

    installed.webhook.signal(Signal::SIGSTOP);
    passes("while-it-hangs").await;
    installed.webhook.signal(Signal::SIGCONT);
    installed.asked_in_both_phases().await;

    installed.webhook.kill();
    passes("while-it-is-gone").await;
    let again = site.webhook(installed.port, &[]);
    again.ready().await;
    installed.asked_in_both_phases().await;
    assert_eq!(http.dry_run(&warned).await.warned(), ["ETP004"]);
    // For the tests that come after this one; it ends with the process.
    std::mem::forget(again);
}

/// A handshake with the webhook that trusts nothing but `bundle`.
async fn trusted_by(bundle: &[u8], port: u16) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.map_err(|error| error.to_string())?;
    let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected.map(drop).map_err(|error| error.to_string())
}

fn decoded(value: &Value) -> Vec<u8> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    STANDARD.decode(value.as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn reviews_are_answered_all_through_a_rotation_of_authority_and_leaf() {
    // Both certificates live a minute, so both are renewed after forty seconds.
    let site = Site::audited("rotation").await;
    let installed = Arc::new(Installed::on(site, &["--ca-life=60", "--leaf-life=60"]).await);
    let http = installed.site.http().await;
    let old = (http.get(&secret(names::SECRET_CA)).await.ok(), http.get(&secret(names::SECRET_TLS)).await.ok());
    let reads = installed.webhook.metric("certwatcher_read_certificate_total", &[]).await;

    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, watched) = (Arc::clone(&stop), Arc::clone(&installed));
    let reviews = tokio::spawn(async move {
        let http = watched.site.http().await;
        let spec = json!({"type": "ClusterIP", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]});
        let bad = objects::service("default", "reviewed", spec);
        let (mut answered, mut failed) = (0, Vec::new());
        while !stopped.load(Ordering::Relaxed) {
            // The bundle is read first: whoever has it must be able to verify what is served afterwards.
            for path in [VALIDATING, MUTATING] {
                let bundle = decoded(&http.get(path).await.ok()["webhooks"][0]["clientConfig"]["caBundle"]);
                if let Err(error) = trusted_by(&bundle, watched.port).await {
                    failed.push(error);
                }
            }
            let answer = http.dry_run(&bad).await;
            if answer.denied() == ["ETP016"] {
                answered += 1;
            } else {
                failed.push(format!("{answer:?}"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        (answered, failed)
    });

    let began = tokio::time::Instant::now();
    let turned = loop {
        let now = (http.get(&secret(names::SECRET_CA)).await.ok(), http.get(&secret(names::SECRET_TLS)).await.ok());
        let (authority, leaf) = (decoded(&now.0["data"]["ca.crt"]), &now.1["data"]["tls.crt"]);
        let new = authority != decoded(&old.0["data"]["ca.crt"]) && *leaf != old.1["data"]["tls.crt"];
        // The new leaf is there and the new authority alone verifies what is served.
        if new && trusted_by(&authority, installed.port).await.is_ok() {
            break began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(120), "nothing was renewed");
        tokio::time::sleep(Duration::from_millis(250)).await;
    };
    // A little longer, so that reviews come over connections of the new leaf too.
    eventually("the new certificate was read", async || {
        let now = installed.webhook.metric("certwatcher_read_certificate_total", &[]).await;
        holds(now > reads, now)
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let (answered, failed) = reviews.await.unwrap();
    eprintln!("rotation within {} s, {answered} reviews meanwhile", turned.as_secs());
    assert_eq!(failed, [""; 0], "{} of {answered} reviews failed", failed.len());
    assert!(answered > 100, "{answered} reviews");
    assert!(installed.webhook.metric("certwatcher_read_certificate_errors_total", &[]).await < 1.0);
}
