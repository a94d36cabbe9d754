//! `lint`: what admission would say, before anybody asks it.

mod live;
mod objects;
mod report;

use crate::args::{ClusterArgs, Color, LintArgs, Output};
use crate::exit::{Exit, Failure};
use crate::output::outln;
use crate::source::{Document, read};
use crate::text::colored;
pub use objects::{Judged, Judgement, Workspace};

/// Runs `lint`.
pub(crate) async fn run(args: LintArgs, cluster: &ClusterArgs, color: Color) -> Result<Exit, Failure> {
    let (Judgement { judged, problems }, looked_at) = if args.cluster {
        live::judge(cluster, args.namespace.as_deref()).await?
    } else {
        let input = read(&args.paths).map_err(|error| Failure::Usage(error.to_string()))?;
        let mut workspace =
            Workspace::from_documents(&input.documents, args.namespace.as_deref()).map_err(Failure::Usage)?;
        if args.cluster_policies {
            live::add_policies(&mut workspace, cluster).await?;
        }
        let looked_at = format!("{} in {}", services(workspace.services()), files(input.files));
        (workspace.judge(), looked_at)
    };
    let fails = judged.iter().filter(|one| args.fail_on.reached_by(one.finding.action)).count();
    match args.output {
        Output::Json => outln!("{}", report::json(&judged)),
        Output::Table => report::people(&judged, &looked_at, colored(color)),
    }
    if !problems.is_empty() {
        return Err(Failure::Usage(format!("could not be evaluated:\n  {}", problems.join("\n  "))));
    }
    Ok(if fails > 0 { Exit::Findings } else { Exit::Clean })
}

fn services(number: usize) -> String {
    crate::text::count(number, "Service")
}

fn files(number: usize) -> String {
    crate::text::count(number, "file")
}

/// The findings on the manifests in `documents`, as `lint` reports them; `namespace` is that of objects that name none.
///
/// # Errors
/// A sentence that names the object if one of our kinds, or a Service, does not have its kind's shape.
pub fn judge(documents: &[Document], namespace: Option<&str>) -> Result<Judgement, String> {
    Ok(Workspace::from_documents(documents, namespace)?.judge())
}

#[cfg(test)]
mod tests;
