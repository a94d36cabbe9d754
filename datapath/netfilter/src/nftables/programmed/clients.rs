//! Clients that Pods remember, brought along when a table takes the place of another.
//!
//! A client that comes between the reading and the transaction is forgotten.

use super::super::encode::type_of;
use super::super::ruleset::{Client, Command, Field, Ruleset};
use super::dump;
use crate::message;
use crate::netlink::{Connection, NetlinkError};
use portreeve_table::Family;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// The steps that put the clients of the table that is there into the sets of `ruleset` that are the same: the name of a set
/// says Service, port, Pod and time.
pub(super) fn remembered(kernel: &Connection, ruleset: &Ruleset) -> Result<Vec<Command>, NetlinkError> {
    let mut wanted = ruleset.remembering().peekable();
    if wanted.peek().is_none() {
        return Ok(Vec::new());
    }
    // NFTA_SET_NAME 2, NFTA_SET_KEY_TYPE 4
    let found = dump::sets(kernel)?.unwrap_or_default();
    let found: BTreeMap<&str, u32> =
        found.iter().filter_map(|set| dump::text(set, 2).zip(dump::number(set, 4))).collect();
    let mut commands = Vec::new();
    for (set, family, longest) in wanted {
        if found.get(set.as_str()) == Some(&type_of(Field::Source(family))) {
            let elements = dump::elements(kernel, set.as_str())?;
            let clients: Vec<Client> = elements.iter().filter_map(|element| client(element, family, longest)).collect();
            commands.extend((!clients.is_empty()).then_some(Command::Remind(set, clients)));
        }
    }
    Ok(commands)
}

/// `NFTA_SET_ELEM_EXPIRATION` 5, in milliseconds. What is over by now may still be told.
fn client(element: &[u8], family: Family, longest: Duration) -> Option<Client> {
    let key = dump::key(element)?;
    let address = match family {
        Family::V4 => IpAddr::from(<[u8; 4]>::try_from(key).ok()?),
        Family::V6 => IpAddr::from(<[u8; 16]>::try_from(key).ok()?),
    };
    let left = message::find(element, 5)?.try_into().ok().map(u64::from_be_bytes)?;
    let left = Duration::from_millis(left).min(longest);
    (!left.is_zero()).then_some(Client { address, left })
}
