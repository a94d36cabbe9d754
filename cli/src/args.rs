//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use portreeve_crds::Action;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Makes externalTrafficPolicy safe to use: find what is wrong, why, and mend it.
#[derive(Debug, Parser)]
#[command(name = "kubectl-portreeve", bin_name = "kubectl portreeve", version, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 clean, 1 findings at or above --fail-on, a difference, or a migration that failed \
                        or is held back, 2 wrong usage, unreadable input, or nodes that could not be asked, 4 the cluster cannot be reached or refuses."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Which cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// Colours in output for people
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto)]
    pub color: Color,
}

/// Which cluster, in kubectl's own words.
#[derive(Clone, Debug, Default, Args)]
pub struct ClusterArgs {
    /// Path of the kubeconfig file
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig file
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Find what admission would say about manifests or a live cluster
    Lint(LintArgs),
    /// Tell what a rule finds and how to mend it, or why a packet goes where it goes
    Explain(ExplainArgs),
    /// Move Services from legacy OnlyLocal annotations to the field
    Migrate(MigrateArgs),
    /// Count the new flows of each Pod behind a Service, beside the share that it should get
    Balance(BalanceArgs),
    /// Compare what the API asks for, what each agent has compiled and what each kernel holds
    Diff(DiffArgs),
    /// Show policies, balance, nodes and migrations of a cluster
    Status(StatusArgs),
}

/// When to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Table,
    /// For scripts
    Json,
}

/// Lowest action that makes `lint` end with 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FailOn {
    /// Any finding
    Audit,
    /// Warnings and above
    Warn,
    /// What admission would mend, and above
    Fix,
    /// What admission would refuse
    Deny,
    /// Nothing
    Never,
}

impl FailOn {
    /// Whether a finding of `action` counts.
    #[must_use]
    pub fn reached_by(self, action: Action) -> bool {
        match self {
            Self::Audit => action >= Action::Audit,
            Self::Warn => action >= Action::Warn,
            Self::Fix => action >= Action::Fix,
            Self::Deny => action >= Action::Deny,
            Self::Never => false,
        }
    }
}

/// Arguments of `lint`.
#[derive(Debug, Args)]
pub struct LintArgs {
    /// Files, directories (*.yaml, *.yml and *.json in them, at any depth) or `-` for standard input. Besides Services and
    /// policies, Namespaces (their labels) and EndpointSlices in them count
    #[arg(required_unless_present = "cluster", value_name = "PATH")]
    pub paths: Vec<String>,
    /// Look at the Services of the live cluster
    #[arg(long)]
    pub cluster: bool,
    /// Judge files by the live cluster's policies and namespaces as well as by those found in the files
    #[arg(long, conflicts_with = "cluster")]
    pub cluster_policies: bool,
    /// Only this namespace; for files, also the namespace of objects that name none
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Lowest action that makes the exit code 1
    #[arg(long, value_enum, default_value_t = FailOn::Warn)]
    pub fail_on: FailOn,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  kubectl portreeve explain ETP016\n  kubectl portreeve explain svc/web -n shop --from \
                        203.0.113.7\n  kubectl get services,endpointslices,nodes -A -o yaml | kubectl portreeve explain \
                        svc/web -n shop --from 203.0.113.7 -f -"
)]
pub struct ExplainArgs {
    /// Rule id, e.g. ETP016; without one all rules are listed. Or svc/NAME: what each node does with new flows from a client
    /// to the Service, and why, by the model that the data path is tested against
    #[arg(value_name = "RULE|svc/NAME")]
    pub what: Option<String>,
    /// The client: what becomes of its flows
    #[arg(long, value_name = "IP[:PORT]", value_parser = client)]
    pub from: Option<SocketAddr>,
    /// Namespace of the Service; for files, also that of objects that name none
    #[arg(short, long, value_name = "NAME", requires = "from")]
    pub namespace: Option<String>,
    /// Only this node, with every step
    #[arg(long, value_name = "NAME", requires = "from")]
    pub node: Option<String>,
    /// Only this port of the Service: its name, its number or its node port, and /PROTOCOL where that is not enough; without
    /// it all are shown
    #[arg(long, value_name = "PORT", requires = "from")]
    pub port: Option<String>,
    /// Only flows to this address: one of the load balancer, an externalIP or one of a node
    #[arg(long, value_name = "FRONTEND-IP", requires = "from")]
    pub to: Option<IpAddr>,
    /// Instead of the live cluster: files, directories (*.yaml, *.yml and *.json in them, at any depth) or `-` for standard
    /// input, with Services, EndpointSlices and Nodes, and with ServiceTraffics or policies, NodeDatapaths and a
    /// DatapathConfig where they shall count
    #[arg(short, long = "file", value_name = "PATH", requires = "from")]
    pub files: Vec<String>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// A client with port 0 where none is given.
fn client(text: &str) -> Result<SocketAddr, String> {
    let address = text.parse().map(|ip: IpAddr| SocketAddr::new(ip, 0));
    address.or_else(|_| text.parse()).map_err(|_| "neither an IP address nor IP:PORT ([IP]:PORT for IPv6)".to_owned())
}

/// Arguments of `migrate`.
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: MigrateCommand,
}

