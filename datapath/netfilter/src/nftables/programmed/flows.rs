//! New flows, as the kernel has counted them.

use super::super::encode::asking;
use super::super::ruleset::{Counter, TABLE, Value, counters};
use super::{ApplyError, InForce, Programmed};
use crate::message::{self, Attributes, DUMP, GET_RULE};
use crate::netlink::NetlinkError;
use portreeve_table::{PodFlows, Protocol, ServiceKey};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Elements that are asked for at once: all answers must fit into the socket's buffer.
const AT_ONCE: usize = 32;

impl Programmed {
    /// Asks for the counters of this Service alone, each by its name.
    pub(super) fn counted(&self, service: &ServiceKey) -> Result<Vec<PodFlows>, ApplyError> {
        let InForce { ruleset, .. } = self.in_force.as_ref().ok_or(ApplyError::Nothing)?;
        let mut flows: BTreeMap<(Protocol, SocketAddr), u64> = BTreeMap::new();
        let mut add = |pod, counted: u64| {
            let sum: &mut u64 = flows.entry(pod).or_default();
            *sum = sum.saturating_add(counted);
        };
        let all = ruleset.part(service).map(|part| counters(&part)).unwrap_or_default();
        for of_set in all.chunk_by(|(one, _), (other, _)| one.set().is_some() && one.set() == other.set()) {
            for some in of_set.chunks(AT_ONCE) {
                let counted = match &some[0].0 {
                    Counter::Chain(chain) => vec![self.in_chain(chain.as_str())?],
                    Counter::Element(set, _) => self.of_elements(set.as_str(), some.iter().map(|(at, _)| at.key()))?,
                };
                some.iter().zip(counted).for_each(|((_, pod), counted)| add(*pod, counted));
            }
        }
        let flows = flows.into_iter();
        Ok(flows.map(|((protocol, pod), flows)| PodFlows { protocol, pod, flows }).collect())
    }

    /// `NFTA_SET_ELEM_LIST_ELEMENTS` 3, `NFTA_LIST_ELEM` 1, `NFTA_SET_ELEM_EXPR` 7.
    fn of_elements<'a>(&self, set: &str, keys: impl Iterator<Item = &'a [Value]>) -> Result<Vec<u64>, NetlinkError> {
        let keys: Vec<_> = keys.collect();
        let answers = self.kernel.list(&asking(TABLE, set, &keys), 1)?;
        let counted = answers.iter().map(|answer| {
            let element = message::find(answer, 3).and_then(|list| message::find(list, 1));
            element.and_then(|element| message::find(element, 7)).and_then(message::packets)
        });
        let counted: Option<Vec<u64>> = counted.collect();
        counted.filter(|counted| counted.len() == keys.len()).ok_or(NetlinkError::Malformed)
    }

    /// Of the one rule of a chain that counts. `NFTA_RULE_TABLE` 1, `_CHAIN` 2, `_EXPRESSIONS` 4; `NFTA_LIST_ELEM` 1.
    fn in_chain(&self, chain: &str) -> Result<u64, NetlinkError> {
        let request = message::inet_request(GET_RULE, DUMP, &Attributes::new().text(1, TABLE).text(2, chain));
        let rules = self.kernel.list(&request, 1)?;
        let expressions = rules.iter().filter_map(|rule| message::attributes(message::find(rule, 4)?)).flatten();
        let mut counted = expressions.filter_map(|(_, expression)| message::packets(expression));
        counted.next().ok_or(NetlinkError::Malformed)
    }
}
