//! `explain`: why a rule finds something, and why a packet goes where it goes.

mod flow;
mod rule;
mod show;

use crate::args::{ClusterArgs, ExplainArgs, Output};
use crate::exit::{Exit, Failure};
use crate::output::{out, outln};
use crate::source::read;
use crate::world::{Objects, World};

/// Runs `explain`.
pub(crate) async fn run(args: &ExplainArgs, cluster: &ClusterArgs) -> Result<Exit, Failure> {
    let Some(name) = args.what.as_deref().and_then(service_name) else {
        if args.from.is_some() {
            return Err(Failure::Usage("--from asks about a Service: write `explain svc/NAME --from IP`".to_owned()));
        }
        return rule::run(args.what.as_deref(), args.output);
    };
    let Some(client) = args.from else {
        return Err(Failure::Usage(format!(
            "where a packet goes depends on where it comes from: add --from with the client's address, e.g. `explain \
             svc/{name} --from 203.0.113.7`"
        )));
    };
    let (objects, namespace) = if args.files.is_empty() {
        Objects::of_cluster(cluster, args.namespace.clone()).await?
    } else {
        let input = read(&args.files).map_err(|error| Failure::Usage(error.to_string()))?;
        let namespace = args.namespace.as_deref();
        let objects = Objects::of_documents(&input.documents, namespace).map_err(Failure::Usage)?;
        (objects, namespace.unwrap_or("default").to_owned())
    };
    let asked = flow::Asked {
        namespace: &namespace,
        name,
        client,
        node: args.node.as_deref(),
        port: args.port.as_deref(),
        to: args.to,
    };
    let answer = flow::ask(World::new(objects), &asked).map_err(Failure::Usage)?;
    match args.output {
        Output::Json => outln!("{}", show::json(&answer)),
        Output::Table => out!("{}", show::people(&answer, args.node.is_some())),
    }
    Ok(Exit::Clean)
}

/// The name in `svc/NAME`, in any of kubectl's spellings.
pub(crate) fn service_name(what: &str) -> Option<&str> {
    let (kind, name) = what.split_once('/')?;
    matches!(kind.to_ascii_lowercase().as_str(), "svc" | "service" | "services").then_some(name)
}

#[cfg(test)]
mod tests;
