//! Command line of the agent.

use clap::Parser;
use portreeve_runtime::args::{ClientArgs, LogArgs};
use std::net::SocketAddr;

/// Portreeve's node agent: programs the Services that this node claims, and reports.
#[derive(Clone, Debug, Parser)]
#[command(name = "portreeve-agent", version)]
pub struct Args {
    /// The node this agent runs on.
    #[arg(long, env = "NODE_NAME")]
    pub node_name: String,
    /// The namespace of the agent's DaemonSet. When that is deleted and the agent is then ended, it clears the node; without
    /// a namespace it never does.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: Option<String>,
    /// Address of /metrics, /livez, /readyz and /healthz. The agent shares the node's network, so the port is its own.
    #[arg(long, env = "PORTREEVE_ADMIN_ADDRESS", default_value = "[::]:9810")]
    pub admin_address: SocketAddr,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
    /// The API server.
    #[command(flatten)]
    pub client: ClientArgs,
}