/// Steps of a migration, in the order in which they are taken.
#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// Find Services with legacy annotations and show what would be done with each; changes nothing
    Plan {
        /// Name of the TrafficMigration
        #[arg(default_value = "onlylocal")]
        name: String,
        /// Only these namespaces
        #[arg(short, long = "namespace", value_name = "NAME")]
        namespaces: Vec<String>,
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Approve exactly the plan that was shown; its traffic-changing items are then applied
    Approve {
        /// Name of the TrafficMigration
        #[arg(default_value = "onlylocal")]
        name: String,
        /// Hash of the plan, as `migrate plan` printed it
        #[arg(long, value_name = "sha256:…")]
        hash: String,
        /// Accept a new healthCheckNodePort where the old number cannot be had
        #[arg(long)]
        accept_new_health_check_node_port: bool,
        /// Do not wait for the end
        #[arg(long)]
        no_wait: bool,
    },
    /// Do what changes no traffic; items that do wait for `approve`
    Apply {
        /// Name of the TrafficMigration
        #[arg(default_value = "onlylocal")]
        name: String,
        /// Also change Services that Helm, Argo CD, Flux or `kubectl apply` own
        #[arg(long)]
        include_owned: bool,
        /// Do not wait for the end
        #[arg(long)]
        no_wait: bool,
    },
    /// Undo every applied item, latest first
    Rollback {
        /// Name of the TrafficMigration
        #[arg(default_value = "onlylocal")]
        name: String,
        /// Do not wait for the end
        #[arg(long)]
        no_wait: bool,
    },
    /// Show how far a migration is
    Status {
        /// Name of the TrafficMigration
        #[arg(default_value = "onlylocal")]
        name: String,
        /// Form of the output
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Namespace of Portreeve's own Pods
    #[arg(long, default_value = portreeve_crds::names::NAMESPACE)]
    pub system_namespace: String,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Arguments of `balance`.
#[derive(Debug, Args)]
#[command(
    after_help = "Counted are flows that the agents deliver: those of Services with the data path, from outside. \
                        Expected is what a load balancer gives that shares evenly over the nodes with a ready Pod.\n\n\
                        Needs `get` on the Service, `list` on EndpointSlices of its namespace, and what the Role \
                        portreeve-ask allows: to exec into the agents' Pods."
)]
pub struct BalanceArgs {
    /// The Service
    #[arg(value_name = "svc/NAME")]
    pub service: String,
    /// Namespace of the Service
    #[arg(short, long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// How long to count: 1s to 1h
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = window)]
    pub window: Duration,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Also draw a chart into this file
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,
    /// Namespace of Portreeve's own Pods
    #[arg(long, default_value = portreeve_crds::names::NAMESPACE)]
    pub system_namespace: String,
}

/// A length of time within reason.
fn window(text: &str) -> Result<Duration, String> {
    let read: jiff::SignedDuration = text.parse().map_err(|_| "not a length of time, such as 10s or 2m".to_owned())?;
    let within = (1..=3600).contains(&read.as_secs());
    Duration::try_from(read).ok().filter(|_| within).ok_or_else(|| "between 1s and 1h".to_owned())
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
#[command(
    after_help = "What is merely on its way is no difference: each is seen twice before it is told.\n\nExit codes, as of \
                        diff(1): 0 no difference, 1 a difference, 2 a node could not be asked.\n\nNeeds what `explain \
                        svc/NAME` needs and what the Role portreeve-ask allows: to exec into the agents' Pods."
)]
pub struct DiffArgs {
    /// Only this Service
    #[arg(value_name = "svc/NAME")]
    pub service: Option<String>,
    /// Namespace of the Service
    #[arg(short, long, value_name = "NAME", requires = "service")]
    pub namespace: Option<String>,
    /// Only this node
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Have the agents of nodes with a difference make everything anew, then compare again
    #[arg(long)]
    pub repair: bool,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Namespace of Portreeve's own Pods
    #[arg(long, default_value = portreeve_crds::names::NAMESPACE)]
    pub system_namespace: String,
}

#[cfg(test)]
mod tests {
    use super::window;
    use std::time::Duration;

    #[test]
    fn a_length_of_time_has_a_unit_and_is_within_reason() {
        assert_eq!(window("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(window("1m 30s"), Ok(Duration::from_secs(90)));
        for text in ["10", "0s", "500ms", "-5s", "2h", "soon"] {
            assert!(window(text).is_err(), "{text}");
        }
    }
}
