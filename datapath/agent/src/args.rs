//! Command line of the agent.

use clap::{Parser, Subcommand};
use portreeve_ask::{Request, SOCKET, SOCKET_VARIABLE};
use portreeve_runtime::args::{ClientArgs, LogArgs};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Portreeve's node agent: programs the Services that this node claims, and reports.
#[derive(Clone, Debug, Parser)]
#[command(name = "portreeve-agent", version, subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Something other than to run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The node this agent runs on; always there unless something other is to be done.
    #[arg(long, env = "NODE_NAME", required = true)]
    pub node_name: Option<String>,
    /// The namespace of the agent's DaemonSet. When that is deleted and the agent is then ended, it clears the node; without
    /// a namespace it never does.
    #[arg(long, env = "POD_NAMESPACE")]
    pub namespace: Option<String>,
    /// Address of /metrics, /livez, /readyz and /healthz. The agent shares the node's network, so the port is its own.
    #[arg(long, env = "PORTREEVE_ADMIN_ADDRESS", default_value = "[::]:9810")]
    pub admin_address: SocketAddr,
    /// Where to listen for `portreeve-agent ask`: a Unix socket that only the agent's own user can open.
    #[arg(long, env = SOCKET_VARIABLE, default_value = SOCKET)]
    pub admin_socket: PathBuf,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
    /// The API server.
    #[command(flatten)]
    pub client: ClientArgs,
}

/// What the program does beside running.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Ask the agent that runs here, by its local socket; prints its answer as JSON
    Ask(AskArgs),
}

/// What to ask.
#[derive(Clone, Debug, clap::Args)]
pub struct AskArgs {
    /// The socket of the agent.
    #[arg(long, env = SOCKET_VARIABLE, default_value = SOCKET)]
    pub socket: PathBuf,
    /// The question.
    #[command(subcommand)]
    pub question: Question,
}

/// A question to the agent; Services are written namespace/name.
#[derive(Clone, Debug, Subcommand)]
pub enum Question {
    /// New flows that each Pod of a Service was given
    Flows {
        /// The Service.
        #[arg(value_name = "NAMESPACE/NAME")]
        service: String,
    },
    /// What the agent has compiled, one page to a line
    Table {
        /// Only these Services.
        #[arg(value_name = "NAMESPACE/NAME")]
        services: Vec<String>,
    },
    /// Where the kernel is not what the agent has put in force
    ReadBack,
    /// Make everything anew, and wait until it is in force
    Repair,
}

impl From<Question> for Request {
    fn from(question: Question) -> Self {
        match question {
            Question::Flows { service } => Self::Flows { service },
            Question::Table { services } => Self::Table { services, after: None },
            Question::ReadBack => Self::ReadBack {},
            Question::Repair => Self::Repair {},
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_ask_takes_nothing_that_running_takes() {
        let asked = Args::try_parse_from(["portreeve-agent", "ask", "flows", "shop/web"]).unwrap();
        let Some(Command::Ask(asked)) = asked.command else { panic!("{asked:?}") };
        assert_eq!(Request::from(asked.question), Request::Flows { service: "shop/web".to_owned() });
        let run = Args::try_parse_from(["portreeve-agent", "--node-name=n1"]).unwrap();
        assert_eq!((run.command.is_none(), run.node_name), (true, Some("n1".to_owned())));
        assert!(Args::try_parse_from(["portreeve-agent", "--node-name=n1", "ask", "repair"]).is_err());
    }
}
