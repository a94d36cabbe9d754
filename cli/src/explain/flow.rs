//! One question about a client's flows, asked of every node.

use crate::world::{PodName, Programmed, Site, World};
use k8s_openapi::api::core::v1::Service;
use portreeve_table::input::{PortInput, ServiceInput, ServiceKind};
use portreeve_table::{Directive, Family, Mode, NodeAnswer, Outcome, ProxyReason, Question, ServiceKey, explain_node};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Most names that are offered for one that is unknown.
const NEAR: usize = 5;

/// The question.
pub(super) struct Asked<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) client: SocketAddr,
    pub(super) node: Option<&'a str>,
    pub(super) port: Option<&'a str>,
    pub(super) to: Option<IpAddr>,
}

/// The answer of all nodes that were asked.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) service: ServiceKey,
    pub(super) client: SocketAddr,
    /// The Service's ports, as [`portreeve_table::Way::port`] counts them.
    pub(super) ports: Vec<Port>,
    pub(super) nodes: Vec<SiteAnswer>,
    /// Who is at an address.
    pub(super) pods: BTreeMap<IpAddr, PodName>,
    /// Sentences.
    pub(super) notes: Vec<String>,
}

/// A port of a Service.
#[derive(Clone, Debug)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) protocol: String,
    pub(super) number: u16,
}

/// The answer of one node.
#[derive(Debug)]
pub(super) struct SiteAnswer {
    pub(super) name: String,
    pub(super) programmed: Programmed,
    pub(super) answer: NodeAnswer,
}

/// Asks; the error is a sentence that says what to do.
pub(super) fn ask(mut world: World, asked: &Asked<'_>) -> Result<Answer, String> {
    let key = ServiceKey::new(asked.namespace, asked.name);
    let written = world.services.get(&key).ok_or_else(|| unknown_service(&key, world.services.keys()))?;
    if let Some(why) = world.unreadable.get(&key) {
        return Err(format!("{why}. What it decides cannot be told before that is mended"));
    }
    let service = world.input.services.get(&key).ok_or_else(|| format!("Service {key} cannot be read"))?;
    reachable(&key, service, written)?;
    fits(&key, service, written, &world, asked)?;
    let wanted = wanted_ports(&key, service, asked.port)?;
    let ports: Vec<Port> = service.ports.iter().map(Port::of).collect();
    let affinity = service.affinity_seconds;
    let trusted = written.spec.as_ref().and_then(|spec| spec.traffic_distribution.clone());
    let sites: Vec<_> =
        world.sites.iter().filter(|site| asked.node.is_none_or(|name| *site.node.name == *name)).collect();
    if sites.is_empty() {
        let known: Vec<&str> = world.sites.iter().map(|site| &*site.node.name).collect();
        return Err(match asked.node {
            Some(name) => format!("there is no node {name}; the nodes are {}", enumerate(&known)),
            None => "no node is known: add Nodes, or EndpointSlices whose endpoints name theirs".to_owned(),
        });
    }
    let mut nodes = Vec::with_capacity(sites.len());
    for site in sites {
        world.input.this_node = site.node.clone();
        let question = Question {
            service: &key,
            client: asked.client,
            to: asked.to,
            own_pods: &site.own_pods,
            in_force: site.programmed.in_force(),
            hands_over: site.hands_over,
        };
        let mut answer = explain_node(&world.input, &question).expect("invariant: the Service was found above");
        answer.ways.retain(|way| wanted.contains(&way.port));
        nodes.push(SiteAnswer { name: site.node.name.to_string(), programmed: site.programmed.clone(), answer });
    }
    if asked.to.is_some() || asked.port.is_some() {
        nodes.retain(|site| asked.node.is_some() || !site.answer.ways.is_empty());
    }
    if nodes.iter().all(|site| site.answer.ways.is_empty()) {
        return Err(no_way(&key, asked));
    }
    let mut notes = world.notes;
    notes.extend(remarks(&nodes, affinity, world.hinted.contains(&key), trusted.as_deref()));
    notes.extend(unbalanced(world.input.directives.get(&key), &world.sites));
    notes.extend(standpoint(&world.sites, asked.client.ip()));
    let pods = world.pods.into_iter().filter(|((namespace, _), _)| *namespace == *key.namespace);
    let pods = pods.map(|((_, address), pod)| (address, pod)).collect();
    Ok(Answer { service: key, client: asked.client, ports, nodes, pods, notes })
}

/// Refuses what no packet from outside can be for.
fn reachable(key: &ServiceKey, service: &ServiceInput, written: &Service) -> Result<(), String> {
    if service.kind == ServiceKind::ExternalName {
        let name = written.spec.as_ref().and_then(|spec| spec.external_name.as_deref()).unwrap_or("nothing");
        return Err(format!(
            "Service {key} is an ExternalName: an alias in DNS for {name}. No node sees a packet for it; ask about what it \
             stands for"
        ));
    }
    if service.headless {
        return Err(format!(
            "Service {key} is headless: DNS gives its clients the addresses of its Pods, and no node translates anything"
        ));
    }
    if !service.is_external() {
        return Err(format!(
            "Service {key} cannot be reached from outside: it is a ClusterIP Service without externalIPs. Set spec.type to \
             LoadBalancer or NodePort if it shall be"
        ));
    }
    Ok(())
}

