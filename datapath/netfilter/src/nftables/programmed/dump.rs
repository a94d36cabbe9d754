//! What the kernel has of our table, as it tells it.

use super::TABLE;
use crate::message::{self, Attributes, DUMP, GET_CHAIN, GET_ELEMENTS, GET_RULE, GET_SET};
use crate::netlink::{Connection, NetlinkError};
use std::io;

/// The attributes of something.
pub(super) type Found = Vec<u8>;

/// Everything of a kind in our table; `None` if there is no such table.
fn list(kernel: &Connection, command: u16, of: &Attributes) -> Result<Option<Vec<Found>>, NetlinkError> {
    match kernel.list(&message::inet_request(command, DUMP, of), 1) {
        Err(NetlinkError::Refused(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

fn ours() -> Attributes {
    Attributes::new().text(1, TABLE)
}

/// All sets and maps.
pub(super) fn sets(kernel: &Connection) -> Result<Option<Vec<Found>>, NetlinkError> {
    list(kernel, GET_SET, &ours())
}

/// All chains. The kernel tells of those of other tables as well: `NFTA_CHAIN_TABLE` 1.
pub(super) fn chains(kernel: &Connection) -> Result<Vec<Found>, NetlinkError> {
    let mut chains = list(kernel, GET_CHAIN, &ours())?.unwrap_or_default();
    chains.retain(|chain| text(chain, 1) == Some(TABLE));
    Ok(chains)
}

/// All rules, those of a chain in order.
pub(super) fn rules(kernel: &Connection) -> Result<Vec<Found>, NetlinkError> {
    Ok(list(kernel, GET_RULE, &ours())?.unwrap_or_default())
}

/// All elements of a set: `NFTA_SET_ELEM_LIST_ELEMENTS` 3. None if it has gone meanwhile.
pub(super) fn elements(kernel: &Connection, set: &str) -> Result<Vec<Found>, NetlinkError> {
    let mut elements = Vec::new();
    for some in list(kernel, GET_ELEMENTS, &ours().text(2, set))?.unwrap_or_default() {
        // A set without elements has a list of none, or no list.
        let some = message::attributes(message::find(&some, 3).unwrap_or_default()).ok_or(NetlinkError::Malformed)?;
        elements.extend(some.into_iter().map(|(_, element)| element.to_vec()));
    }
    Ok(elements)
}

/// A text without the zero that ends it.
pub(super) fn text(attributes: &[u8], kind: u16) -> Option<&str> {
    std::str::from_utf8(message::find(attributes, kind)?.strip_suffix(&[0])?).ok()
}

pub(super) fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    message::find(attributes, kind)?.try_into().ok().map(u32::from_be_bytes)
}

/// The key of an element: `NFTA_SET_ELEM_KEY` 1, `NFTA_DATA_VALUE` 1.
pub(super) fn key(element: &[u8]) -> Option<&[u8]> {
    message::find(message::find(element, 1)?, 1)
}
