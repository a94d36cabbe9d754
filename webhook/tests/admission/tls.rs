//! The certificate directory, over real sockets on the loopback.

use axum::Router;
use axum::routing::get;
use jiff::Timestamp;
use portreeve_crds::names;
use portreeve_runtime::metrics::{Format, Metrics};
use portreeve_runtime::serve::Limits;
use portreeve_runtime::tls::{Authority, CertificateSlot, serve, server_config};
use portreeve_webhook::tls::follow_directory;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

const DAY: Duration = Duration::from_secs(86_400);
const NAME: &str = "portreeve-webhook.portreeve-system.svc";

fn authority() -> Authority {
    Authority::generate("test", 10 * DAY, Timestamp::now()).unwrap()
}

fn directory(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn write(directory: &Path, authority: &Authority) {
    let leaf = authority.issue(&[NAME.to_owned()], DAY, Timestamp::now()).unwrap();
    std::fs::write(directory.join(names::KEY_CA_CERT), authority.cert_pem()).unwrap();
    std::fs::write(directory.join(names::KEY_TLS_CERT), &leaf.cert_pem).unwrap();
    std::fs::write(directory.join(names::KEY_TLS_KEY), &leaf.key_pem).unwrap();
}

/// Whether a client that trusts only `authority` gets through the handshake.
async fn trusted(address: SocketAddr, authority: &Authority) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.cert_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(ServerName::try_from(NAME).unwrap(), stream).await.is_ok()
}

async fn eventually_trusted(address: SocketAddr, authority: &Authority) {
    while !trusted(address, authority).await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_new_certificate_in_the_directory_is_served_and_a_broken_one_is_not() {
    let directory = directory("reload");
    let (first, second) = (authority(), authority());
    write(&directory, &first);
    let metrics = Metrics::new("test");
    let slot = CertificateSlot::new(metrics.certificate.clone());
    let config = server_config(slot.clone(), None).unwrap();
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (door.local_addr().unwrap(), CancellationToken::new());
    let app = Router::new().route("/", get(|| async { "ok" }));
    let server = tokio::spawn(serve(door, config, app, Limits::default(), stop.clone()));
    let follow = tokio::spawn({
        let (directory, certificates) = (directory.clone(), metrics.certificate.clone());
        async move { follow_directory(&directory, Duration::from_millis(5), slot, certificates).await }
    });

    eventually_trusted(address, &first).await;
    std::fs::write(directory.join(names::KEY_TLS_KEY), "no key").unwrap();
    let refused = || metrics.certificate.errors.get();
    while refused() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(trusted(address, &first).await, "the certificate in use must stay");
    write(&directory, &second);
    eventually_trusted(address, &second).await;
    assert!(!trusted(address, &first).await);
    let text = metrics.encode(Format::Prometheus).unwrap();
    assert!(text.contains("portreeve_certificate_expiry_seconds{kind=\"leaf\"}"), "{text}");

    follow.abort();
    stop.cancel();
    server.await.unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
}

#[tokio::test]
async fn a_missing_directory_is_counted_and_leaves_the_slot_empty() {
    let metrics = Metrics::new("test");
    let slot = CertificateSlot::new(metrics.certificate.clone());
    let nowhere = Path::new(env!("CARGO_TARGET_TMPDIR")).join("not-there");
    let follow = follow_directory(&nowhere, Duration::from_millis(1), slot.clone(), metrics.certificate.clone());
    tokio::select! {
        () = follow => {}
        () = async { while metrics.certificate.errors.get() < 2 { tokio::time::sleep(Duration::from_millis(1)).await } } => {}
    }
    assert!(portreeve_runtime::admin::Check::check(&slot).is_err());
}
