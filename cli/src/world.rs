//! What is known of a cluster: its objects, from files or live, and what the table's model takes from them.

use crate::args::ClusterArgs;
use crate::cluster::{connect, list, list_if_known};
use crate::exit::Failure;
use crate::source::Document;
use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, ResourceExt as _};
use portreeve_crds::condition::{PROGRAMMED, programmed};
use portreeve_crds::node_datapath::Backend;
use portreeve_crds::{ClusterTrafficPolicy, DatapathConfig, NodeDatapath, ServiceTraffic, TrafficPolicy, names};
use portreeve_ingest as ingest;
use portreeve_policy::{NamespaceFacts, PolicySet};
use portreeve_table::{Directive, InForce, Input, Names, ServiceKey, ThisNode};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Objects as they were found.
#[derive(Default)]
pub(crate) struct Objects {
    /// From files: what they do not hold is unknown rather than absent.
    pub(crate) from_files: bool,
    services: Vec<Service>,
    slices: Vec<EndpointSlice>,
    nodes: Vec<Node>,
    traffics: Vec<ServiceTraffic>,
    configs: Vec<DatapathConfig>,
    datapaths: Vec<NodeDatapath>,
    namespaces: Vec<Namespace>,
    cluster_policies: Vec<ClusterTrafficPolicy>,
    policies: Vec<TrafficPolicy>,
}

impl Objects {
    /// Everything that decides, and the namespace to look in: the context's own where none is given.
    pub(crate) async fn of_cluster(args: &ClusterArgs, namespace: Option<String>) -> Result<(Self, String), Failure> {
        let client = connect(args).await?;
        let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
        let objects = Self {
            services: list(&Api::all(client.clone()), "Services").await?,
            slices: list(&Api::all(client.clone()), "EndpointSlices").await?,
            nodes: list(&Api::all(client.clone()), "Nodes").await?,
            traffics: list_if_known(&Api::all(client.clone()), "ServiceTraffics").await?,
            configs: list_if_known(&Api::all(client.clone()), "DatapathConfigs").await?,
            datapaths: list_if_known(&Api::all(client), "NodeDatapaths").await?,
            ..Self::default()
        };
        Ok((objects, namespace))
    }

    /// Objects of the kinds that decide; others are passed over. `namespace` is that of objects that name none.
    pub(crate) fn of_documents(documents: &[Document], namespace: Option<&str>) -> Result<Self, String> {
        let mut objects = Self { from_files: true, ..Self::default() };
        for document in documents {
            let namespace = || Some(document.namespace(namespace).to_owned());
            match (document.api_version(), document.kind()) {
                ("v1", "Service") => {
                    let mut service: Service = document.typed()?;
                    service.metadata.namespace = namespace();
                    objects.services.push(service);
                }
                ("discovery.k8s.io/v1", "EndpointSlice") => {
                    let mut slice: EndpointSlice = document.typed()?;
                    slice.metadata.namespace = namespace();
                    objects.slices.push(slice);
                }
                ("v1", "Node") => objects.nodes.push(document.typed()?),
                ("v1", "Namespace") => objects.namespaces.push(document.typed()?),
                (_, kind) if document.is_ours() => match kind {
                    "ServiceTraffic" => {
                        let mut traffic: ServiceTraffic = document.typed()?;
                        traffic.metadata.namespace = namespace();
                        objects.traffics.push(traffic);
                    }
                    "TrafficPolicy" => {
                        let mut policy: TrafficPolicy = document.typed()?;
                        policy.metadata.namespace = namespace();
                        objects.policies.push(policy);
                    }
                    "ClusterTrafficPolicy" => objects.cluster_policies.push(document.typed()?),
                    "DatapathConfig" => objects.configs.push(document.typed()?),
                    "NodeDatapath" => objects.datapaths.push(document.typed()?),
                    _ => {}
                },
                _ => {}
            }
        }
        Ok(objects)
    }
}

