//! Answers for people, as a matrix of nodes and the numbered reasons below it, and for scripts.

use super::flow::{Answer, Port, SiteAnswer, enumerate};
use crate::text::{clean, lines, table};
use crate::world::Programmed;
use portreeve_table::{FrontendKind, Hop, Outcome, ProxyVerdict, Step, Target, Verdict, Way};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;

/// From this number of nodes on, those whose rows are alike share one.
const MANY_NODES: usize = 10;
/// Most sentences that one number gets, most Pods that a row names and most characters of a sentence; the JSON and
/// `--node` have all.
const SENTENCES: usize = 8;
const PODS: usize = 4;
const CHARACTERS: usize = 240;

/// `{"service": …, "from": …, "nodes": […], "notes": […]}`; the shape is an interface.
pub(super) fn json(answer: &Answer) -> Value {
    let nodes: Vec<Value> = answer
        .nodes
        .iter()
        .map(|site| {
            let health = site.answer.health.map(|health| {
                json!({"port": health.port, "readyPods": health.ready, "answer": if health.ready > 0 { 200 } else { 503 }})
            });
            let ways: Vec<Value> = site.answer.ways.iter().map(|way| way_json(answer, way)).collect();
            let (programmed, why) = match &site.programmed {
                Programmed::Yes => ("True", None),
                Programmed::No(why) => ("False", Some(why)),
                Programmed::Unknown(why) => ("Unknown", Some(why)),
            };
            json!({
                "node": site.name, "programmed": programmed, "notProgrammedBecause": why, "healthCheck": health,
                "frontends": ways,
            })
        })
        .collect();
    json!({
        "service": {"namespace": &*answer.service.namespace, "name": &*answer.service.name},
        "from": client(answer.client), "nodes": nodes, "notes": answer.notes,
    })
}

fn way_json(answer: &Answer, way: &Way) -> Value {
    let Port { name, protocol, number } = &answer.ports[way.port];
    json!({
        "kind": kind(way.front.kind), "destination": way.destination.to_string(),
        "port": {"name": name, "protocol": protocol.to_uppercase(), "port": number},
        "verdict": way.outcome.as_str(), "decides": way.decider.as_str(), "clientSeenAs": seen(&way.outcome),
        "pods": pods_json(answer, &way.outcome), "reasons": steps_json(&way.steps),
        "table": table_json(&way.table),
        "kubeProxy": way.proxy.as_ref().map(|ProxyVerdict { outcome, steps }| json!({
            "verdict": outcome.as_str(), "clientSeenAs": seen(outcome), "pods": pods_json(answer, outcome),
            "reasons": steps_json(steps),
        })),
    })
}

fn table_json(verdict: &Verdict) -> Value {
    let steps: Vec<Step> = verdict.because.iter().map(Step::from).collect();
    json!({"verdict": verdict.action.to_string(), "reasons": steps_json(&steps)})
}

fn steps_json(steps: &[Step]) -> Value {
    steps.iter().map(|step| json!({"number": step.number, "text": step.text})).collect()
}

fn pods_json(answer: &Answer, outcome: &Outcome) -> Value {
    let shares = shares(outcome.pods());
    let pods = shares.map(|(pod, permille)| {
        let known = answer.pods.get(&pod.ip());
        json!({
            "address": pod.to_string(), "sharePermille": permille, "name": known.and_then(|known| known.name.clone()),
            "node": known.and_then(|known| known.node.clone()),
        })
    });
    pods.collect()
}

const fn kind(kind: FrontendKind) -> &'static str {
    match kind {
        FrontendKind::LoadBalancer => "LoadBalancer",
        FrontendKind::ExternalIp => "ExternalIP",
        FrontendKind::NodePort => "NodePort",
    }
}

fn seen(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Deliver { client, .. } => Some(client.as_str()),
        Outcome::Drop | Outcome::Reject | Outcome::Forward | Outcome::Depends => None,
    }
}

/// Each Pod with its share in permille.
fn shares(pods: &[Target]) -> impl Iterator<Item = (SocketAddr, u64)> {
    let sum: u64 = pods.iter().map(|target| u64::from(target.weight)).sum();
    pods.iter().map(move |Target { hop: Hop::Pod(pod), weight }| (*pod, u64::from(*weight) * 1000 / sum.max(1)))
}

/// The client; port 0 stands for any.
fn client(client: SocketAddr) -> String {
    if client.port() == 0 { client.ip().to_string() } else { client.to_string() }
}

/// The matrix, or every step of one node.
pub(super) fn people(answer: &Answer, in_full: bool) -> String {
    let mut text = String::new();
    let one_port = wanted(answer).len() == 1;
    for port in wanted(answer) {
        let label = answer.ports[port].label();
        say(&mut text, format_args!("{} port {label}, new flows from {}:\n\n", answer.service, client(answer.client)));
        if in_full {
            answer.nodes.iter().for_each(|site| full(&mut text, answer, site, port));
        } else {
            matrix(&mut text, answer, port);
            reasons(&mut text, answer, port);
        }
        if !one_port {
            text.push('\n');
        }
    }
    if !answer.notes.is_empty() {
        text.push_str(if one_port { "\nNotes:\n" } else { "Notes:\n" });
        answer.notes.iter().for_each(|note| say(&mut text, format_args!("  {}\n", clean(note))));
    }
    text
}

/// Ports that some node was asked about.
fn wanted(answer: &Answer) -> BTreeSet<usize> {
    answer.nodes.iter().flat_map(|site| &site.answer.ways).map(|way| way.port).collect()
}

fn ways(site: &SiteAnswer, port: usize) -> impl Iterator<Item = &Way> {
    site.answer.ways.iter().filter(move |way| way.port == port)
}