/// Refuses a client or a destination that no frontend of the Service fits.
fn fits(
    key: &ServiceKey,
    service: &ServiceInput,
    written: &Service,
    world: &World,
    asked: &Asked<'_>,
) -> Result<(), String> {
    let family = Family::of(asked.client.ip());
    if !service.serves(family) {
        return Err(format!(
            "Service {key} does not serve {family}, of which the client {} is; see its spec.ipFamilies",
            asked.client.ip()
        ));
    }
    let Some(to) = asked.to else { return Ok(()) };
    if Family::of(to) != family {
        return Err(format!("the client {} and --to {to} are of different address families", asked.client.ip()));
    }
    if proxied(written).any(|address| address == to) {
        return Err(format!(
            "{to} is a load balancer address with ipMode Proxy: nodes know nothing of it. Its load balancer sends to node \
             ports or to Pods; ask with --to and the address of a node"
        ));
    }
    let mut addresses = service.load_balancer.iter().chain(&service.external_ips);
    let node = || world.sites.iter().any(|site| site.node.addresses.contains(&to));
    if addresses.any(|address| *address == to) || node() {
        return Ok(());
    }
    let known: Vec<String> =
        service.load_balancer.iter().chain(&service.external_ips).map(ToString::to_string).collect();
    let known = if known.is_empty() { String::new() } else { format!("{}, and ", known.join(", ")) };
    Err(format!("{to} is no frontend of Service {key}; it has {known}its node ports on the addresses of the nodes"))
}

/// Load balancer addresses with `ipMode: Proxy`.
fn proxied(service: &Service) -> impl Iterator<Item = IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let points = status.into_iter().flat_map(|balancer| balancer.ingress.iter().flatten());
    let proxied = points.filter(|point| point.ip_mode.as_deref() == Some("Proxy"));
    proxied.filter_map(|point| point.ip.as_deref()?.parse().ok())
}

/// Indices of the ports that are asked for: by name, number or node port, with or without the protocol.
fn wanted_ports(key: &ServiceKey, service: &ServiceInput, port: Option<&str>) -> Result<Vec<usize>, String> {
    let Some(text) = port else { return Ok((0..service.ports.len()).collect()) };
    let (which, protocol) = text.split_once('/').map_or((text, None), |(which, protocol)| (which, Some(protocol)));
    let number: Option<u16> = which.parse().ok();
    let fits = |port: &PortInput| {
        let numbered = number.is_some_and(|number| port.port == number || port.node_port == Some(number));
        let named = numbered || *port.name == *which;
        named && protocol.is_none_or(|protocol| protocol.eq_ignore_ascii_case(&port.protocol.to_string()))
    };
    let found: Vec<usize> =
        service.ports.iter().enumerate().filter(|(_, port)| fits(port)).map(|(number, _)| number).collect();
    if found.is_empty() {
        let known: Vec<String> = service.ports.iter().map(|port| Port::of(port).label()).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        return Err(format!("Service {key} has no port {text}; it has {}", enumerate(&known)));
    }
    Ok(found)
}

impl Port {
    fn of(port: &PortInput) -> Self {
        Self { name: port.name.to_string(), protocol: port.protocol.to_string(), number: port.port }
    }

    /// As people write it.
    pub(super) fn label(&self) -> String {
        let Self { name, protocol, number } = self;
        if name.is_empty() { format!("{number}/{protocol}") } else { format!("{name} ({number}/{protocol})") }
    }
}

fn no_way(key: &ServiceKey, asked: &Asked<'_>) -> String {
    let family = Family::of(asked.client.ip());
    match (asked.to, asked.node) {
        (Some(to), Some(node)) => format!("node {node} has no frontend of Service {key} at {to}"),
        (Some(to), None) => format!("Service {key} has no frontend at {to}: it has no node port there"),
        _ => format!(
            "Service {key} has no {family} frontend: no load balancer address in its status, no externalIP, and no node \
             port on a node with an {family} address. Files that were not taken from a cluster lack the status; \
             `kubectl get services,endpointslices,nodes -A -o yaml` has it"
        ),
    }
}

