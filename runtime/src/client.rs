//! The client of the API server: counted, patient, and named in the audit log.

mod patience;

use std::time::Duration;

use http::{HeaderValue, header};
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::args::ClientArgs;
use crate::metrics::ClientMetrics;
pub use patience::{Patience, PatienceLayer, PatientService, RequestTimedOut};

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig cannot be read or used.
    #[error("kubeconfig cannot be used: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// Neither a kubeconfig nor a service account was found.
    #[error("no way to the API server was found: {0}")]
    Infer(#[from] kube::config::InferConfigError),
    /// The configuration cannot be turned into a client.
    #[error("client cannot be built: {0}")]
    Build(#[from] kube::Error),
    /// Component or version cannot stand in a header.
    #[error("user agent cannot stand in a header: {0}")]
    UserAgent(#[from] header::InvalidHeaderValue),
}

/// A client for `component` ("operator"), whose requests carry the user agent `portreeve-COMPONENT/VERSION`.
///
/// # Errors
/// When no configuration is found or it cannot be used. Nothing is sent yet.
pub async fn connect(
    args: &ClientArgs,
    component: &'static str,
    version: &'static str,
    metrics: ClientMetrics,
) -> Result<Client, ClientError> {
    let mut config = match &args.kubeconfig {
        Some(path) => {
            Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await?
        }
        None => Config::infer().await?,
    };
    let agent = HeaderValue::try_from(format!("portreeve-{component}/{version}"))?;
    config.headers.push((header::USER_AGENT, agent));
    build(config, Patience::default(), metrics)
}

/// A client from a ready configuration.
///
/// # Errors
/// When the configuration cannot be used.
pub fn build(mut config: Config, patience: Patience, metrics: ClientMetrics) -> Result<Client, ClientError> {
    // Our layer retries; two of them would multiply.
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    Ok(ClientBuilder::try_from(config)?.with_layer(&PatienceLayer::new(patience, metrics)).build())
}
