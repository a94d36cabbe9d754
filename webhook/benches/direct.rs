//! Reviews over one kept-alive TLS connection, ours against a webhook that only echoes the uid, in interleaved slices.
//! Client and servers share the machine's cores. `cargo bench -p portreeve-webhook --bench direct`.

#![allow(clippy::print_stdout, reason = "a bench prints its result")]

mod echo;
mod world;

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use jiff::Timestamp;
use portreeve_runtime::metrics::Metrics;
use portreeve_runtime::serve::Limits;
use portreeve_runtime::tls::{Authority, CertificateSlot, Material, serve, server_config};
use portreeve_webhook::cache::Cache;
use portreeve_webhook::engine::PolicyEngine;
use portreeve_webhook::http::{App, router};
use portreeve_webhook::metrics::AdmissionMetrics;
use portreeve_webhook::review::Reviewer;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use world::{quantile, rounded, summary};

const SLICES: usize = 40;
const PER_SLICE: usize = 500;
const NAME: &str = "localhost";

#[tokio::main]
async fn main() -> Result<()> {
    let metrics = Metrics::new("bench");
    let cache = Arc::new(Cache::new(world::index()?.snapshot()));
    let ours = router(Arc::new(App {
        reviewer: Reviewer::new(PolicyEngine, "portreeve-system"),
        metrics: AdmissionMetrics::register(&metrics, Arc::clone(&cache)),
        requests: metrics.webhook.clone(),
        cache,
    }));
    let echo = echo::router();
    let authority = Authority::generate("bench", Duration::from_secs(86_400), Timestamp::now())?;
    let (mut ours, mut echo) = (connect(ours, &authority).await?, connect(echo, &authority).await?);

    let body = world::review("service-update-local-without-pods")?;
    let request = [
        format!("POST /validate/services HTTP/1.1\r\nhost: {NAME}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len())
            .into_bytes(),
        body,
    ]
    .concat();
    let (mut ours_rounds, mut echo_rounds) = (Rounds::default(), Rounds::default());
    for _ in 0..SLICES {
        ours_rounds.add(slice(&mut ours, &request).await?);
        echo_rounds.add(slice(&mut echo, &request).await?);
    }
    let ((ours_p50, ours_p99, ours_rate), (echo_p50, echo_p99, echo_rate)) =
        (ours_rounds.summary(), echo_rounds.summary());
    println!("ours: p50 {:.0} µs, p99 {:.0} µs, {:.0} reviews/s", ours_p50.0, ours_p99.0, ours_rate.0);
    println!("echo: p50 {:.0} µs, p99 {:.0} µs, {:.0} reviews/s", echo_p50.0, echo_p99.0, echo_rate.0);
    let met = ours_p99.0 - echo_p99.0 <= 500.0 && ours_rate.0 >= 5_000.0;
    world::write(
        "direct-loopback",
        &json!({
            "name": "review over one kept-alive TLS connection, p99", "ours": rounded(ours_p99.0), "peer": rounded(echo_p99.0),
            "ratio": rounded(ours_p99.0 / echo_p99.0), "unit": "µs", "rounds": SLICES, "spread": rounded(ours_p99.1),
            "goal": format!("within 0.5 ms of the echo and ≥ 5,000 reviews/s ({:.0} seen)", ours_rate.0), "met": met, "note": "peer: echo",
            "reviews_per_second": {"ours": ours_rate.0.round(), "peer": echo_rate.0.round()},
            "median": {"ours": rounded(ours_p50.0), "peer": rounded(echo_p50.0)},
        }),
    )
}

/// Serves `router` and opens one connection to it.
async fn connect(router: Router, authority: &Authority) -> Result<TlsStream<TcpStream>> {
    let leaf = authority.issue(&[NAME.to_owned()], Duration::from_secs(3_600), Timestamp::now())?;
    let slot = CertificateSlot::new(Metrics::new("bench").certificate);
    let (chain, key) = (leaf.cert_pem.as_bytes(), leaf.key_pem.as_bytes());
    slot.reload(Material { chain, key, bundle: None })?;
    let config = server_config(slot, None)?;
    let door = TcpListener::bind("127.0.0.1:0").await?;
    let address = door.local_addr()?;
    tokio::spawn(serve(door, config, router, Limits::default(), CancellationToken::new()));

    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.cert_pem().as_bytes())?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let client = client.with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(NAME)?;
    Ok(TlsConnector::from(Arc::new(client)).connect(name, stream).await?)
}

/// Microseconds of each call, and of all together.
async fn slice(connection: &mut TlsStream<TcpStream>, request: &[u8]) -> Result<(Vec<f64>, f64)> {
    let begun = Instant::now();
    let mut samples = Vec::with_capacity(PER_SLICE);
    for _ in 0..PER_SLICE {
        let begun = Instant::now();
        call(connection, request).await?;
        samples.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok((samples, begun.elapsed().as_secs_f64()))
}

async fn call(connection: &mut TlsStream<TcpStream>, request: &[u8]) -> Result<()> {
    connection.write_all(request).await?;
    connection.flush().await?;
    let (mut buffer, mut read) = ([0_u8; 16_384], 0);
    loop {
        let more = connection.read(&mut buffer[read..]).await?;
        ensure!(more > 0, "the connection ended, or the answer is longer than {} bytes", buffer.len());
        read += more;
        let text = std::str::from_utf8(&buffer[..read])?;
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .context("an answer without content-length")?;
            if body.len() >= length.parse()? {
                ensure!(head.starts_with("HTTP/1.1 200"), "{text}");
                return Ok(());
            }
        }
    }
}

#[derive(Default)]
struct Rounds {
    medians: Vec<f64>,
    tails: Vec<f64>,
    rates: Vec<f64>,
}

impl Rounds {
    fn add(&mut self, (mut samples, seconds): (Vec<f64>, f64)) {
        samples.sort_by(f64::total_cmp);
        self.medians.push(quantile(&samples, 500));
        self.tails.push(quantile(&samples, 990));
        self.rates.push(samples.len() as f64 / seconds);
    }

    /// Median and spread over the slices of: median, p99, calls per second.
    fn summary(self) -> ((f64, f64), (f64, f64), (f64, f64)) {
        (summary(self.medians), summary(self.tails), summary(self.rates))
    }
}