/// What the answers rest on beside the packet.
fn remarks(
    nodes: &[SiteAnswer],
    affinity: Option<u32>,
    hinted: bool,
    distribution: Option<&str>,
) -> impl Iterator<Item = String> {
    let ways = || nodes.iter().flat_map(|site| &site.answer.ways);
    let delivers = ways().any(|way| matches!(way.outcome, Outcome::Deliver { .. }));
    let affinity = affinity.filter(|_| delivers).map(|seconds| {
        format!(
            "sessionAffinity ClientIP: a client that was here within {seconds} s goes to the Pod it had, if that is among \
             those."
        )
    });
    let everywhere = [ProxyReason::Cluster, ProxyReason::FromNode, ProxyReason::FromLocalPod].map(ProxyReason::number);
    let drawn_everywhere = ways().any(|way| way.steps.iter().any(|step| everywhere.contains(&step.number)));
    let narrowed = (hinted && drawn_everywhere).then(|| {
        let wish = distribution.map_or_else(String::new, |wish| format!(" (trafficDistribution {wish})"));
        format!(
            "Endpoints carry hints{wish}: kube-proxy may narrow the Pods of all nodes to those of its own zone or node."
        )
    });
    [health(nodes), affinity, narrowed].into_iter().flatten()
}

/// Which nodes a load balancer sends to that asks the health check.
fn health(nodes: &[SiteAnswer]) -> Option<String> {
    let port = nodes.iter().find_map(|site| site.answer.health)?.port;
    let (well, ill): (Vec<&SiteAnswer>, Vec<&SiteAnswer>) =
        nodes.iter().partition(|site| site.answer.health.is_some_and(|health| health.ready > 0));
    let names = |sites: &[&SiteAnswer]| {
        let names: Vec<&str> = sites.iter().map(|site| site.name.as_str()).collect();
        enumerate(&names)
    };
    Some(match (well.is_empty(), ill.is_empty()) {
        (false, true) => format!("Health check port {port} answers 200 on {}.", names(&well)),
        (true, _) => {
            format!("Health check port {port} answers 503 on {}: a load balancer sends nothing there.", names(&ill))
        }
        (false, false) => format!(
            "Health check port {port} answers 200 on {}, and 503 on {}: a load balancer that asks it sends nothing there.",
            names(&well),
            names(&ill)
        ),
    })
}

/// Where mode Balance is asked for and flows stay on their nodes.
fn unbalanced(directive: Option<&Directive>, sites: &[Site]) -> Option<String> {
    directive.filter(|directive| directive.mode == Mode::Balance)?;
    let kept: Vec<&str> = sites.iter().filter(|site| !site.hands_over).map(|site| &*site.node.name).collect();
    (!kept.is_empty()).then(|| {
        format!(
            "Mode Balance is asked for, and the backend of {} hands no flow to other nodes: Local there.",
            enumerate(&kept)
        )
    })
}

/// Where the client is, if inside.
fn standpoint(sites: &[Site], client: IpAddr) -> Option<String> {
    if let Some(site) = sites.iter().find(|site| site.node.addresses.contains(&client)) {
        return Some(format!("The client {client} is node {} itself, or a Pod on its network.", site.node.name));
    }
    let own = |site: &&Site| site.own_pods.iter().any(|range| range.contains(&client));
    if let Some(site) = sites.iter().find(own) {
        return Some(format!(
            "The client {client} lies in the Pod range of node {0}: what it sends to the Service is decided on {0}, unless \
             it talks to another node's address.",
            site.node.name
        ));
    }
    let no_ranges = sites.iter().all(|site| site.own_pods.is_empty() && !site.node.addresses.is_empty());
    no_ranges.then(|| format!("No Node names a range of Pods: {client} is taken to be outside the cluster."))
}

/// "a, b and c"; many are counted.
pub(super) fn enumerate(names: &[&str]) -> String {
    const SHOWN: usize = 6;
    match names {
        [] => "none".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., last] if names.len() <= SHOWN => format!("{} and {last}", first.join(", ")),
        _ => format!("{} and {} more", names[..SHOWN - 1].join(", "), names.len() - SHOWN + 1),
    }
}

/// Says that a Service is unknown, with names that may be meant: the same one elsewhere first, then near ones.
fn unknown_service<'a>(key: &ServiceKey, known: impl Iterator<Item = &'a ServiceKey>) -> String {
    let rank = |other: &ServiceKey| {
        let same_namespace = other.namespace == key.namespace;
        let apart = distance(&key.name, &other.name);
        let near = apart <= (key.name.len() / 3).clamp(1, 3)
            || transposed(&key.name, &other.name)
            || other.name.contains(&*key.name);
        near.then_some((apart, !same_namespace))
    };
    let mut near: Vec<_> = known.filter_map(|other| rank(other).map(|rank| (rank, other.to_string()))).collect();
    near.sort();
    let near: Vec<&str> = near.iter().take(NEAR).map(|(_, name)| name.as_str()).collect();
    let hint = match near.as_slice() {
        [] => "`kubectl get services -A` lists all".to_owned(),
        near => format!("is it {}?", near.join(" or ")),
    };
    format!("there is no Service {key}; {hint}")
}

/// Whether the names have the same letters in another order.
fn transposed(one: &str, other: &str) -> bool {
    let sorted = |text: &str| {
        let mut letters: Vec<char> = text.chars().collect();
        letters.sort_unstable();
        letters
    };
    sorted(one) == sorted(other)
}

/// Levenshtein's distance.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (number, from) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = number + 1;
        for (column, to) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}
