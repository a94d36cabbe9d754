//! Command line groups that the binaries flatten into their own.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of plain text per event.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Where and how much to log.
#[derive(Clone, Debug, Args)]
pub struct LogArgs {
    /// Form of the log lines.
    #[arg(long, env = "PORTREEVE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// What to log, as tracing directives: `info`, or `info,portreeve_operator=debug`.
    #[arg(long = "log", env = "PORTREEVE_LOG", default_value = "info")]
    pub log_filter: String,
}

/// Where `/metrics`, `/livez`, `/readyz` and `/healthz` are served, without TLS.
#[derive(Clone, Debug, Args)]
pub struct AdminArgs {
    /// Address of the admin server.
    #[arg(long, env = "PORTREEVE_ADMIN_ADDRESS", default_value = "[::]:8080")]
    pub admin_address: SocketAddr,
}

/// Which Pod this process is; the Deployment fills the variables through the downward API.
#[derive(Clone, Debug, Args)]
pub struct PodArgs {
    /// Namespace that holds our Lease, Secrets and Services.
    #[arg(long, env = "POD_NAMESPACE", default_value = "portreeve-system")]
    pub namespace: String,
    /// Name of this process among its replicas: the lease's holder, the events' reporting instance.
    #[arg(long, env = "POD_NAME")]
    pub identity: String,
}

/// How to reach the API server.
#[derive(Clone, Debug, Default, Args)]
pub struct ClientArgs {
    /// Kubeconfig to use; without it the usual places, then the Pod's service account.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
}

/// All groups at once, for daemons that need every one.
#[derive(Clone, Debug, Args)]
pub struct CommonArgs {
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
    /// The admin server.
    #[command(flatten)]
    pub admin: AdminArgs,
    /// The Pod's identity.
    #[command(flatten)]
    pub pod: PodArgs,
    /// The API server.
    #[command(flatten)]
    pub client: ClientArgs,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Daemon {
        #[command(flatten)]
        common: CommonArgs,
    }

    #[test]
    fn flags_win_over_defaults_and_an_identity_is_required() {
        let daemon = Daemon::try_parse_from([
            "d",
            "--identity",
            "pod-1",
            "--log-format",
            "json",
            "--admin-address",
            "127.0.0.1:0",
        ]);
        let common = daemon.unwrap_or_else(|e| panic!("{e}")).common;
        assert_eq!(common.log.log_format, LogFormat::Json);
        assert_eq!(common.pod.identity, "pod-1");
        assert!(common.admin.admin_address.ip().is_loopback());
        if std::env::var_os("POD_NAME").is_none() {
            assert!(Daemon::try_parse_from(["d"]).is_err());
        }
    }
}