fn matrix(text: &mut String, answer: &Answer, port: usize) {
    let mut rows = table(["NODE", "FRONTEND", "VERDICT", "PODS", "CLIENT SEEN AS", "DECIDES", "REASONS"]);
    for group in groups(answer, port) {
        let name = match group.as_slice() {
            [one] => clean(&one.name),
            many => format!("{} and {} alike", clean(&many[0].name), many.len() - 1),
        };
        for way in ways(group[0], port) {
            let numbers: Vec<String> = way.steps.iter().map(|step| step.number.to_string()).collect();
            rows.add_row([
                name.clone(),
                frontend(way),
                way.outcome.as_str().to_owned(),
                or_dash(some(pods(answer, &way.outcome)).join(", ")),
                or_dash(seen(&way.outcome).unwrap_or_default().to_owned()),
                way.decider.as_str().to_owned(),
                numbers.join(" "),
            ]);
        }
    }
    lines(rows).for_each(|line| say(text, format_args!("{line}\n")));
}

/// Nodes that share a row, in the order of their names: each its own while they are few.
fn groups(answer: &Answer, port: usize) -> Vec<Vec<&SiteAnswer>> {
    let sites = answer.nodes.iter().filter(|site| ways(site, port).next().is_some());
    if answer.nodes.len() < MANY_NODES {
        return sites.map(|site| vec![site]).collect();
    }
    let mut groups: Vec<Vec<&SiteAnswer>> = Vec::new();
    for site in sites {
        let like = |group: &&mut Vec<&SiteAnswer>| alike(group[0], site, port);
        match groups.iter_mut().find(like) {
            Some(group) => group.push(site),
            None => groups.push(vec![site]),
        }
    }
    groups
}

/// Whether two nodes do the same for the same reasons; the address of a node port is each node's own.
fn alike(one: &SiteAnswer, other: &SiteAnswer, port: usize) -> bool {
    let essence = |way: &Way| {
        let numbers: Vec<u8> = way.steps.iter().map(|step| step.number).collect();
        (way.front, way.decider.as_str(), way.outcome.clone(), numbers)
    };
    ways(one, port).map(essence).eq(ways(other, port).map(essence))
}

fn frontend(way: &Way) -> String {
    let kind = match way.front.kind {
        FrontendKind::LoadBalancer => "load balancer",
        FrontendKind::ExternalIp => "external IP",
        FrontendKind::NodePort => "node port",
    };
    format!("{kind} {}", way.destination)
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// Pods with shares, by name where that is known.
fn pods(answer: &Answer, outcome: &Outcome) -> Vec<String> {
    let shares = shares(outcome.pods());
    let one = |(pod, permille): (SocketAddr, u64)| {
        let name = answer.pods.get(&pod.ip()).and_then(|known| known.name.as_deref());
        let percent = if permille % 10 == 0 {
            format!("{}", permille / 10)
        } else {
            format!("{}.{}", permille / 10, permille % 10)
        };
        name.map_or_else(|| format!("{pod} {percent} %"), |name| format!("{} {pod} {percent} %", clean(name)))
    };
    shares.map(one).collect()
}

/// The first few; the others are counted.
fn some(mut pods: Vec<String>) -> Vec<String> {
    if pods.len() > PODS {
        let more = pods.len() - PODS + 1;
        pods.truncate(PODS - 1);
        pods.push(format!("and {more} more"));
    }
    pods
}

fn cut(sentence: &str) -> String {
    let short: String = sentence.chars().take(CHARACTERS).collect();
    if short.len() == sentence.len() { short } else { format!("{short}…") }
}

/// Each reason once, with the nodes that it is about where it is not about all.
fn reasons(text: &mut String, answer: &Answer, port: usize) {
    let mut nodes_of: BTreeMap<u8, BTreeMap<&str, BTreeSet<&str>>> = BTreeMap::new();
    for site in &answer.nodes {
        for step in ways(site, port).flat_map(|way| &way.steps) {
            nodes_of.entry(step.number).or_default().entry(&step.text).or_default().insert(&site.name);
        }
    }
    let all = answer.nodes.iter().filter(|site| ways(site, port).next().is_some()).count();
    text.push_str("\nReasons:\n");
    for (number, sentences) in nodes_of {
        for (sentence, nodes) in sentences.iter().take(SENTENCES) {
            let names: Vec<&str> = nodes.iter().copied().collect();
            let about = if names.len() == all { String::new() } else { format!(" ({})", clean(&enumerate(&names))) };
            say(text, format_args!("  {number:>3}  {}{about}\n", clean(&cut(sentence))));
        }
        if sentences.len() > SENTENCES {
            say(text, format_args!("  {number:>3}  … and {} more like these\n", sentences.len() - SENTENCES));
        }
    }
}

/// Every frontend of one node with every step.
fn full(text: &mut String, answer: &Answer, site: &SiteAnswer, port: usize) {
    for (number, way) in ways(site, port).enumerate() {
        let blank = if number == 0 { "" } else { "\n" };
        say(
            text,
            format_args!(
                "{blank}{} on node {}: {}, decided by {}\n",
                frontend(way),
                clean(&site.name),
                way.outcome.as_str(),
                way.decider.as_str()
            ),
        );
        pods(answer, &way.outcome).iter().for_each(|pod| say(text, format_args!("       {pod}\n")));
        if let Some(seen) = seen(&way.outcome) {
            say(text, format_args!("       whose client is, as they see it, the {seen}\n"));
        }
        for Step { number, text: sentence } in &way.steps {
            say(text, format_args!("  {number:>3}  {}\n", clean(sentence)));
        }
    }
}

fn say(text: &mut String, what: std::fmt::Arguments<'_>) {
    text.write_fmt(what).expect("invariant: writing to a String cannot fail");
}
