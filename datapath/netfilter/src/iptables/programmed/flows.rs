//! New flows, as the rules that deliver them have counted.

use super::super::programs::Programs;
use super::super::rules::{Name, Table};
use super::{ApplyError, Programmed};
use crate::message::{self, Attributes, DUMP, GET_RULE};
use crate::netlink::NetlinkError;
use portreeve_table::{Family, PodFlows, Protocol, ServiceKey};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long one reading of all counters answers for Services that were not asked for since.
const FRESH: Duration = Duration::from_secs(1);

/// One reading of all counters in nat. Who goes through all Services is answered from one; who asks for a Service again
/// wants to know what is so now.
#[derive(Debug)]
pub(super) struct Counted {
    at: Instant,
    chains: BTreeMap<(Family, Name), Vec<u64>>,
    asked: BTreeSet<ServiceKey>,
}

impl Programmed {
    /// In the `nf_tables` variant the chains of the Service are asked for by name. In the legacy variant the kernel tells of no
    /// less than the whole table.
    pub(super) fn counted(&mut self, service: &ServiceKey) -> Result<Vec<PodFlows>, ApplyError> {
        let counters = self.in_force.as_ref().ok_or(ApplyError::Nothing)?.counters(service);
        let mut flows: BTreeMap<(Protocol, SocketAddr), u64> = BTreeMap::new();
        for ((family, chain), rules) in counters {
            let counted = if self.is_nf_tables() {
                self.of_chain(family, &chain)?
            } else {
                self.of_all(service)?.get(&(family, chain.clone())).cloned().unwrap_or_default()
            };
            for (number, protocol, pod) in rules {
                let counted = counted.get(number).ok_or_else(|| ApplyError::Uncounted(chain.to_string()))?;
                let sum = flows.entry((protocol, pod)).or_default();
                *sum = sum.saturating_add(*counted);
            }
        }
        if let Some(counted) = &mut self.counted {
            counted.asked.insert(service.clone());
        }
        let flows = flows.into_iter();
        Ok(flows.map(|((protocol, pod), flows)| PodFlows { protocol, pod, flows }).collect())
    }

    /// `NFTA_RULE_TABLE` 1, `_CHAIN` 2; `NFPROTO_IPV4`, `NFPROTO_IPV6`.
    fn of_chain(&self, family: Family, chain: &Name) -> Result<Vec<u64>, NetlinkError> {
        let number = match family {
            Family::V4 => 2,
            Family::V6 => 10,
        };
        let of = Attributes::new().text(1, Table::Nat.as_str()).text(2, chain.as_str());
        let rules = self.kernel.list(&message::nftables_request(number, GET_RULE, DUMP, &of), 1)?;
        message::counted(&rules).ok_or(NetlinkError::Malformed)
    }

    fn of_all(&mut self, service: &ServiceKey) -> Result<&BTreeMap<(Family, Name), Vec<u64>>, ApplyError> {
        let fresh = |it: &Counted| it.at.elapsed() < FRESH && !it.asked.contains(service);
        let counted = match self.counted.take().filter(fresh) {
            Some(counted) => counted,
            None => Counted { at: Instant::now(), chains: read(&self.programs)?, asked: BTreeSet::new() },
        };
        Ok(&self.counted.insert(counted).chains)
    }
}

fn read(programs: &[(Family, Programs)]) -> Result<BTreeMap<(Family, Name), Vec<u64>>, ApplyError> {
    let mut chains = BTreeMap::new();
    for (family, programs) in programs {
        let counted = programs.counted(Table::Nat)?;
        chains.extend(counted.into_iter().map(|(chain, counted)| ((*family, chain), counted)));
    }
    Ok(chains)
}
