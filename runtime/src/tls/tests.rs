use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use jiff::Timestamp;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::metrics::{Format, Metrics};
use crate::serve::Limits;

const DAY: i64 = 86_400;

fn at(days: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + days * DAY).unwrap()
}

fn validity(from: i64, to: i64) -> Option<Validity> {
    Some(Validity { not_before: at(from), not_after: at(to) })
}

#[test]
fn both_are_made_when_there_is_nothing() {
    let plan = RenewalPlan::new(at(0), None, None);
    assert_eq!((plan.ca, plan.leaf, plan.next), (Decision::Renew, Decision::Renew, at(0)));
}

#[test]
fn each_is_renewed_at_two_thirds_of_its_own_life() {
    let plan = RenewalPlan::new(at(19), validity(0, 300), validity(0, 30));
    assert_eq!((plan.ca, plan.leaf, plan.next), (Decision::Keep, Decision::Keep, at(20)));
    let plan = RenewalPlan::new(at(20), validity(0, 300), validity(0, 30));
    assert_eq!((plan.ca, plan.leaf), (Decision::Keep, Decision::Renew));
    let plan = RenewalPlan::new(at(200), validity(0, 300), validity(190, 220));
    assert_eq!((plan.ca, plan.leaf), (Decision::Renew, Decision::Keep), "a fresh leaf does not save an old authority");
}

#[test]
fn an_ended_authority_takes_the_leaf_with_it() {
    let plan = RenewalPlan::new(at(301), validity(0, 300), validity(290, 320));
    assert_eq!((plan.ca, plan.leaf), (Decision::Renew, Decision::Renew));
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn a_kept_pair_is_looked_at_again_before_either_ends(now in 0i64..400, ca in 1i64..400, leaf in 1i64..60, made in 0i64..400) {
        let (ca, leaf) = (validity(0, ca), validity(made, made + leaf));
        let plan = RenewalPlan::new(at(now), ca, leaf);
        if plan.ca == Decision::Keep && plan.leaf == Decision::Keep {
            prop_assert!(plan.next > at(now));
            prop_assert!(plan.next <= ca.unwrap().not_after && plan.next <= leaf.unwrap().not_after);
        } else {
            prop_assert_eq!(plan.next, at(now));
        }
    }
}

fn authority(name: &str) -> Authority {
    Authority::generate(name, CA_LIFE, Timestamp::now()).unwrap()
}

fn names() -> Vec<String> {
    vec!["portreeve-webhook.portreeve-system.svc".to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()]
}

#[test]
fn a_leaf_never_outlives_its_authority_and_names_it() {
    let now = Timestamp::now();
    let (short, other) = (Authority::generate("a", Duration::from_secs(3600), now).unwrap(), authority("b"));
    let leaf = short.issue(&names(), LEAF_LIFE, now).unwrap();
    assert_eq!(leaf.validity.not_after, short.validity().not_after);
    assert!(leaf.validity.not_before < now);
    assert!(issued_by(&leaf.cert_pem, short.cert_pem()).unwrap());
    assert!(!issued_by(&leaf.cert_pem, other.cert_pem()).unwrap());
}

#[test]
fn a_fresh_certificate_is_not_due_however_short_its_life() {
    let now = Timestamp::now();
    for life in [60, 150, 1_000, 86_400].map(Duration::from_secs) {
        let authority = Authority::generate("short", life, now).unwrap();
        let leaf = authority.issue(&names(), life, now).unwrap();
        let plan = RenewalPlan::new(now, Some(authority.validity()), Some(leaf.validity));
        assert_eq!((plan.ca, plan.leaf), (Decision::Keep, Decision::Keep), "{life:?}");
        assert!(plan.next > now.checked_add(life / 2).unwrap(), "{life:?}");
    }
}

#[test]
fn an_authority_survives_its_secret_but_not_a_foreign_key() {
    let (one, two) = (authority("one"), authority("two"));
    let back = Authority::from_pem(one.cert_pem(), one.key_pem()).unwrap();
    assert_eq!(back.validity(), one.validity());
    assert!(Authority::from_pem(one.cert_pem(), two.key_pem()).is_err());
    assert!(!format!("{one:?}").contains("PRIVATE"));
}

