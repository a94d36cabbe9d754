//! The nftables engine: what it finds on this node, the ruleset it makes of the table, and that ruleset in the kernel.

mod encode;
mod programmed;
pub mod ruleset;

pub(crate) use programmed::Resets;
pub use programmed::{ApplyError, Programmed};

use crate::message;
use crate::netlink::{Connection, NetlinkError};
use portreeve_table::{Backend, BackendKind, Capabilities, Feature, Probe};
use ruleset::BEFORE_DSTNAT;

/// Name of the table that the dry run would make; it never comes to be.
const PROBE_TABLE: &str = "portreeve-probe";
/// Sequence number of the last message of the dry run.
const DRY_RUN_LAST: u32 = 3;

/// The engine that programs packets with an nftables table of our own.
#[derive(Clone, Copy, Debug)]
pub struct Nftables;

impl Backend for Nftables {
    fn kind(&self) -> BackendKind {
        BackendKind::Nftables
    }

    fn probe(&self, held: Capabilities) -> Probe {
        let ask = |request: Vec<u8>, last| Connection::open()?.ask(&request, last);
        let generation = ask(message::get_generation(), 1);
        let nat = ask(message::nat_chain_dry_run(PROBE_TABLE, BEFORE_DSTNAT), DRY_RUN_LAST);
        let features = vec![
            Feature::required("nf-tables", tried(generation, held, "the kernel answers for nftables")),
            Feature::required("nft-inet-nat", tried(nat, held, "a nat chain for both families passes a dry run")),
        ];
        Probe { kind: BackendKind::Nftables, features }
    }
}

fn tried<T>(outcome: Result<T, NetlinkError>, held: Capabilities, seen: &str) -> Result<String, String> {
    match outcome {
        Ok(_) => Ok(seen.to_owned()),
        Err(error) if error.is_permission() && !held.may_net_admin() => {
            Err("this process lacks CAP_NET_ADMIN".to_owned())
        }
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
