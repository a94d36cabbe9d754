//! Where the serving certificate comes from: the operator's Secret, or a directory. Either is followed for changes.

use futures::StreamExt as _;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use portreeve_crds::names;
use portreeve_runtime::metrics::CertificateMetrics;
use portreeve_runtime::tls::{CertificateSlot, Material};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// How often a certificate directory is read: as controller-runtime does. A mounted Secret changes by renamed links, which
/// file notification follows badly.
pub const DIRECTORY_PERIOD: Duration = Duration::from_secs(10);

/// One state of the three files, or of the three keys of the Secret.
#[derive(Clone, PartialEq, Eq)]
struct Pem {
    chain: Vec<u8>,
    key: Vec<u8>,
    bundle: Option<Vec<u8>>,
}

/// Puts what it is shown into the slot, unless that is there already.
struct Loader {
    slot: CertificateSlot,
    loaded: Option<Pem>,
}

impl Loader {
    fn load(&mut self, pem: Pem) {
        if self.loaded.as_ref() == Some(&pem) {
            return;
        }
        let Pem { chain, key, bundle } = &pem;
        match self.slot.reload(Material { chain, key, bundle: bundle.as_deref() }) {
            Ok(()) => {
                tracing::info!("Serving certificate loaded");
                self.loaded = Some(pem);
            }
            // The slot counts it and keeps what it has. A directory may be caught between two files: it is read again.
            Err(error) => tracing::warn!(%error, "Serving certificate refused, the one in use stays"),
        }
    }
}

/// Follows the Secret `portreeve-webhook-tls` in `namespace` for ever. A list and a watch by name need no right to any
/// other Secret.
pub async fn follow_secret(client: Client, namespace: &str, slot: CertificateSlot, metrics: CertificateMetrics) {
    let only = watcher::Config::default().fields(&format!("metadata.name={}", names::SECRET_TLS));
    let mut events = watcher(Api::<Secret>::namespaced(client, namespace), only).default_backoff().boxed();
    let mut loader = Loader { slot, loaded: None };
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Apply(secret) | Event::InitApply(secret)) => match of_secret(secret.data.unwrap_or_default()) {
                Ok(pem) => loader.load(pem),
                Err(missing) => {
                    metrics.errors.inc();
                    tracing::warn!(
                        secret = names::SECRET_TLS,
                        missing,
                        "Secret lacks a key, the certificate in use stays"
                    );
                }
            },
            Ok(Event::Delete(_)) => {
                tracing::warn!(secret = names::SECRET_TLS, "Secret was deleted, the certificate in use stays");
            }
            Ok(Event::Init | Event::InitDone) => {}
            Err(error) => {
                metrics.errors.inc();
                tracing::warn!(secret = names::SECRET_TLS, %error, "Watch failed, starting it anew");
            }
        }
    }
}

fn of_secret(mut data: BTreeMap<String, ByteString>) -> Result<Pem, &'static str> {
    let mut take = |key: &'static str| data.remove(key).map(|ByteString(bytes)| bytes).ok_or(key);
    Ok(Pem { chain: take(names::KEY_TLS_CERT)?, key: take(names::KEY_TLS_KEY)?, bundle: take(names::KEY_CA_CERT).ok() })
}

/// Follows `tls.crt`, `tls.key` and, where it exists, `ca.crt` in `directory` for ever, reading them every `period`.
pub async fn follow_directory(directory: &Path, period: Duration, slot: CertificateSlot, metrics: CertificateMetrics) {
    let mut loader = Loader { slot, loaded: None };
    let mut ticks = tokio::time::interval(period);
    loop {
        ticks.tick().await;
        match of_directory(directory).await {
            Ok(pem) => loader.load(pem),
            Err(error) => {
                metrics.errors.inc();
                tracing::warn!(directory = %directory.display(), %error, "Certificate files cannot be read");
            }
        }
    }
}

async fn of_directory(directory: &Path) -> std::io::Result<Pem> {
    let read = |name: &str| tokio::fs::read(directory.join(name));
    let bundle = match read(names::KEY_CA_CERT).await {
        Ok(bundle) => Some(bundle),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(Pem { chain: read(names::KEY_TLS_CERT).await?, key: read(names::KEY_TLS_KEY).await?, bundle })
}
