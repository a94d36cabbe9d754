//! What is answered.

use crate::view::ServiceView;
use crate::{PAGE, VERSION};
use ipnet::IpNet;
use jiff::Timestamp;
use portreeve_table::{Compiled, ServiceKey};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::Bound;

/// One answer, with who gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// [`VERSION`] of the one who answers.
    pub version: u32,
    /// Its node.
    pub node: String,
    /// The agent's own version.
    pub agent: String,
    /// What it says.
    #[serde(flatten)]
    pub body: Body,
}

/// An answer, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// The answer.
    Answer(Answer),
    /// A sentence that says what is wrong and what to do.
    Error(String),
}

/// The answer to each [`Request`](crate::Request).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "kebab-case")]
pub enum Answer {
    /// To `flows`.
    Flows(Flows),
    /// To `table`.
    Table(TablePage),
    /// To `read-back`.
    ReadBack(ReadBack),
    /// To `repair`.
    Repair(Repaired),
}

/// New flows to the Pods of a Service on this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    /// The Service.
    pub service: String,
    /// When this agent last programmed the Service: counts may have begun anew then. The same twice means that what was
    /// counted in between is the difference.
    pub since: Timestamp,
    /// Each Pod and transport, sorted.
    pub pods: Vec<PodCount>,
}

/// New flows to one Pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodCount {
    /// Address and port.
    pub pod: SocketAddr,
    /// tcp, udp or sctp.
    pub protocol: String,
    /// How many.
    pub flows: u64,
}

/// Whether the kernel does what the table says, as far as the agent knows without reading it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Standing {
    /// It does.
    InForce {
        /// By which backend.
        backend: String,
    },
    /// Nothing was programmed yet.
    NotYet,
    /// It may not: the last attempt failed.
    Failed {
        /// Why.
        why: String,
    },
}

/// What the agent has compiled, or a part of it: Services in the order of namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TablePage {
    /// Whether it is in force.
    pub standing: Standing,
    /// What node ports stand for.
    pub node_addresses: Vec<IpAddr>,
    /// Ranges of the cluster's Pods.
    pub pod_ranges: Vec<IpNet>,
    /// Services in the table.
    pub services: BTreeMap<String, ServiceView>,
    /// Services that do not fit into it, with the reason.
    pub refused: BTreeMap<String, String>,
    /// The last Service of this page, if more may follow: ask for those `after` it.
    pub more_after: Option<String>,
}

/// Where the kernel is not what the agent has put in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadBack {
    /// What the agent knows without reading back.
    pub standing: Standing,
    /// The first [`DIFFERENCES`](crate::DIFFERENCES).
    pub differences: Vec<KernelDifference>,
    /// How many there are beyond them.
    pub omitted: usize,
    /// How long reading took.
    pub milliseconds: u64,
}

/// One way in which the kernel is not what the agent has put in force.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct KernelDifference {
    /// The Service that it touches; none if it touches all of them.
    pub service: Option<String>,
    /// What is missing, left over or different.
    pub what: String,
}

/// Everything was made anew and is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repaired {
    /// By which backend.
    pub backend: String,
    /// Services that are in force.
    pub services: usize,
    /// How long it took.
    pub milliseconds: u64,
}

impl Reply {
    /// What the agent of `node` says.
    #[must_use]
    pub fn new(node: &str, agent: &str, body: Body) -> Self {
        Self { version: VERSION, node: node.to_owned(), agent: agent.to_owned(), body }
    }

    /// Its line, without the end.
    #[must_use]
    pub fn line(&self) -> String {
        serde_json::to_string(self).expect("invariant: an answer has texts for keys")
    }
}

/// The next page of what an agent has compiled: of the Services named, or of all when none is.
#[must_use]
pub fn page(
    compiled: &Compiled,
    standing: Standing,
    named: &BTreeSet<ServiceKey>,
    after: Option<&ServiceKey>,
) -> TablePage {
    let table = &compiled.table;
    let mut page = TablePage {
        standing,
        node_addresses: table.node_addresses.clone(),
        pod_ranges: table.pod_ranges.clone(),
        services: BTreeMap::new(),
        refused: BTreeMap::new(),
        more_after: None,
    };
    let asked = |key: &ServiceKey| named.is_empty() || named.contains(key);
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut bytes = 0;
    for (key, entry) in table.services.range((from, Bound::Unbounded)).filter(|(key, _)| asked(key)) {
        let view = ServiceView::from(&**entry);
        bytes += serde_json::to_string(&view).map_or(0, |text| text.len());
        page.services.insert(key.to_string(), view);
        if bytes >= PAGE {
            page.more_after = Some(key.to_string());
            break;
        }
    }
    // They come with the first page; beyond so many each is like the others.
    if after.is_none() {
        let refused = compiled.refused.iter().filter(|(key, _)| asked(key)).take(crate::DIFFERENCES);
        page.refused = refused.map(|(key, why)| (key.to_string(), why.to_string())).collect();
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_one_line_that_is_read_as_it_was_written() {
        let pods = vec![PodCount { pod: "10.0.0.1:80".parse().unwrap(), protocol: "tcp".to_owned(), flows: 7 }];
        let flows = Flows { service: "shop/web".to_owned(), since: Timestamp::UNIX_EPOCH, pods };
        let repaired = Repaired { backend: "nftables".to_owned(), services: 3, milliseconds: 12 };
        let differences = vec![KernelDifference { service: None, what: "the table is gone".to_owned() }];
        let standing = Standing::Failed { why: "no memory".to_owned() };
        let read = ReadBack { standing, differences, omitted: 4, milliseconds: 5 };
        let bodies = [
            Body::Answer(Answer::Flows(flows)),
            Body::Answer(Answer::Repair(repaired)),
            Body::Answer(Answer::ReadBack(read)),
            Body::Answer(Answer::Table(page(&Compiled::default(), Standing::NotYet, &BTreeSet::new(), None))),
            Body::Error("shop/web is not known to this node".to_owned()),
        ];
        let lines: Vec<String> = bodies.map(|body| Reply::new("n1", "0.1.0", body).line()).into();
        for line in &lines {
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<Reply>(line).unwrap().line(), *line);
        }
        insta::assert_snapshot!(lines.join("\n"));
    }
}
