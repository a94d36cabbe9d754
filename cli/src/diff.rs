//! `diff`: what the API asks for, what each agent has compiled, what each kernel holds, and where they differ.

mod compare;
mod show;

use crate::agents::{Agents, Said};
use crate::args::{ClusterArgs, DiffArgs, Output};
use crate::exit::{Exit, Failure};
use crate::explain::service_name;
use crate::output::{out, outln};
use crate::world::{Objects, World};
use compare::{Asked, NodeLook, Outcome, Repair};
use futures::StreamExt as _;
use portreeve_ask::Answer;
use portreeve_table::ServiceKey;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Wait between two looks. An agent that is merely behind programs in less.
const AGAIN: Duration = Duration::from_secs(2);

/// Runs `diff`.
pub(crate) async fn run(args: &DiffArgs, cluster: &ClusterArgs) -> Result<Exit, Failure> {
    let name = args.service.as_deref().map(|text| {
        service_name(text).ok_or_else(|| Failure::Usage(format!("{text:?} is no Service: write svc/NAME")))
    });
    let name = name.transpose()?;
    let agents = Agents::find(cluster, &args.system_namespace).await?;
    let site = Site { agents, cluster, args, name };
    let (world, service) = site.world().await?;
    let nodes = site.nodes(&world)?;
    let mut outcome = site.twice(world, service.as_ref(), &nodes).await?;
    let different = outcome.different();
    if args.repair && !different.is_empty() {
        let repairs = site.repair(&different).await;
        let (world, service) = site.world().await?;
        let after = site.twice(world, service.as_ref(), &different).await?;
        outcome.repaired(repairs, after);
    }
    match args.output {
        Output::Json => outln!("{}", show::json(&outcome)),
        Output::Table => out!("{}", show::people(&outcome, &args.system_namespace)),
    }
    Ok(outcome.exit())
}

/// Who is asked about what.
struct Site<'a> {
    agents: Agents,
    cluster: &'a ClusterArgs,
    args: &'a DiffArgs,
    name: Option<&'a str>,
}

impl Site<'_> {
    /// What the API asks for now, and the Service that it is about if it is about one.
    async fn world(&self) -> Result<(World, Option<ServiceKey>), Failure> {
        let (objects, namespace) = Objects::of_cluster(self.cluster, self.args.namespace.clone()).await?;
        let world = World::new(objects);
        let service = self.name.map(|name| ServiceKey::new(&namespace, name));
        Ok((world, service))
    }

    /// Nodes that are asked: those with an agent's Pod or an agent's report.
    fn nodes(&self, world: &World) -> Result<BTreeSet<String>, Failure> {
        let reported = world.sites.iter().filter(|site| site.reported).map(|site| site.node.name.to_string());
        let all: BTreeSet<String> = self.agents.nodes().into_iter().chain(reported).collect();
        if all.is_empty() {
            return Err(Failure::Usage(format!(
                "no agent is found in namespace {}: is Portreeve installed there? --system-namespace names another",
                self.args.system_namespace
            )));
        }
        match &self.args.node {
            None => Ok(all),
            Some(node) if all.contains(node) => Ok(BTreeSet::from([node.clone()])),
            Some(node) => Err(Failure::Usage(format!(
                "no agent runs on a node {node}; agents run on {}",
                all.into_iter().collect::<Vec<_>>().join(", ")
            ))),
        }
    }

    /// Looks, and where something differs or could not be told, looks again: what was merely on its way is no difference.
    async fn twice(
        &self,
        world: World,
        service: Option<&ServiceKey>,
        nodes: &BTreeSet<String>,
    ) -> Result<Outcome, Failure> {
        let mut first = self.look(world, service, nodes).await?;
        let doubtful: BTreeSet<String> =
            first.iter().filter(|(_, look)| !look.is_clean()).map(|(node, _)| node.clone()).collect();
        if doubtful.is_empty() {
            return Ok(Outcome::new(first));
        }
        tokio::time::sleep(AGAIN).await;
        let (world, _) = self.world().await?;
        for (node, second) in self.look(world, service, &doubtful).await? {
            let confirmed = match first.remove(&node) {
                Some(before) => second.confirming(&before),
                None => second,
            };
            first.insert(node, confirmed);
        }
        Ok(Outcome::new(first))
    }

    async fn look(
        &self,
        mut world: World,
        service: Option<&ServiceKey>,
        nodes: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, NodeLook>, Failure> {
        let name = service.map(ToString::to_string);
        let question: Vec<&str> = ["table"].into_iter().chain(name.as_deref()).collect();
        let answers = self.agents.ask_each(nodes, [&question, &["read-back"]]);
        let mut answers = std::pin::pin!(answers);
        let mut looks = BTreeMap::new();
        while let Some((node, [table, kernel])) = answers.next().await {
            let look = compare::look(&mut world, &node, Asked { service, table, kernel });
            looks.insert(node, look);
        }
        if let Some(key) = service
            && !world.services.contains_key(key)
            && looks.values().all(|look| look.is_clean())
        {
            return Err(Failure::Usage(format!("there is no Service {key}, and no agent knows it")));
        }
        Ok(looks)
    }

    /// Has the agents of `nodes` make everything anew.
    async fn repair(&self, nodes: &BTreeSet<String>) -> BTreeMap<String, Result<Repair, String>> {
        let said = self.agents.ask(nodes, &["repair"]).await;
        said.into_iter().map(|(node, said)| (node, repaired(said))).collect()
    }
}

fn repaired(said: Said) -> Result<Repair, String> {
    match said?.into_iter().next() {
        Some(Answer::Repair(done)) => Ok(Repair { backend: done.backend, milliseconds: done.milliseconds }),
        _ => Err("its agent answered something else; use the plugin of the agent's version".to_owned()),
    }
}

#[cfg(test)]
mod tests;
