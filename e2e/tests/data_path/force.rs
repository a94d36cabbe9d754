//! Who decides about packets: kube-proxy alone, or the agents ahead of it; and whether that is in force yet.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::ListParams;
use portreeve_e2e::node::config::ProxyMode;

use super::objects::OTHER_PROXY;
use super::plan::NODES;
use super::scene::{Numbers, placed};
use super::world::{World, until};

/// The image was loaded, Pods run: what is left is the API, the operator and the agents.
const WITHIN: Duration = Duration::from_secs(60);

/// A line per node: its name and its conditions.
const CONDITIONS: &str = "jsonpath={range .items[*]}{.metadata.name}{range .status.conditions[*]} {.type}={.status} \
                          ({.reason}: {.message}){end}{\"\\n\"}{end}";

/// Who decides about external packets under `Local`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// No policy claims anything.
    Plain,
    /// The agents, by nftables.
    Nftables,
    /// The agents, by iptables.
    Iptables,
}

impl Variant {
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Nftables, Self::Iptables];

    /// Above its column.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Plain => "kube-proxy alone",
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        }
    }

    /// Where its objects are.
    pub(crate) const fn namespace(self) -> &'static str {
        match self {
            Self::Plain => "packets-plain",
            Self::Nftables => "packets-nftables",
            Self::Iptables => "packets-iptables",
        }
    }

    pub(crate) const fn numbers(self) -> Numbers {
        match self {
            Self::Plain => Numbers(0),
            Self::Nftables => Numbers(80),
            Self::Iptables => Numbers(160),
        }
    }

    /// Node ports of its own, in the lowest 86 of the range, which the API server does not give away by itself
    /// (KEP-3668).
    pub(crate) const fn own_node_ports(self) -> [u16; 2] {
        match self {
            Self::Plain => [30000, 30001],
            Self::Nftables => [30002, 30003],
            Self::Iptables => [30004, 30005],
        }
    }

    /// As DatapathConfig names it.
    pub(crate) const fn backend(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Nftables => Some("Nftables"),
            Self::Iptables => Some("Iptables"),
        }
    }

    /// Whether the agents decide before kube-proxy in this mode does. iptables and kube-proxy's nftables mode sit at the same
    /// place of the same hook, where whoever came first is asked first: there the agents refuse iptables.
    pub(crate) const fn is_ahead(self, mode: ProxyMode) -> bool {
        match self {
            Self::Plain => false,
            Self::Nftables => true,
            Self::Iptables => matches!(mode, ProxyMode::Iptables),
        }
    }

    /// Asks for the data path in the variant's namespace.
    pub(crate) async fn ask(self, world: &World) -> Result<()> {
        let Some(backend) = self.backend() else { return Ok(()) };
        let namespace = self.namespace();
        let wish = format!(
            "apiVersion: portreeve.io/v1alpha1\nkind: DatapathConfig\nmetadata: {{name: default}}\nspec: {{backend: {backend}}}\n---\n\
             apiVersion: portreeve.io/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: data-path, namespace: {namespace}}}\nspec:\n  \
             enforcement: {{mode: Warn}}\n  dataPath: {{mode: Local, onNoLocal: Drop}}\n"
        );
        world.cluster.apply(&format!("{namespace}-wish"), &wish).await
    }

    /// Waits until the kernel of every node has every node port of the variant's `Local` Services.
    async fn in_force(self, world: &World) -> Result<()> {
        let services: Api<Service> = Api::namespaced(world.client.clone(), self.namespace());
        let mut wanted = Vec::new();
        for service in &services.list(&ListParams::default()).await?.items {
            let spec = service.spec.as_ref();
            let local = spec.and_then(|spec| spec.external_traffic_policy.as_deref()) == Some("Local");
            let other = service.metadata.labels.iter().any(|labels| labels.contains_key(OTHER_PROXY));
            if local && !other {
                wanted.extend(placed(service)?.ports.into_iter().map(|(name, (_, node_port))| (name, node_port)));
            }
        }
        wanted.retain(|(_, node_port)| *node_port != 0);
        ensure!(!wanted.is_empty(), "there is nothing to claim");
        until("the claims to be in force", WITHIN, async || {
            for index in NODES {
                for rules in self.rules(world, index).await? {
                    let missing: Vec<_> = wanted.iter().filter(|(_, port)| !self.holds(&rules, *port)).collect();
                    let said = || async { world.cluster.kubectl(&["get", "nodedatapaths", "-o", CONDITIONS]).await };
                    if !missing.is_empty() {
                        bail!("n{index} lacks {missing:?}; {}", said().await?);
                    }
                }
            }
            Ok(())
        })
        .await
    }

    /// Waits until the agent of every node says that it cannot do what is asked, why, and what would help.
    async fn refused(self, world: &World) -> Result<()> {
        until("every node to say that its backend is refused", WITHIN, async || {
            let said = world.cluster.kubectl(&["get", "nodedatapaths", "-o", CONDITIONS]).await?;
            for line in said.lines() {
                let words = ["Ready=False", "Programmed=False", "kube-proxy programs nftables", "set spec.backend to"];
                ensure!(words.iter().all(|word| line.contains(word)), "{said}");
            }
            ensure!(said.lines().count() == NODES.len(), "{said}");
            for index in NODES {
                for rules in self.rules(world, index).await? {
                    ensure!(!rules.contains("-j PORTREEVE"), "n{index} has rules of the agent");
                }
            }
            Ok(())
        })
        .await
    }

    /// Waits until every node does what is asked, or says that it cannot.
    pub(crate) async fn settled(self, world: &World) -> Result<()> {
        match self {
            Self::Plain => Ok(()),
            Self::Nftables | Self::Iptables if self.is_ahead(world.mode) => self.in_force(world).await,
            Self::Nftables | Self::Iptables => self.refused(world).await,
        }
    }

    /// The rules of a node, those of IPv4 first.
    async fn rules(self, world: &World, index: u8) -> Result<[String; 2]> {
        Ok(match self {
            Self::Plain | Self::Nftables => {
                let map = |family: &str| ["nft", "list", "map", "inet", "portreeve", family].map(str::to_owned);
                let mut both = Vec::new();
                for name in ["node-ports4", "node-ports6"] {
                    let command = map(name);
                    let command: Vec<&str> = command.iter().map(String::as_str).collect();
                    both.push(world.on_node(index, &command).await?);
                }
                [both.swap_remove(0), both.swap_remove(0)]
            }
            Self::Iptables => {
                [world.on_node(index, &["iptables-save"]).await?, world.on_node(index, &["ip6tables-save"]).await?]
            }
        })
    }

    fn holds(self, rules: &str, node_port: u16) -> bool {
        match self {
            Self::Plain => false,
            Self::Nftables => {
                rules.contains(&format!("tcp . {node_port} ")) || rules.contains(&format!("udp . {node_port} "))
            }
            Self::Iptables => {
                let port = format!("--dport {node_port} ");
                let ours = |line: &str| line.starts_with("-A PORTREEVE-") && line.contains(&port);
                rules.contains("-j PORTREEVE-ENTRY") && rules.lines().any(ours)
            }
        }
    }
}
