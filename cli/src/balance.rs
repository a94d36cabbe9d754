//! `balance`: how many new flows each Pod behind a Service was given in a while, beside the share that it should get.

mod chart;
mod count;
mod show;

use crate::agents::{Agents, Said};
use crate::args::{BalanceArgs, ClusterArgs, Output};
use crate::exit::{Exit, Failure};
use crate::explain::service_name;
use crate::output::{out, outln};
use count::{Balance, Counts, Places};
use indicatif::{ProgressBar, ProgressStyle};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};
use portreeve_ask::Answer;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Runs `balance`.
pub(crate) async fn run(args: &BalanceArgs, cluster: &ClusterArgs) -> Result<Exit, Failure> {
    let name = service_name(&args.service)
        .ok_or_else(|| Failure::Usage(format!("{:?} is no Service: write svc/NAME", args.service)))?;
    let agents = Agents::find(cluster, &args.system_namespace).await?;
    let namespace = args.namespace.clone().unwrap_or_else(|| agents.client.default_namespace().to_owned());
    let found = Api::<Service>::namespaced(agents.client.clone(), &namespace).get_opt(name).await;
    if found.map_err(Failure::from_kube(format!("reading Service {namespace}/{name}")))?.is_none() {
        return Err(Failure::Usage(format!("there is no Service {namespace}/{name}")));
    }
    let service = format!("{namespace}/{name}");
    let places = places(&agents.client, &namespace, name).await?;
    let nodes = places.nodes();
    if nodes.is_empty() {
        return Err(Failure::Usage(format!("no Pod is behind Service {service}: there is nothing to count")));
    }
    let question = ["flows", service.as_str()];
    let before = counts(agents.ask(&nodes, &question).await);
    if before.values().all(Result::is_err) {
        let why = before.values().find_map(|said| said.as_ref().err()).cloned().unwrap_or_default();
        let node = nodes.first().map_or("", String::as_str);
        return Err(Failure::Usage(format!("no node counts flows of {service}; {node} says: {why}")));
    }
    let began = Instant::now();
    wait(args.window, &service).await;
    let after = counts(agents.ask(&nodes, &question).await);
    let then = self::places(&agents.client, &namespace, name).await?;
    let balance = Balance::new(&service, began.elapsed(), (&places, &then), &before, &after);
    if let Some(path) = &args.svg {
        let svg =
            chart::svg(&balance).map_err(|error| Failure::Usage(format!("the chart cannot be drawn: {error}")))?;
        std::fs::write(path, svg).map_err(|error| Failure::Usage(format!("{}: {error}", path.display())))?;
    }
    match args.output {
        Output::Json => outln!("{}", show::json(&balance)),
        Output::Table => out!("{}", show::people(&balance)),
    }
    Ok(if balance.unasked.is_empty() { Exit::Clean } else { Exit::Untold })
}

/// Pods behind the Service now.
async fn places(client: &Client, namespace: &str, name: &str) -> Result<Places, Failure> {
    let api = Api::<EndpointSlice>::namespaced(client.clone(), namespace);
    let params = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
    let slices = api.list(&params).await.map_err(Failure::from_kube("listing EndpointSlices"))?;
    Ok(Places::of(&slices.items))
}

fn counts(said: BTreeMap<String, Said>) -> BTreeMap<String, Result<Counts, String>> {
    let one = |answers: Vec<Answer>| match answers.into_iter().next() {
        Some(Answer::Flows(flows)) => Ok(Counts::from(flows)),
        _ => Err("its agent answered something else; use the plugin of the agent's version".to_owned()),
    };
    said.into_iter().map(|(node, said)| (node, said.and_then(one))).collect()
}

/// Waits with something to look at: on a terminal a bar, elsewhere one line that says that counting has begun.
async fn wait(window: Duration, service: &str) {
    if !std::io::stderr().is_terminal() {
        eprintln!("counting new flows of {service} for {} s", window.as_secs_f64());
    }
    let tick = Duration::from_millis(100);
    let bar = ProgressBar::new(u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {eta} left") {
        bar.set_style(style);
    }
    bar.set_message(format!("counting new flows of {service}"));
    let began = Instant::now();
    while began.elapsed() < window {
        tokio::time::sleep(tick.min(window.saturating_sub(began.elapsed()))).await;
        bar.set_position(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
    }
    bar.finish_and_clear();
}

#[cfg(test)]
mod tests;
