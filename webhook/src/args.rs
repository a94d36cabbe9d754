//! The command line of `portreeve-webhook`.

use clap::Parser;
use portreeve_crds::names;
use portreeve_runtime::args::{AdminArgs, ClientArgs, LogArgs};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Answers the API server's admission reviews of Services and new Pods.
#[derive(Clone, Debug, Parser)]
#[command(name = names::WEBHOOK, version)]
pub struct Args {
    /// Address of the webhook server (TLS 1.3, HTTP/1.1).
    #[arg(long, env = "PORTREEVE_LISTEN", default_value = "[::]:8443")]
    pub listen: SocketAddr,
    /// Namespace that Portreeve runs in: it holds the certificate's Secret, and its own objects are never reviewed.
    #[arg(long, env = "POD_NAMESPACE", default_value = names::NAMESPACE)]
    pub namespace: String,
    /// Directory with `tls.crt`, `tls.key` and, optionally, `ca.crt` to serve with, in place of the Secret
    /// `portreeve-webhook-tls`; for development, and for a webhook that runs outside the cluster. The operator registers
    /// its own authority whatever is served, so in the cluster the Secret is what API servers trust. Changes are taken up
    /// within 10 seconds.
    #[arg(long, value_name = "DIR")]
    pub cert_dir: Option<PathBuf>,
    /// PEM file of the authority that clients must show a certificate of. Without it every client may ask; what it learns
    /// is how the policies read an object that it holds already.
    #[arg(long, value_name = "FILE")]
    pub client_ca: Option<PathBuf>,
    /// Seconds between the signal to leave and the end of serving. In that time the process is not ready and the cluster
    /// forgets its endpoint.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub drain_delay: u64,
    /// Connections at once; further ones wait. The API server keeps 25 idle ones for each webhook.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_connections: u32,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
    /// The admin server.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// The API server.
    #[command(flatten)]
    pub client: ClientArgs,
}

#[cfg(test)]
mod tests {
    use super::Args;
    use clap::Parser as _;

    #[test]
    fn without_flags_it_serves_where_the_service_points() {
        let args = Args::parse_from(["portreeve-webhook"]);
        assert_eq!(args.listen.port(), 8443);
        assert_eq!(args.admin.admin_address.port(), 8080);
        assert_eq!((args.drain_delay, args.max_connections), (5, 512));
    }

    #[test]
    fn no_connections_at_all_is_refused() {
        let refused = Args::try_parse_from(["portreeve-webhook", "--max-connections", "0"]);
        assert!(refused.unwrap_err().to_string().contains("--max-connections"));
    }
}