#[test]
fn the_bundle_keeps_old_authorities_until_they_end() {
    let now = Timestamp::now();
    let (old, new) = (Authority::generate("old", Duration::from_secs(3600), now).unwrap(), authority("new"));
    let first = overlap(old.cert_pem(), "", now);
    let both = overlap(new.cert_pem(), &first, now);
    assert_eq!(both.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(both.starts_with(new.cert_pem().trim_end().lines().next().unwrap()));
    assert_eq!(overlap(new.cert_pem(), &both, now), both, "publishing twice changes nothing");
    let later = now + Duration::from_secs(7200);
    assert_eq!(overlap(new.cert_pem(), &both, later), overlap(new.cert_pem(), "", later));
}

fn client(bundle: &str, auth: Option<&Leaf>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match auth {
        None => builder.with_no_client_auth(),
        Some(leaf) => {
            let chain = vec![CertificateDer::from_pem_slice(leaf.cert_pem.as_bytes()).unwrap()];
            let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(leaf.key_pem.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

/// One fresh connection and one request; returns the leaf that the server showed.
async fn exchange(address: std::net::SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<Vec<u8>> {
    let stream = TcpStream::connect(address).await?;
    let connector = tokio_rustls::TlsConnector::from(config);
    let mut tls = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await?;
    tls.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    let mut text = String::new();
    tls.read_to_string(&mut text).await?;
    assert!(text.ends_with("hello"), "{text}");
    Ok(tls.get_ref().1.peer_certificates().unwrap()[0].to_vec())
}

struct Server {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn start(slot: &CertificateSlot, client_authority: Option<&[u8]>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = server_config(slot.clone(), client_authority).unwrap();
    let stop = CancellationToken::new();
    let router = Router::new().route("/", get(|| async { "hello" }));
    let task = tokio::spawn(serve(listener, config, router, Limits::default(), stop.clone()));
    Server { address, stop, task }
}

fn material<'a>(leaf: &'a Leaf, bundle: &'a str) -> Material<'a> {
    Material { chain: leaf.cert_pem.as_bytes(), key: leaf.key_pem.as_bytes(), bundle: Some(bundle.as_bytes()) }
}

#[tokio::test]
async fn a_hundred_handshakes_across_a_rotation_of_leaf_and_authority_all_succeed() {
    let now = Timestamp::now();
    let (old, new) = (authority("old"), authority("new"));
    let before = old.issue(&names(), LEAF_LIFE, now).unwrap();
    let after = new.issue(&names(), LEAF_LIFE, now).unwrap();
    let bundle = overlap(new.cert_pem(), old.cert_pem(), now);
    let slot = CertificateSlot::new(Metrics::new("1").certificate);
    slot.reload(material(&before, &bundle)).unwrap();
    let server = start(&slot, None).await;
    let config = client(&bundle, None);
    let mut shown = std::collections::BTreeSet::new();
    for n in 0..100 {
        if n == 50 {
            slot.reload(material(&after, &bundle)).unwrap();
        }
        shown.insert(exchange(server.address, Arc::clone(&config)).await.unwrap());
    }
    assert_eq!(shown.len(), 2, "both leaves were shown");
    server.stop.cancel();
    server.task.await.unwrap();
}

#[tokio::test]
async fn unusable_material_is_refused_counted_and_changes_nothing() {
    let metrics = Metrics::new("1");
    let (ca, slot) = (authority("ca"), CertificateSlot::new(metrics.certificate.clone()));
    assert!(crate::admin::Check::check(&slot).is_err());
    let (one, two) = (ca.issue(&names(), LEAF_LIFE, Timestamp::now()), ca.issue(&names(), LEAF_LIFE, Timestamp::now()));
    let (one, two) = (one.unwrap(), two.unwrap());
    slot.reload(material(&one, ca.cert_pem())).unwrap();
    let mixed = Material { chain: one.cert_pem.as_bytes(), key: two.key_pem.as_bytes(), bundle: None };
    assert!(matches!(slot.reload(mixed), Err(TlsError::Rustls(_))));
    let empty = Material { chain: b"", key: b"", bundle: None };
    assert!(matches!(slot.reload(empty), Err(TlsError::Pem { what: "tls.crt", .. })));
    assert!(crate::admin::Check::check(&slot).is_ok());
    let server = start(&slot, None).await;
    exchange(server.address, client(ca.cert_pem(), None)).await.unwrap();
    let text = metrics.encode(Format::Prometheus).unwrap();
    assert!(text.contains("certwatcher_read_certificate_total 3"), "{text}");
    assert!(text.contains("certwatcher_read_certificate_errors_total 2"), "{text}");
    let expiry =
        format!("portreeve_certificate_expiry_seconds{{kind=\"leaf\"}} {}", one.validity.not_after.as_second());
    assert!(text.contains(&expiry), "{text}");
    server.stop.cancel();
    server.task.await.unwrap();
}

#[tokio::test]
async fn with_a_client_authority_strangers_are_turned_away() {
    let now = Timestamp::now();
    let ca = authority("ca");
    let leaf = ca.issue(&names(), LEAF_LIFE, now).unwrap();
    let slot = CertificateSlot::new(Metrics::new("1").certificate);
    slot.reload(material(&leaf, ca.cert_pem())).unwrap();
    let server = start(&slot, Some(ca.cert_pem().as_bytes())).await;
    // In TLS 1.3 the refusal arrives after the client's own handshake is done: the read fails.
    assert!(exchange(server.address, client(ca.cert_pem(), None)).await.is_err());
    let stranger = client_leaf(&authority("other"));
    assert!(exchange(server.address, client(ca.cert_pem(), Some(&stranger))).await.is_err());
    let known = client_leaf(&ca);
    exchange(server.address, client(ca.cert_pem(), Some(&known))).await.unwrap();
    server.stop.cancel();
    server.task.await.unwrap();
}

/// What the API server's kubeconfig for webhooks would hold.
fn client_leaf(ca: &Authority) -> Leaf {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["kube-apiserver".to_owned()]).unwrap();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, ca.issuer()).unwrap();
    Leaf { cert_pem: certificate.pem(), key_pem: key.serialize_pem(), validity: ca.validity() }
}