/// A node.
pub(crate) struct Site {
    pub(crate) node: ThisNode,
    pub(crate) own_pods: Vec<ipnet::IpNet>,
    pub(crate) programmed: Programmed,
    /// Whether its agent has ever reported.
    pub(crate) reported: bool,
    /// Whether its backend can hand a flow to another node.
    pub(crate) hands_over: bool,
}

/// What a node's agent says of its kernel.
#[derive(Clone, Debug)]
pub(crate) enum Programmed {
    /// It holds what the node claims.
    Yes,
    /// It holds nothing of it.
    No(String),
    /// That is not known.
    Unknown(String),
}

impl Programmed {
    pub(crate) fn in_force(&self) -> InForce<'_> {
        match self {
            Self::Yes => InForce::Yes,
            Self::No(why) => InForce::No(why),
            Self::Unknown(why) => InForce::Perhaps(why),
        }
    }
}

/// Who is at an address.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodName {
    pub(crate) name: Option<String>,
    pub(crate) node: Option<String>,
}

/// What the model is asked about.
pub(crate) struct World {
    /// Everything but the node.
    pub(crate) input: Input,
    /// By name.
    pub(crate) sites: Vec<Site>,
    /// Services as they were written.
    pub(crate) services: BTreeMap<ServiceKey, Service>,
    /// Why a Service or one of its slices cannot be read.
    pub(crate) unreadable: BTreeMap<ServiceKey, String>,
    /// Services whose endpoints carry hints for a zone or a node.
    pub(crate) hinted: BTreeSet<ServiceKey>,
    /// By namespace and address.
    pub(crate) pods: BTreeMap<(String, IpAddr), PodName>,
    /// What was taken for granted, as sentences.
    pub(crate) notes: Vec<String>,
}

impl World {
    pub(crate) fn new(objects: Objects) -> Self {
        let mut world = Self {
            input: Input::default(),
            sites: Vec::new(),
            services: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            hinted: BTreeSet::new(),
            pods: BTreeMap::new(),
            notes: Vec::new(),
        };
        let mut names = Names::default();
        world.take_directives(&objects);
        world.take_slices(&objects.slices, &mut names);
        world.take_nodes(&objects);
        let config = objects.configs.iter().find(|config| config.name_any() == names::DATAPATH_CONFIG);
        world.input.capacity = ingest::capacity(config.map(|config| &config.spec));
        for service in objects.services {
            let key = key_of(&service);
            match ingest::service(&service, &mut names) {
                Ok(input) => {
                    world.input.services.insert(key.clone(), input);
                }
                Err(error) => {
                    world.unreadable.insert(key.clone(), format!("Service {key}: {error}"));
                }
            }
            world.services.insert(key, service);
        }
        world
    }

    /// Directives are ServiceTraffics. Files from before an installation hold none: there policies say what the operator
    /// would write.
    fn take_directives(&mut self, objects: &Objects) {
        for traffic in &objects.traffics {
            self.input.directives.insert(key_of(traffic), ingest::directive(&traffic.spec));
        }
        if objects.cluster_policies.is_empty() && objects.policies.is_empty() {
            return;
        }
        let set = PolicySet::compile(&objects.cluster_policies, &objects.policies).set;
        for service in &objects.services {
            let key = key_of(service);
            let written = objects.namespaces.iter().find(|namespace| namespace.name_any() == *key.namespace);
            let facts = written
                .map_or_else(|| NamespaceFacts::new(key.namespace.to_string(), BTreeMap::new()), NamespaceFacts::from);
            if facts.ignored() || self.input.directives.contains_key(&key) {
                continue;
            }
            let directive = ingest::directive(&set.effective(&facts, service).data_path.directive());
            if directive != Directive::default() {
                self.input.directives.insert(key, directive);
            }
        }
    }

