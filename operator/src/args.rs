//! Flags of the operator.

use crate::admission::Endpoint;
use clap::{Args, Parser};
use portreeve_crds::names;
use portreeve_runtime::args::CommonArgs;
use portreeve_runtime::lease::Timing;
use portreeve_runtime::tls::{CA_LIFE, LEAF_LIFE};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Watches Services and policies; reports, migrates, and keeps the webhook registered.
#[derive(Clone, Debug, Parser)]
#[command(name = "portreeve-operator", version)]
pub struct RunArgs {
    /// Logging, admin server, identity, API server.
    #[command(flatten)]
    pub common: CommonArgs,
    /// The election.
    #[command(flatten)]
    pub lease: LeaseArgs,
    /// The webhook.
    #[command(flatten)]
    pub webhook: WebhookArgs,
    /// Most ServiceTraffics that are written at once.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: u16,
    /// The API server's --service-node-port-range.
    #[arg(long, default_value = "30000-32767", value_parser = port_range)]
    pub node_port_range: RangeInclusive<u16>,
}

/// Times of the election, in seconds.
#[derive(Clone, Debug, Args)]
pub struct LeaseArgs {
    /// How long others watch an unchanged lease before they take it over.
    #[arg(long, default_value = "15", value_parser = seconds)]
    pub lease_duration: Duration,
    /// How long a leader believes itself without a renewal.
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub renew_deadline: Duration,
    /// How often a leader renews and a follower looks.
    #[arg(long, default_value = "2", value_parser = seconds)]
    pub retry_period: Duration,
}

impl LeaseArgs {
    /// As the election takes them.
    #[must_use]
    pub const fn timing(&self) -> Timing {
        Timing {
            lease_duration: self.lease_duration,
            renew_deadline: self.renew_deadline,
            retry_period: self.retry_period,
        }
    }
}

/// How the API server reaches the webhook.
#[derive(Clone, Debug, Args)]
pub struct WebhookArgs {
    /// Name of the webhook's Service.
    #[arg(long, default_value = names::WEBHOOK)]
    pub webhook_service: String,
    /// Register this address in place of the Service: https://HOST:PORT. For a webhook outside the cluster.
    #[arg(long, value_parser = https_url)]
    pub webhook_url: Option<String>,
    /// Further names and addresses for the webhook's certificate.
    #[arg(long, value_delimiter = ',')]
    pub webhook_names: Vec<String>,
    /// Life of the webhook's authority, in seconds.
    #[arg(long, default_value_t = CA_LIFE.as_secs(), value_parser = clap::value_parser!(u64).range(60..))]
    pub ca_life: u64,
    /// Life of the webhook's certificate, in seconds.
    #[arg(long, default_value_t = LEAF_LIFE.as_secs(), value_parser = clap::value_parser!(u64).range(60..))]
    pub leaf_life: u64,
}

impl WebhookArgs {
    /// As the admission controller takes them.
    #[must_use]
    pub fn endpoint(&self, namespace: &str) -> Endpoint {
        Endpoint {
            namespace: namespace.to_owned(),
            service: self.webhook_service.clone(),
            url: self.webhook_url.clone(),
            extra_names: self.webhook_names.clone(),
            ca_life: Duration::from_secs(self.ca_life),
            leaf_life: Duration::from_secs(self.leaf_life),
        }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: u64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Ok(Duration::from_secs(seconds))
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || format!("{text:?} is not FIRST-LAST, e.g. 30000-32767");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let range = first.parse().map_err(|_| wrong())?..=last.parse().map_err(|_| wrong())?;
    if range.is_empty() { Err(wrong()) } else { Ok(range) }
}

/// The API server calls webhooks by https only.
fn https_url(text: &str) -> Result<String, String> {
    match text.strip_prefix("https://") {
        Some(rest) if !rest.is_empty() && !rest.trim_end_matches('/').contains(['/', '?', '#', '@']) => {
            Ok(text.trim_end_matches('/').to_owned())
        }
        _ => Err(format!("{text:?} is not https://HOST:PORT")),
    }
}

#[cfg(test)]
mod tests {
    use super::{RunArgs, https_url, port_range};
    use clap::Parser as _;

    #[test]
    fn flags_say_how_the_webhook_is_reached() {
        let line =
            "portreeve-operator --identity a --webhook-url https://127.0.0.1:9443/ --webhook-names 127.0.0.1,host";
        let Ok(args) = RunArgs::try_parse_from(line.split(' ')) else { panic!("the line is valid") };
        let endpoint = args.webhook.endpoint("here");
        assert_eq!(endpoint.url.as_deref(), Some("https://127.0.0.1:9443"));
        assert_eq!(endpoint.names().last().map(String::as_str), Some("host"));
    }

    #[test]
    fn ranges_and_addresses_that_mean_nothing_are_refused() {
        assert_eq!(port_range("30000-32767"), Ok(30_000..=32_767));
        for wrong in ["30000", "9-1", "a-b", "1-70000"] {
            assert!(port_range(wrong).is_err(), "{wrong}");
        }
        for wrong in ["http://host", "https://", "https://host/path", "https://user@host"] {
            assert!(https_url(wrong).is_err(), "{wrong}");
        }
    }
}
