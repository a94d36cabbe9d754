//! A TLS 1.3 server whose certificate can be exchanged between two handshakes.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use axum::Router;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{TlsError, Validity};
use crate::admin::Check;
use crate::metrics::{CertificateKind, CertificateMetrics};
use crate::serve::{self, Limits};

/// What a server needs, as PEM: the values of a `kubernetes.io/tls` Secret.
#[derive(Clone, Copy)]
pub struct Material<'a> {
    /// `tls.crt`: the leaf, then intermediates if there are any.
    pub chain: &'a [u8],
    /// `tls.key`.
    pub key: &'a [u8],
    /// `ca.crt`: the bundle, whose first authority's end is told as a metric.
    pub bundle: Option<&'a [u8]>,
}

/// The certificate in use; clones share it. Empty until the first [`CertificateSlot::reload`]: handshakes fail until then.
#[derive(Clone)]
pub struct CertificateSlot {
    current: Arc<ArcSwapOption<CertifiedKey>>,
    metrics: CertificateMetrics,
}

impl CertificateSlot {
    /// An empty slot that reports to `metrics`.
    #[must_use]
    pub fn new(metrics: CertificateMetrics) -> Self {
        Self { current: Arc::new(ArcSwapOption::empty()), metrics }
    }

    /// Takes new material into use for all handshakes from now on. Unusable material is refused and counted, and the
    /// certificate in use stays.
    ///
    /// # Errors
    /// When the material cannot be read or key and certificate do not belong together.
    pub fn reload(&self, material: Material<'_>) -> Result<(), TlsError> {
        self.metrics.reads.inc();
        self.try_reload(material).inspect_err(|_| {
            self.metrics.errors.inc();
        })
    }

    fn try_reload(&self, material: Material<'_>) -> Result<(), TlsError> {
        let chain = certificates(material.chain, "tls.crt")?;
        let key = PrivateKeyDer::from_pem_slice(material.key)
            .map_err(|error| TlsError::Pem { what: "tls.key", reason: error.to_string() })?;
        let leaf = Validity::of_der(&chain[0])?;
        let ca = match material.bundle {
            Some(bundle) => Some(Validity::of_der(&certificates(bundle, "ca.crt")?[0])?),
            None => None,
        };
        let certified = CertifiedKey::from_der(chain, key, &rustls::crypto::aws_lc_rs::default_provider())?;
        self.current.store(Some(Arc::new(certified)));
        self.metrics.set_expiry(CertificateKind::Leaf, leaf.not_after.as_second());
        if let Some(ca) = ca {
            self.metrics.set_expiry(CertificateKind::Ca, ca.not_after.as_second());
        }
        Ok(())
    }
}

impl std::fmt::Debug for CertificateSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateSlot").field("filled", &self.current.load().is_some()).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for CertificateSlot {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load_full()
    }
}

/// As a readiness check: there is a certificate to show.
impl Check for CertificateSlot {
    fn check(&self) -> Result<(), String> {
        if self.current.load().is_some() { Ok(()) } else { Err("no certificate yet".to_owned()) }
    }
}

/// All certificates of a PEM text: at least one.
fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| TlsError::Pem { what, reason: error.to_string() })?;
    if found.is_empty() {
        return Err(TlsError::Pem { what, reason: "it holds no certificate".to_owned() });
    }
    Ok(found)
}

/// A server configuration that shows the slot's certificate. With `client_authority` (PEM), only clients with a certificate
/// of it are let in; kube-apiserver shows one when its `AdmissionConfiguration` names a kubeconfig for webhooks.
///
/// # Errors
/// When the client authority cannot be used.
pub fn server_config(slot: CertificateSlot, client_authority: Option<&[u8]>) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = match client_authority {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(pem, "client authority")? {
                roots.add(certificate)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(slot));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A resumed session would go on under the certificate, and the client verification, of its first handshake.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// Serves `router` over TLS until `stop` falls, then drains. The router bounds the size and time of bodies.
pub async fn serve(
    listener: TcpListener,
    config: ServerConfig,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
) {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    serve::run(listener, move |stream| acceptor.accept(stream), router, limits, stop).await;
}