    fn take_slices(&mut self, slices: &[EndpointSlice], names: &mut Names) {
        for slice in slices {
            let namespace = slice.namespace().unwrap_or_default();
            match ingest::slice(slice, names) {
                Ok(Some((key, input))) => {
                    self.name_pods(&namespace, slice);
                    if slice.endpoints.iter().flatten().any(|endpoint| endpoint.hints.is_some()) {
                        self.hinted.insert(key.clone());
                    }
                    self.input.slices.entry(key).or_default().insert(names.share(&slice.name_any()), input);
                }
                Ok(None) => {}
                Err(error) => {
                    let service = slice.labels().get("kubernetes.io/service-name").cloned().unwrap_or_default();
                    let text = format!("EndpointSlice {namespace}/{}: {error}", slice.name_any());
                    self.unreadable.insert(ServiceKey::new(&namespace, &service), text);
                }
            }
        }
    }

    fn name_pods(&mut self, namespace: &str, slice: &EndpointSlice) {
        for endpoint in slice.endpoints.iter().flatten() {
            let Some(address) = endpoint.addresses.first().and_then(|text| text.parse().ok()) else { continue };
            let pod = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
            let name = PodName { name: pod.and_then(|pod| pod.name.clone()), node: endpoint.node_name.clone() };
            self.pods.insert((namespace.to_owned(), address), name);
        }
    }

    fn take_nodes(&mut self, objects: &Objects) {
        let unknown = objects.from_files && objects.datapaths.is_empty();
        let reports: BTreeMap<String, &NodeDatapath> =
            objects.datapaths.iter().map(|report| (report.name_any(), report)).collect();
        let site = |node: ThisNode, own_pods| {
            let report = reports.get(&*node.name).copied();
            let programmed = if unknown { Programmed::Yes } else { programmed(report) };
            let backend = report.and_then(|report| report.status.as_ref()?.backend.as_ref()?.chosen);
            Site {
                node,
                own_pods,
                programmed,
                reported: report.is_some(),
                hands_over: backend.is_none_or(|backend| backend == Backend::Ebpf),
            }
        };
        for node in &objects.nodes {
            let name = node.name_any();
            let read = ingest::node(node).and_then(|(this, _)| Ok((this, ingest::pod_ranges(node)?)));
            match read {
                Ok((this, own_pods)) => {
                    self.input.pod_ranges.extend(own_pods.iter().copied());
                    self.sites.push(site(this, own_pods));
                }
                Err(error) => self.notes.push(format!("Node {name} is left out: {error}.")),
            }
        }
        if objects.nodes.is_empty() {
            let listed = objects.slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
            let named: BTreeSet<&String> = listed.filter_map(|endpoint| endpoint.node_name.as_ref()).collect();
            for name in named {
                let node = ThisNode { name: name.as_str().into(), addresses: Vec::new() };
                self.sites.push(site(node, Vec::new()));
            }
            self.notes.push(
                "There is no Node: those that endpoints name are taken, and node ports are left out, since no address of \
                 a node is known."
                    .to_owned(),
            );
        }
        if unknown {
            self.notes
                .push("There is no NodeDatapath: every node is taken to have programmed what it claims.".to_owned());
        }
        self.sites.sort_by(|a, b| a.node.name.cmp(&b.node.name));
    }
}

/// What a node's report says. An agent that failed may have left an earlier table in the kernel.
fn programmed(report: Option<&NodeDatapath>) -> Programmed {
    let Some(report) = report else { return Programmed::No("no agent reports from it".to_owned()) };
    let conditions = report.status.iter().flat_map(|status| &status.conditions);
    let Some(condition) = conditions.into_iter().find(|condition| condition.type_ == PROGRAMMED) else {
        return Programmed::Unknown("its agent has not said yet".to_owned());
    };
    let says = format!("its agent says {}: {}", condition.reason, condition.message);
    match (condition.status.as_str(), condition.reason.as_str()) {
        ("True", _) => Programmed::Yes,
        ("False", programmed::NOT_YET | programmed::LEFT) => Programmed::No(says),
        _ => Programmed::Unknown(says),
    }
}

fn key_of(object: &impl kube::ResourceExt) -> ServiceKey {
    ServiceKey::new(&object.namespace().unwrap_or_default(), &object.name_any())
}
